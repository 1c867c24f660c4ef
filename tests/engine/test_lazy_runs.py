"""Python configurations: those that come along, one with a backbone of its own, and misuse."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from made_up_data import TRAIN_CLASSES, write_annotated_images

from balms_seg.commands import command_line
from balms_seg.engine.lazy_run import load_lazy_config
from balms_seg.modeling import TrainingSchedule
from balms_seg.modeling.lazy_config import set_method

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
    *(f"model.roi_heads.box_heads.{stage}.fc_dims=[8,1024]" for stage in range(3)),
]
SHORT_ON_LVIS = [
    *("train.max_iter=2", "train.log_period=1", "train.init_checkpoint="),
    *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0"),
    *("dataloader.train.total_batch_size=2", "model.roi_heads.batch_size_per_image=8"),
    "model.proposal_generator.post_nms_topk=[20,10]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
    "model.roi_heads.box_predictor.test_topk_per_image=5",  # masks are what takes time
]
SMALL_MASK_RCNN = ["dataloader.train.mapper.augmentations.0.short_edge_length=[64]"]
SMALL_VITDET = [
    "train.amp.enabled=False",
    *("model.backbone.net.img_size=64", "model.backbone.square_pad=64"),
    *("model.backbone.net.embed_dim=16", "model.backbone.net.num_heads=2"),
    *("model.backbone.net.depth=2", "model.backbone.net.window_block_indexes=[0]"),
    "dataloader.train.mapper.augmentations.1.target_height=64",
    "dataloader.train.mapper.augmentations.1.target_width=64",
    "dataloader.train.mapper.augmentations.2.crop_size=[64,64]",
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


def test_a_cascade_on_a_backbone_of_ones_own_trains(project: Path) -> None:
    balms_seg_train(str(CASCADE), *SHORT)
    names = weights(project / "output" / "model_final.pth")
    assert sum(name.endswith("cls_score.weight") for name in names) == 3
    scalars = json.loads((project / "output" / "metrics.json").read_text().splitlines()[-1])
    assert {f"loss_cls_stage{stage}" for stage in range(3)} <= scalars.keys()


@pytest.mark.slow
def test_a_run_goes_on(project: Path) -> None:
    words = [str(CASCADE), *SHORT, f"train.output_dir={project}"]
    balms_seg_train(*words)
    first = weights(project / "model_final.pth")
    balms_seg_train("--resume", *words, "train.max_iter=3", "optimizer.lr=0.003")
    second = weights(project / "model_final.pth")
    classifiers = [name for name in first if name.endswith("cls_score.weight")]
    assert all(not torch.equal(first[name], second[name]) for name in classifiers)
    saved = torch.load(project / "model_final.pth", weights_only=False)["trainer"]
    assert {group["initial_lr"] for group in saved["optimizer"]["param_groups"]} == {0.003}
    assert "Starting training from iteration 2" in (project / "log.txt").read_text()


def test_mixed_precision_without_a_gpu_is_told_in_one_line(project: Path) -> None:
    with pytest.raises(
        SystemExit, match="mixed precision needs a GPU; add train.amp.enabled=False"
    ):
        balms_seg_train(str(CASCADE), *SHORT, "train.amp.enabled=True")


@pytest.mark.parametrize("name", ["mask_rcnn_R_50_FPN_lvis_v1", "mask_rcnn_vitdet_b_lvis_v1"])
def test_configurations_for_lvis_have_the_papers_classifier(name: str) -> None:
    path = str(LAZY / f"{name}.py")
    if "vitdet" in name:
        pytest.importorskip(
            "detectron2.modeling.backbone.vit", reason="0.6 has no ViT; detectron2 main has"
        )
    cfg = load_lazy_config(path, [])
    predictor = instantiate(cfg.model.roi_heads.box_predictor)
    assert type(predictor.method).__name__ == "BalancedSigmoid"
    assert predictor.cls_score.out_features == 1203
    assert predictor.test_topk_per_image == 300
    assert cfg.dataloader.train.dataset.names == "lvis_v1_train"
    assert cfg.dataloader.train.total_batch_size == (64 if "vitdet" in name else 16)


def write_lvis(split: str) -> None:
    """Six images in the place and the form of LVIS v1's, which has 1203 classes."""
    images = Path("datasets", "coco", f"{split}2017")
    write_annotated_images(images, TRAIN_CLASSES)
    content = json.loads(images.with_suffix(".json").read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://coco/{split}2017/{image.pop('file_name')}"
    known = {category["id"]: category for category in content["categories"]}
    content["categories"] = [
        {"id": k, "frequency": "r", "image_count": 1, **known.get(k, {"name": f"class {k}"})}
        for k in range(1, 1204)
    ]
    path = Path("datasets", "lvis", f"lvis_v1_{split}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "small"),
    [("mask_rcnn_R_50_FPN_lvis_v1", SMALL_MASK_RCNN), ("mask_rcnn_vitdet_b_lvis_v1", SMALL_VITDET)],
)
def test_configurations_for_lvis_train_and_are_evaluated(
    name: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "vitdet" in name:
        pytest.importorskip(
            "detectron2.modeling.backbone.vit", reason="0.6 has no ViT; detectron2 main has"
        )
        pytest.importorskip("timm", reason="detectron2's ViT needs timm; pip install timm")
    monkeypatch.chdir(tmp_path)
    write_lvis("train")
    write_lvis("val")
    output = tmp_path / "output"
    words = [str(LAZY / f"{name}.py"), *SHORT_ON_LVIS, *small, f"train.output_dir={output}"]
    balms_seg_train(*words)
    lines = (output / "metrics.json").read_text().splitlines()
    scalars = {key: value for line in lines for key, value in json.loads(line).items()}
    assert all(math.isfinite(scalars[f"loss_{part}"]) for part in ("cls", "box_reg", "mask"))
    assert {"bbox/AP", "segm/APr"} <= scalars.keys()
    assert (output / "lvis_instances_results.json").is_file()
    balms_seg_train("--eval-only", *words, f"train.init_checkpoint={output}/model_final.pth")
    assert (output / "log.txt").read_text().count("| segm |") == 2


def test_a_method_that_changes_on_the_way_follows_the_run_s_length() -> None:
    cfg = load_lazy_config(str(LAZY / "mask_rcnn_R_50_FPN_lvis_v1.py"), ["train.max_iter=7"])
    predictor = cfg.model.roi_heads.box_predictor
    with pytest.raises(ValueError, match=r"LDAMDRW .* give schedule=TrainingSchedule\("):
        set_method(predictor, "ldam_drw")
    batch = "${dataloader.train.total_batch_size}"
    followed = LazyCall(TrainingSchedule)(max_iter="${train.max_iter}", images_per_batch=batch)
    for schedule in (followed, TrainingSchedule(7, 16)):
        set_method(predictor, "ldam_drw", schedule=schedule)
        assert instantiate(predictor).schedule == TrainingSchedule(7, 16)


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
        (
            ["--eval-only", str(LAZY / "mask_rcnn_R_50_FPN_lvis_v1.py"), "train.output_dir=."],
            "evaluate detectron2://ImageNetPretrained.* mean: train.init_checkpoint=PATH$",
        ),
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


def test_only_train_takes_a_python_configuration() -> None:
    words = ["--config-file", "lazy/mask_rcnn_R_50_FPN_lvis_v1.py", "--methods", "softmax"]
    with pytest.raises(SystemExit, match="Expected a yaml configuration, but .* is Python"):
        command_line.main(["compare-methods", *words])


def test_those_that_come_along_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_lazy_config("lazy/mask_rcnn_R_50_FPN_lvis_v1.py", ["train.max_iter=7"])
    assert cfg.train.max_iter == 7
