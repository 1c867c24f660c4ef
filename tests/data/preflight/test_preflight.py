"""What is wrong with data is said before a run starts, all of it at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.transforms import AugInput, ResizeShortestEdge
from PIL import Image
from small_sets import LINE, changed, coco_style, lvis_style, new_name, write_set

from balms_seg.config import add_balms_config
from balms_seg.data import load_dataset_dicts, register_long_tailed_instances
from balms_seg.data.instances import builtin
from balms_seg.data.preflight.data_checks import PreflightError, preflight
from balms_seg.engine.run_data import RunData

RLE = {"size": [16, 20], "counts": [100, 20, 200]}


def config(tmp_path: Path, train: dict | None = None, val: dict | None = None) -> CfgNode:
    """Settings that pass, with one set to train and one to evaluate on."""
    cfg = get_cfg()
    add_balms_config(cfg)
    names = []
    for split, content in (("train", train), ("val", val)):
        path = write_set(tmp_path / split, content or lvis_style())
        names.append(new_name())
        cfg.DATASETS.REGISTER.append([names[-1], str(path), str(tmp_path / split / "images")])
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (names[0],), (names[1],)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.MASK_ON = True
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    return cfg


def problems_of(cfg: CfgNode, *, training: bool = True) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        preflight(cfg, training=training)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def only_problem_of(cfg: CfgNode, *, training: bool = True) -> str:
    (problem,) = problems_of(cfg, training=training)
    return problem


def test_good_data_pass(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.freeze()
    preflight(cfg, training=True)
    preflight(cfg, training=False)


def test_a_builtin_name_with_a_file_of_another_size_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(tmp_path)
    (train,), (val,) = cfg.DATASETS.TRAIN, cfg.DATASETS.TEST
    for name, number in ((train, 4), (val, 3)):  # both have 3 images
        monkeypatch.setitem(builtin.NUM_IMAGES, name, number)
    preflight(cfg, training=True)
    (said,) = [r.getMessage() for r in caplog.records if "published" in r.getMessage()]
    assert f"has 3 images, but the published file of '{train}' has 4" in said


def test_everything_wrong_is_in_one_error(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    (tmp_path / "train" / "images" / "a.png").unlink()
    (tmp_path / "val" / "annotations.json").write_text('{"images": [')
    (tmp_path / "output").write_text("a file")
    problems = problems_of(cfg)
    assert len(problems) == 4
    for text in ("OUTPUT_DIR", "a.png", "is cut short", "NUM_CLASSES"):
        assert sum(text in problem for problem in problems) == 1


def test_missing_json(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "train" / "annotations.json").unlink()
    problem = only_problem_of(cfg)
    assert problem.startswith(f"Data set '{cfg.DATASETS.TRAIN[0]}': Expected a json file at")


def test_json_without_categories(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "val" / "annotations.json").write_text('{"images": [], "annotations": []}')
    assert "has no list named categories" in only_problem_of(cfg)


def test_missing_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(tmp_path)
    (tmp_path / "train" / "images").rename(tmp_path / "train" / "moved")
    problem = only_problem_of(cfg)
    assert f"image folder {tmp_path}/train/images does not exist" in problem
    assert "prepare_lvis_and_coco" not in problem
    monkeypatch.setattr(builtin, "BUILTIN_COCO_NAMES", cfg.DATASETS.TRAIN)
    assert "`python datasets/prepare_lvis_and_coco.py coco`" in only_problem_of(cfg)


def test_single_missing_image(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "val" / "images" / "b.png").unlink()
    assert "1 of 3 images is missing: " in only_problem_of(cfg)


@pytest.mark.parametrize("style", [lvis_style, coco_style])
def test_names_of_coco_2014_without_coco_url_are_told_of_lvis_alone(
    style: Callable[[], dict], tmp_path: Path
) -> None:
    name = "COCO_train2014_000000000009.jpg"
    cfg = config(tmp_path, changed(style(), "images", 0, file_name=name), style())
    (tmp_path / "train" / "images" / name).unlink()
    problem = only_problem_of(cfg)
    assert f"1 of 3 images is missing: {tmp_path}/train/images/{name}" in problem
    assert ("have no coco_url here, by which" in problem) is (style is lvis_style)


def test_image_folder_one_level_off_is_guessed(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.DATASETS.REGISTER[0][2] = str(tmp_path / "train")
    problem = only_problem_of(cfg)
    assert "3 of 3 images are missing" in problem
    assert f"with image folder {tmp_path}/train/images." in problem


def test_image_folder_of_some_images_is_not_guessed(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    images = tmp_path / "train" / "images"
    for number, path in enumerate(sorted(images.iterdir())):
        (images / f"part_{number % 2}").mkdir(exist_ok=True)
        path.rename(images / f"part_{number % 2}" / path.name)
    problem = only_problem_of(cfg)
    assert "with image folder" not in problem
    assert "All of them lie in" in problem


@pytest.mark.parametrize("match", ["exact", "basename"])
def test_addresses_on_the_net_for_names_are_missing_files(tmp_path: Path, match: str) -> None:
    content = lvis_style()
    for image in content["images"]:
        image["file_name"] = f"http://example.org/{image['file_name']}"
    cfg = config(tmp_path)
    (tmp_path / "train" / "annotations.json").write_text(json.dumps(content))
    cfg.DATASETS.MATCH_FILE_NAMES = match
    if match == "exact":
        assert "3 of 3 images are missing" in only_problem_of(cfg)
    else:
        preflight(cfg, training=True)


def test_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    path = tmp_path / "train" / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    assert f"Cannot read {path}: " in only_problem_of(cfg)


def test_images_that_are_resized_to_no_pixel(tmp_path: Path) -> None:
    """detectron2's own resizing ends in an error at these."""
    content = lvis_style()
    content["images"][0].update(width=200, height=3)
    cfg = config(tmp_path, val=content)
    Image.new("RGB", (200, 3)).save(tmp_path / "val" / "images" / "c.png")
    resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, 33)
    with pytest.raises(ValueError, match="must be > 0"):
        resize(AugInput(np.zeros((3, 200, 3), np.uint8)))
    cfg.INPUT.MAX_SIZE_TEST = 33
    problem = only_problem_of(cfg)
    assert "1 of 3 images is so long" in problem
    assert "at INPUT.MAX_SIZE_TEST 33: " in problem
    cfg.INPUT.MAX_SIZE_TEST = 34
    preflight(cfg, training=True)


def test_image_of_another_size(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    Image.new("RGB", (21, 16)).save(tmp_path / "train" / "images" / "b.png")
    problem = only_problem_of(cfg)
    assert "1 of 3 images has another size than the json says: " in problem
    assert "b.png has 21 x 16 pixels, the json says 20 x 16; correct width and height" in problem


@pytest.mark.parametrize("num_classes", [1, 3])
def test_number_of_classes_off_by_one(tmp_path: Path, num_classes: int) -> None:
    cfg = config(tmp_path)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    problem = only_problem_of(cfg)
    assert f"has 2 classes but MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}; set it to 2" in problem


def test_sets_with_other_classes(tmp_path: Path) -> None:
    cfg = config(tmp_path, val=changed(lvis_style(), "categories", 0, name="horse"))
    problem = only_problem_of(cfg)
    assert "only in the first: dog; only in the second: horse" in problem


def test_sets_with_classes_in_another_order(tmp_path: Path) -> None:
    val = changed(lvis_style(), "categories", 0, name="cat")
    cfg = config(tmp_path, val=changed(val, "categories", 1, name="dog"))
    assert "another order, from class 0: 'cat' and 'dog'" in only_problem_of(cfg)


def test_metadata_of_the_wrong_length(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    name = new_name()
    register_long_tailed_instances(
        name, *cfg.DATASETS.REGISTER[0][1:], metadata={"class_frequency": ["r"]}
    )
    cfg.DATASETS.TRAIN = (name,)
    assert "metadata class_frequency has 1 entries for 2 classes" in only_problem_of(cfg)


def test_rle_needs_bitmasks(tmp_path: Path) -> None:
    cfg = config(tmp_path, changed(lvis_style(), "annotations", 0, segmentation=RLE))
    problem = only_problem_of(cfg)
    assert "1 of 3 segmentations is RLE" in problem
    assert "set it to 'bitmask'" in problem
    cfg.INPUT.MASK_FORMAT = "bitmask"
    preflight(cfg, training=True)


def test_rle_of_crowds_is_no_problem(tmp_path: Path) -> None:
    train = changed(lvis_style(), "annotations", 0, segmentation=RLE, iscrowd=1)
    preflight(config(tmp_path, train), training=True)


def test_masks_need_segmentations(tmp_path: Path) -> None:
    cfg = config(tmp_path, changed(lvis_style(), "annotations", 0, segmentation=None))
    problem = only_problem_of(cfg)
    assert "1 of 3 instances has no segmentation, but MODEL.MASK_ON is True" in problem
    cfg.MODEL.MASK_ON = False
    preflight(cfg, training=True)


def test_training_set_without_a_usable_annotation(tmp_path: Path) -> None:
    train = lvis_style()
    train["annotations"] = train["annotations"][:1]
    cfg = config(tmp_path, changed(train, "annotations", 0, segmentation=[LINE]))
    assert "no usable annotation to train on" in only_problem_of(cfg)


def test_cropping_polygons_without_shapely_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(tmp_path, lvis_style())
    cfg.INPUT.CROP.ENABLED = True
    monkeypatch.setitem(sys.modules, "shapely", None)
    problem = only_problem_of(cfg)
    assert "INPUT.CROP.ENABLED with polygon masks needs shapely" in problem
    assert "balms-seg[crop]" in problem
    cfg.INPUT.MASK_FORMAT = "bitmask"
    preflight(cfg, training=True)


def test_image_with_degenerate_polygons_only_is_no_problem(tmp_path: Path) -> None:
    cfg = config(tmp_path, changed(lvis_style(), "annotations", 2, segmentation=[LINE]))
    preflight(cfg, training=True)


def test_class_without_a_sample_is_legal_unless_forbidden(tmp_path: Path) -> None:
    cfg = config(tmp_path, changed(lvis_style(), "annotations", 1, category_id=3))
    preflight(cfg, training=True)
    cfg.MODEL.ROI_BOX_HEAD.EMPTY_CLASSES = "error"
    with pytest.raises(PreflightError, match="EMPTY_CLASSES is 'error': .*dog"):
        RunData(cfg, training=True)


def test_unregistered_name_lists_similar_ones_and_how_to_register(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.DATASETS.TEST = ("coco_2017_vall",)
    problem = only_problem_of(cfg)
    assert "'coco_2017_vall' is not registered. Names like it: coco_2017_val" in problem
    assert "DATASETS.REGISTER \"[['coco_2017_vall', " in problem


@pytest.mark.parametrize(("key", "training"), [("TRAIN", True), ("TEST", False)])
def test_no_data_set_named(tmp_path: Path, key: str, training: bool) -> None:
    cfg = config(tmp_path)
    cfg.DATASETS[key] = ()
    assert f"DATASETS.{key} is empty" in only_problem_of(cfg, training=training)


def test_training_set_does_not_matter_for_evaluation(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "train" / "annotations.json").unlink()
    preflight(cfg, training=False)


def test_name_taken_in_the_register(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.DATASETS.REGISTER.append(["lvis_v1_train", "a.json", "images"])
    assert "'lvis_v1_train' is taken" in only_problem_of(cfg)


def test_output_folder_below_a_file(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "file").write_text("")
    cfg.OUTPUT_DIR = str(tmp_path / "file" / "output")
    assert "cannot be written (Not a directory)" in only_problem_of(cfg)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    (tmp_path / "output").mkdir(mode=0o500)
    assert "cannot be written (Permission denied)" in only_problem_of(cfg)


def test_sets_are_read_by_what_is_handed_in(tmp_path: Path) -> None:
    cfg, asked = config(tmp_path), []

    def load(name: str) -> Sequence[dict]:
        asked.append(name)
        return load_dataset_dicts(name)

    preflight(cfg, training=True, load=load)
    assert asked == [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]


def test_set_registered_without_json_is_checked_too(tmp_path: Path) -> None:
    cfg = config(tmp_path, coco_style(), coco_style())
    name = new_name()
    records = [
        {"file_name": str(tmp_path / "train/images/a.png"), "height": 16, "width": 20},
        {"file_name": str(tmp_path / "gone.png"), "height": 16, "width": 20},
    ]
    DatasetCatalog.register(name, lambda: [{**record, "annotations": []} for record in records])
    MetadataCatalog.get(name).thing_classes = ["cat", "dog"]
    cfg.DATASETS.TEST = (name,)
    assert f"1 of 2 images is missing: {tmp_path}/gone.png" in only_problem_of(cfg)


@pytest.mark.data
def test_real_photographs_pass(tmp_path: Path, shared_data: Path) -> None:
    cfg = config(tmp_path)
    folder = shared_data / "coco_mini_lvis"
    names = [new_name(), new_name()]
    for name, split in zip(names, ("train", "val"), strict=True):
        entry = [name, str(folder / f"coco_mini_lvis_{split}.json"), str(folder)]
        cfg.DATASETS.REGISTER.append(entry)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (names[0],), (names[1],)
    assert "set it to 80" in only_problem_of(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    preflight(cfg, training=True)


@pytest.mark.parametrize("way", ["one folder", "links", "copies"])
def test_images_that_are_trained_on_and_tested_on_are_counted(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(tmp_path)
    train, val = (tmp_path / part / "images" for part in ("train", "val"))
    if way == "one folder":
        cfg.DATASETS.REGISTER[1][2] = str(train)
    elif way == "links":
        for path in val.iterdir():
            path.write_bytes(path.read_bytes() + b"\0")  # else all are copies
        (val / "a.png").unlink()
        (val / "a.png").symlink_to(train / "a.png")
    preflight(cfg, training=False)
    assert "also in" not in caplog.text
    preflight(cfg, training=True)
    number = 1 if way == "links" else 3
    first, second = cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]
    are = "is" if number == 1 else "are"
    told = f"{number} of 3 images of {second} {are} also in {first}: AP there is of images trained"
    assert told in caplog.text
