"""Python configurations: those that come along, one with a backbone of its own, and misuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from made_up_data import TRAIN_CLASSES, write_annotated_images

from balms_seg.commands import command_line
from balms_seg.engine.lazy_run import load_lazy_config

ROOT = Path(__file__).resolve().parents[2]
CASCADE = ROOT / "docs" / "examples" / "lazy_cascade.py"
LAZY = ROOT / "configs" / "lazy"
SHORT = [
    "train.max_iter=2",
    "train.output_dir=output",
    "train.log_period=1",
    "model.backbone.bottom_up.channels=4",
    "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "model.roi_heads.batch_size_per_image=8",
    "model.proposal_generator.post_nms_topk=[20,10]",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with train.json and its images, to run in."""
    monkeypatch.chdir(tmp_path)
    write_annotated_images(tmp_path / "train", TRAIN_CLASSES)
    yield tmp_path
    if "my_train" in DatasetCatalog:
        DatasetCatalog.remove("my_train")
        MetadataCatalog.remove("my_train")


def balms_seg_train(*words: str) -> None:
    command_line.main(["train", "--num-gpus", "0", *words])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["model"]


@pytest.mark.slow
def test_a_cascade_on_a_backbone_of_ones_own_trains_and_goes_on(project: Path) -> None:
    balms_seg_train(str(CASCADE), *SHORT)
    first = weights(project / "output" / "model_final.pth")
    classifiers = [name for name in first if name.endswith("cls_score.weight")]
    assert len(classifiers) == 3
    balms_seg_train("--resume", str(CASCADE), *SHORT, "train.max_iter=3", "optimizer.lr=0.003")
    second = weights(project / "output" / "model_final.pth")
    assert all(not torch.equal(first[name], second[name]) for name in classifiers)
    saved = torch.load(project / "output" / "model_final.pth", weights_only=False)["trainer"]
    assert {group["initial_lr"] for group in saved["optimizer"]["param_groups"]} == {0.003}
    log = (project / "output" / "log.txt").read_text()
    assert "Starting training from iteration 2" in log
    assert "loss_cls_stage2" in log


@pytest.mark.parametrize("name", ["mask_rcnn_R_50_FPN_lvis_v1", "mask_rcnn_vitdet_b_lvis_v1"])
def test_configurations_for_lvis_have_the_papers_classifier(name: str) -> None:
    path = str(LAZY / f"{name}.py")
    if "vitdet" in name:
        pytest.importorskip("detectron2.modeling.backbone.vit", reason="0.6 has no ViT")
    cfg = load_lazy_config(path, [])
    predictor = instantiate(cfg.model.roi_heads.box_predictor)
    assert type(predictor.method).__name__ == "BalancedSigmoid"
    assert predictor.cls_score.out_features == 1203
    assert predictor.test_topk_per_image == 300
    assert cfg.dataloader.train.dataset.names == "lvis_v1_train"
    assert cfg.dataloader.train.total_batch_size == (64 if "vitdet" in name else 16)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask_rcnn_R_50_FPN_lvis_v1", "mask_rcnn_vitdet_b_lvis_v1"])
def test_configurations_for_lvis_can_be_built(name: str) -> None:
    if "vitdet" in name:
        pytest.importorskip("detectron2.modeling.backbone.vit", reason="0.6 has no ViT")
        pytest.importorskip("timm", reason="detectron2's ViT needs timm")
    cfg = load_lazy_config(str(LAZY / f"{name}.py"), [])
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    assert len(instantiate(cfg.optimizer).param_groups) > 0
    instantiate(cfg.lr_multiplier)


def test_detectron2_without_vit_says_so_in_one_line() -> None:
    try:
        import detectron2.modeling.backbone.vit  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("this version has ViT")
    with pytest.raises(SystemExit, match="ViTDet needs detectron2's main branch: .* has no ViT"):
        balms_seg_train(str(LAZY / "mask_rcnn_vitdet_b_lvis_v1.py"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.py", "--resume"], "Expected flags before x.py, but got --resume after it"),
        (["--dry-run", "x.py"], "--dry-run and --overwrite are for yaml configurations"),
        (["x.py"], "it lacks dataloader, optimizer, lr_multiplier, train, statistics"),
        (["absent.py"], "Expected a configuration file at absent.py"),
    ],
)
def test_misuse_is_told_in_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.py").write_text("model = dict()\n")
    with pytest.raises(SystemExit, match=message):
        balms_seg_train(*words)


def test_those_that_come_along_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_lazy_config("lazy/mask_rcnn_R_50_FPN_lvis_v1.py", ["train.max_iter=7"])
    assert cfg.train.max_iter == 7
