"""The examples of docs/examples run, on made-up data and models that are small."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from made_up_data import TRAIN_CLASSES, VAL_CLASSES, words, write_annotated_images

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
# ResNet-50 of four channels, on images of 64 px.
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "''",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "OUTPUT_DIR": "output",
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Words that name annotations and images, in a folder to run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))  # where a script finds those beside it
    write_annotated_images(tmp_path / "train", TRAIN_CLASSES)
    yield ["train.json", "train"]
    if "my_train" in DatasetCatalog:
        DatasetCatalog.remove("my_train")
        MetadataCatalog.remove("my_train")
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)


def example(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


def trained(
    name: str, data: list[str], overrides: dict[str, object] | None = None
) -> DefaultTrainer:
    """The trainer of a configured example after two iterations."""
    script = example(name)
    change = {"change_model": script.change_model} if hasattr(script, "change_model") else {}
    settings = {**TINY, **(overrides or {})}
    return script.train(script.configure, [*data, *words(settings)], **change)


@pytest.mark.parametrize("name", ["c4_heads", "cascade_rcnn", "class_agnostic", "point_rend"])
def test_a_configured_project_trains_a_classifier_of_ours(name: str, data: list[str]) -> None:
    trainer = trained(name, data)
    predictor = trainer.model.roi_heads.box_predictor
    for stage in predictor if name == "cascade_rcnn" else [predictor]:
        assert type(stage.method).__name__ == "BalancedSoftmax"
        counts = stage.method.counts / stage.method.counts[-1]
        assert counts.tolist() == pytest.approx([6, 2, 1])
    assert trainer.iter == 2
    losses = [key for key in trainer.storage.latest() if key.startswith("loss_cls")]
    assert len(losses) == (3 if name == "cascade_rcnn" else 1)
    if name == "class_agnostic":
        assert predictor.bbox_pred.out_features == 4
        assert trainer.model.roi_heads.mask_head.predictor.out_channels == 1


def test_a_checkpoint_of_detectron2s_goes_on_with_another_loss(data: list[str]) -> None:
    script = example("fine_tune_zoo_model")
    still = {**TINY, "SOLVER.BASE_LR": 0.0, "SOLVER.STEPS": "()", "SOLVER.MAX_ITER": 1}
    theirs = script.train(
        script.configure, [*data, *words(still)], change_model=lambda model, _: model
    )
    torch.save({"model": theirs.model.state_dict()}, "zoo.pth")
    DatasetCatalog.remove("my_train")
    MetadataCatalog.remove("my_train")
    ours = trained("fine_tune_zoo_model", data, {**still, "MODEL.WEIGHTS": "zoo.pth"})
    assert type(ours.model.roi_heads.box_predictor.method).__name__ == "BalancedSoftmax"
    for (name, one), other in zip(
        theirs.model.state_dict().items(), ours.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


THEIRS = """
from detectron2 import model_zoo
model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
dataloader = model_zoo.get_config("common/data/coco.py").dataloader
"""
SMALL_THEIRS = [
    *("model.roi_heads.num_classes=3", "model.roi_heads.box_predictor.test_score_thresh=0.0"),
    *("model.roi_heads.box_head.fc_dims=[8]", "model.roi_heads.box_predictor.input_shape=8"),
    *("model.proposal_generator.post_nms_topk=[20,10]", "dataloader.test.num_workers=0"),
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
]


@pytest.mark.parametrize("has_sigmoids", [False, True])
def test_a_checkpoint_of_anothers_python_configuration_is_calibrated(
    has_sigmoids: bool, data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose scores stay as they are, since nothing is proven of an untrained model."""
    options = list(SMALL_THEIRS)
    if has_sigmoids:
        if "use_sigmoid_ce" not in inspect.signature(FastRCNNOutputLayers).parameters:
            pytest.skip("0.6 has no use_sigmoid_ce; detectron2 main has, and its ViTDet for LVIS")
        options.append("model.roi_heads.box_predictor.use_sigmoid_ce=True")
    write_annotated_images(Path("held_out"), VAL_CLASSES)
    Path("theirs.py").write_text(THEIRS)
    cfg = LazyConfig.apply_overrides(LazyConfig.load("theirs.py"), options)
    torch.manual_seed(0)
    theirs = instantiate(cfg.model).eval()
    torch.nn.init.normal_(theirs.roi_heads.box_predictor.cls_score.bias)
    torch.save({"model": theirs.state_dict()}, "theirs.pth")
    named = ["theirs.py", "theirs.pth", "train.json", "held_out.json", "held_out"]
    ours = example("calibrate_lazy").calibrate([*named, *options]).eval()
    printed = capsys.readouterr().out
    assert all(f"{name} 0.6 " in printed for name in ("norcal", "logit_adjustment"))
    assert "Chosen: none" in printed
    image = [{"image": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255}]
    with torch.no_grad():
        expected, found = (model(image)[0]["instances"] for model in (theirs, ours))
    assert len(expected) > 0
    assert torch.equal(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores)


def test_torchvisions_mask_rcnn_trains_balanced(data: list[str]) -> None:
    from torchvision_models import COUNTS, tiny_mask_rcnn

    script = example("torchvision_mask_rcnn")
    photographs = script.Photographs(*data)
    assert len(photographs) == len(TRAIN_CLASSES)
    model = tiny_mask_rcnn()
    before = model.roi_heads.box_predictor.cls_score.weight.detach().clone()
    losses = script.train(model, photographs, COUNTS, num_iters=2)
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()
    assert not torch.equal(model.roi_heads.box_predictor.cls_score.weight, before)


def test_mask2former_trains_balanced(data: list[str]) -> None:
    pytest.importorskip("transformers", reason="an integration for who has transformers")
    pytest.importorskip("scipy", reason="Mask2Former matches with scipy")
    from mask2former_models import tiny_mask2former

    script = example("mask2former")
    counts = torch.tensor([6, 2, 1])
    losses = script.train(tiny_mask2former(), script.Photographs(*data), counts, num_iters=2)
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()


def test_the_losses_alone_find_the_rare_class_more_often() -> None:
    train = example("plain_pytorch").train
    plain, balanced = (train([1000, 100, 10], balanced=each) for each in (False, True))
    assert balanced[2] > plain[2] + 0.2
    assert sum(balanced) > sum(plain) + 0.2
