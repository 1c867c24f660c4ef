# balms-seg train --num-gpus 8 --num-machines 8 configs/lazy/mask_rcnn_vitdet_b_lvis_v1.py
# Balanced Softmax, the paper's sigmoid form for LVIS: ViTDet with ViT-B. Needs detectron2's main.
# Hardware: 64 GPUs, batch 64. Mask AP on lvis_v1_val: not run.
# Schedule, augmentation and optimiser are those of detectron2's projects/ViTDet, which trains with
# its federated loss instead.
from functools import partial

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from balms_seg.modeling.lazy_config import set_method

from .mask_rcnn_R_50_FPN_lvis_v1 import dataloader, statistics, train  # noqa: F401

try:
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "ViTDet needs detectron2's main branch: this version (0.6 or older) has no ViT."
    ) from error

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
model.roi_heads.num_classes = 1203
model.roi_heads.box_predictor.test_score_thresh = 0.0001
model.roi_heads.box_predictor.test_topk_per_image = 300
set_method(model.roi_heads.box_predictor, "balanced_sigmoid")

IMAGE_SIZE_PX = 1024
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.recompute_boxes = True  # crops cut objects
dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.ResizeScale)(
        min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE_PX, target_width=IMAGE_SIZE_PX
    ),
    L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE_PX, IMAGE_SIZE_PX), pad=False),
]
dataloader.train.total_batch_size = 64
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=IMAGE_SIZE_PX, max_size=IMAGE_SIZE_PX),
]

train.amp.enabled = True
train.ddp.fp16_compression = True
train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
)
train.output_dir = "output/lazy/mask_rcnn_vitdet_b_lvis_v1"
train.max_iter = 156_250  # 100 epochs
train.eval_period = 30_000
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[138_889, 150_463], num_updates=train.max_iter
    ),
    warmup_length=250 / train.max_iter,
    warmup_factor=0.001,
)
optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = 2e-4
optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, num_layers=12, lr_decay_rate=0.7)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
