# balms-seg train --num-gpus 8 configs/lazy/mask_rcnn_R_50_FPN_lvis_v1.py
# Balanced Softmax, the paper's sigmoid form for LVIS: Mask R-CNN R-50-FPN, configured in Python.
# Hardware: 8 GPUs, batch 16. Mask AP on lvis_v1_val: not run.
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

from balms_seg import ClassStatistics
from balms_seg.evaluation import LongTailedLVISEvaluator
from balms_seg.modeling.lazy_config import set_method

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
dataloader = model_zoo.get_config("common/data/coco.py").dataloader
optimizer = model_zoo.get_config("common/optim.py").SGD
lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_1x
train = model_zoo.get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.output_dir = "output/lazy/mask_rcnn_R_50_FPN_lvis_v1"

model.roi_heads.num_classes = 1203
model.roi_heads.box_predictor.test_score_thresh = 0.0001
model.roi_heads.box_predictor.test_topk_per_image = 300
set_method(model.roi_heads.box_predictor, "balanced_sigmoid")

statistics = L(ClassStatistics.from_json)(source=MetadataCatalog.get("lvis_v1_train").json_file)
dataloader.train.dataset.names = "lvis_v1_train"
dataloader.train.sampler = L(RepeatFactorTrainingSampler)(
    repeat_factors=L(RepeatFactorTrainingSampler.repeat_factors_from_category_frequency)(
        dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.001
    )
)
dataloader.test.dataset.names = "lvis_v1_val"
dataloader.evaluator = L(LongTailedLVISEvaluator)(
    dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}"
)
