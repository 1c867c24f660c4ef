"""Annotation files are split by images, rare classes on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_sets import annotation, coco_style, write_set

from balms_seg.annotations import Annotations, read_annotations
from balms_seg.commands.command_line import run_command
from balms_seg.data.instances.instance_split import draw_held_out


def long_tailed(folder: Path, *, seed: int = 0) -> Path:
    """100 images, ids descending; class c is in 100 / 2^c of them, but in 2 at least."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "file_name": f"{i}.png", "height": 16, "width": 20} for i in range(100)]
    annotations = []
    for c in range(7):
        for image in rng.choice(100, max(2, 100 // 2**c), replace=False).tolist():
            annotations.append(annotation(len(annotations) + 1, image, c + 1))
    content = {
        "images": images[::-1],
        "annotations": annotations,
        "categories": [{"id": c + 1, "name": f"c{c}", "image_count": 1} for c in range(7)],
    }
    folder.mkdir(exist_ok=True)
    (folder / "whole.json").write_text(json.dumps(content))
    return folder / "whole.json"


def images_of_classes(annotations: Annotations, is_kept: np.ndarray) -> np.ndarray:
    shown = np.zeros((len(is_kept), annotations.num_classes), bool)
    shown[annotations.images, annotations.classes] = True
    return shown[is_kept].sum(axis=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_each_class_gives_about_its_share_and_is_on_both_sides(
    tmp_path: Path, seed: int, share: float
) -> None:
    annotations = read_annotations(long_tailed(tmp_path, seed=seed))
    is_held = draw_held_out(annotations, share, seed=seed)
    held, staying = (images_of_classes(annotations, part) for part in (is_held, ~is_held))
    assert (staying >= 1).all()
    assert (held >= 1).all()
    wanted = np.maximum(1, share * (held + staying))
    assert (np.abs(held - wanted) <= np.maximum(2, 0.5 * wanted)).all()


def test_a_class_whose_images_rarer_classes_keep_is_held_out_too(tmp_path: Path) -> None:
    # Where r gives image 4 and s image 5, the images of a are settled.
    images = [{"id": i, "file_name": f"{i}.png", "height": 16, "width": 20} for i in range(6)]
    shown = {"r": (0, 1, 4), "s": (2, 3, 5), "a": (0, 1, 2, 3)}
    pairs = [(image, c + 1) for c, places in enumerate(shown.values()) for image in places]
    content = {
        "images": images,
        "annotations": [annotation(k + 1, *pair) for k, pair in enumerate(pairs)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(shown)],
    }
    (tmp_path / "whole.json").write_text(json.dumps(content))
    annotations = read_annotations(tmp_path / "whole.json")
    for seed in range(30):
        is_held = draw_held_out(annotations, 0.3, seed=seed)
        assert (images_of_classes(annotations, is_held) >= 1).all(), seed
        assert (images_of_classes(annotations, ~is_held) >= 1).all(), seed


def test_the_seed_decides_which(tmp_path: Path) -> None:
    annotations = read_annotations(long_tailed(tmp_path))
    one, same, other = (draw_held_out(annotations, 0.2, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_the_command_writes_two_files_that_make_up_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = long_tailed(tmp_path)
    run_command("split", [str(source), "--held-out", "0.2", "--output", str(tmp_path / "parts")])
    whole = json.loads(source.read_text())
    parts = [
        json.loads((tmp_path / "parts" / f"{name}.json").read_text())
        for name in ("train", "held_out")
    ]
    for section in ("images", "annotations"):
        together = [entry["id"] for part in parts for entry in part[section]]
        assert sorted(together) == sorted(entry["id"] for entry in whole[section])
    for part in parts:
        own = {image["id"] for image in part["images"]}
        assert {entry["image_id"] for entry in part["annotations"]} <= own
        assert part["categories"] == [{"id": c + 1, "name": f"c{c}"} for c in range(7)]
    assert "7 classes" in capsys.readouterr().out


def test_a_class_that_cannot_be_on_both_sides_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = write_set(tmp_path, coco_style())  # "dog" is in one image of three
    run_command("split", [str(source), "--held-out", "0.3", "--output", str(tmp_path / "parts")])
    told = capsys.readouterr().out
    assert "In no held-out image (1 class): dog" in told
    assert "train.json: 2 images of 2 of 2 classes, 1 of them without an annotation" in told
    run_command("statistics", [str(source)])
    told = capsys.readouterr().out
    assert told.startswith("2 classes, 2 images with annotations, ")
    assert "1 of 3 images has no object that counts" in told


def test_the_folder_of_the_images_is_told_by_one_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def told(content: dict) -> str:
        (tmp_path / "set.json").write_text(json.dumps(content))
        words = [str(tmp_path / "set.json"), "--held-out", "0.3", "--output", str(tmp_path / "out")]
        run_command("split", words)
        return capsys.readouterr().out

    content = coco_style()
    assert told(content).endswith("# IMAGES: the folder that a.png is in\n")
    for image in content["images"]:  # as in LVIS v1
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
    assert told(content).endswith("# IMAGES: the folder that train2017/a.png is in\n")


def test_a_set_of_single_images_is_refused(tmp_path: Path) -> None:
    content = coco_style()
    content["images"] = content["images"][1:2]
    content["annotations"] = content["annotations"][:2]
    annotations = read_annotations(write_set(tmp_path, content))
    with pytest.raises(ValueError, match="none can be held out"):
        draw_held_out(annotations, 0.5)


def test_a_greater_share_than_asked_for_is_said_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = coco_style()
    content["images"] = [
        {"id": i, "file_name": f"{i}.png", "height": 16, "width": 20} for i in range(1, 11)
    ]
    # The first class is in all ten images, the second in the last two.
    content["annotations"] = [annotation(i, i, 3) for i in range(1, 11)]
    content["annotations"] += [annotation(10 + i, i, 7) for i in (9, 10)]
    source, parts = str(write_set(tmp_path, content)), str(tmp_path / "parts")
    run_command("split", [source, "--held-out", "0.02", "--output", parts])
    text = capsys.readouterr().out
    assert "1 of 10 images is held out, 10% instead of 2%: 2 classes" in text
    run_command("split", [source, "--held-out", "0.1", "--output", parts])
    assert "instead of" not in capsys.readouterr().out
