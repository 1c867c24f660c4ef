"""YOLO's labels become the same shapes in pixels, or an error that names the line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from balms_seg import ClassStatistics
from balms_seg.annotations.yolo_labels import read_yolo_folder, to_coco
from balms_seg.commands.command_line import run_command

OUTLINE = "1 0.1 0.2 0.6 0.2 0.6 0.8 0.3 0.9"
BOX = "0 0.5 0.5 0.2 0.4"


def write_folder(root: Path, labels: dict[str, str], *, names: object = ("ant", "bee")) -> Path:
    """An image of 200 x 100 px for each label file of the split `train`."""
    for name, text in labels.items():
        image, label = (root / kind / "train" / name for kind in ("images", "labels"))
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(image.with_suffix(".jpg"))
        if text:
            label.with_suffix(".txt").write_text(text)
    listed = list(names) if isinstance(names, tuple) else names
    (root / "data.yaml").write_text(json.dumps({"train": "images/train", "names": listed}))
    return root


def test_points_and_boxes_keep_their_place(tmp_path: Path) -> None:
    folder = read_yolo_folder(write_folder(tmp_path, {"a": f"{OUTLINE}\n\n{BOX}\n", "b": ""}))
    content = to_coco(folder, "train")
    assert [image["file_name"] for image in content["images"]] == [
        "images/train/a.jpg",
        "images/train/b.jpg",  # without labels: an image without objects
    ]
    outline, box = content["annotations"]
    assert outline["category_id"] == 2
    points = [20, 20, 120, 20, 120, 80, 60, 90]
    assert outline["segmentation"] == [pytest.approx(points)]
    assert outline["bbox"] == pytest.approx([20, 20, 100, 70])
    drawn = mask_utils.area(mask_utils.frPyObjects(outline["segmentation"], 100, 200))
    assert outline["area"] == pytest.approx(drawn.sum(), rel=0.02)  # pycocotools counts pixels
    assert box["bbox"] == pytest.approx([80, 30, 40, 40])
    assert (box["category_id"], box["area"]) == (1, pytest.approx(1600))
    assert "segmentation" not in box


def test_photographs_turned_by_exif_are_upright(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": BOX})
    turned = Image.fromarray(np.zeros((100, 200, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "images" / "train" / "a.jpg", exif=exif)
    content = to_coco(read_yolo_folder(tmp_path), "train")
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (100, 200)
    assert content["annotations"][0]["bbox"] == pytest.approx([40, 60, 20, 80])


def test_names_by_number_and_lists_of_images_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": BOX, "b": OUTLINE}, names={0: "ant", 1: "bee"})
    (tmp_path / "few.txt").write_text("./images/train/b.jpg\n")
    # As yaml writes it, and with the path of the machine that exported it.
    (tmp_path / "data.yaml").write_text(
        "path: /of/another/machine\ntrain: ../images/train\nval: few.txt\nnames: {1: bee, 0: ant}\n"
    )
    folder = read_yolo_folder(tmp_path / "data.yaml")
    assert folder.names == ("ant", "bee")
    assert {split: len(found) for split, found in folder.images.items()} == {"train": 2, "val": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.2 0.4", "class from 0 to 1, but got 2"),
        ("0 0.5 0.5 0.2", "at least three points, but got 3 numbers"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.3", "but got 7 numbers"),
        ("0 50 50 20 40", "pixels are not YOLO's form"),
        ("0 nan 0.5 0.2 0.4", "shares of the image"),
        ("ant 0.5 0.5 0.2 0.4", "could not convert"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = read_yolo_folder(write_folder(tmp_path, {"a": f"{BOX}\n{line}\n"}))
    with pytest.raises(ValueError, match=rf"labels/train/a.txt, line 2: .*{message}"):
        to_coco(folder, "train")


def test_a_link_out_of_the_folder_is_followed_on_request_only(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "yolo", {"a": BOX})
    link, target = root / "images" / "train" / "a.jpg", tmp_path / "elsewhere" / "a.jpg"
    target.parent.mkdir()
    link.rename(target)
    link.symlink_to(target)
    words = ["convert", [str(root), "--output", str(tmp_path / "coco")]]
    with pytest.raises(SystemExit, match=rf"a\.jpg leads to {target}, out of .*--read-outside"):
        run_command(*words)
    run_command(words[0], [*words[1], "--read-outside"])
    content = json.loads((tmp_path / "coco" / "train.json").read_text())
    assert content["images"][0]["file_name"] == "images/train/a.jpg"
    assert len(content["annotations"]) == 1  # of the labels beside the link


def test_a_listed_image_and_a_link_to_labels_outside_are_read_on_request_only(
    tmp_path: Path,
) -> None:
    root = write_folder(tmp_path / "yolo", {"a": BOX})
    other = write_folder(tmp_path / "other", {"b": OUTLINE})
    image, labels = other / "images" / "train" / "b.jpg", root / "labels" / "train" / "a.txt"
    (root / "few.txt").write_text(f"{image}\n")
    (root / "data.yaml").write_text("train: few.txt\nval: images/train\nnames: [ant, bee]\n")
    labels.unlink()
    labels.symlink_to(other / "labels" / "train" / "b.txt")
    folder = read_yolo_folder(root)
    with pytest.raises(ValueError, match=rf"{image} lies outside {root}, .*--read-outside"):
        to_coco(folder, "train")
    with pytest.raises(ValueError, match=rf"{labels} leads to .*/b\.txt, out of .*--read-outside"):
        to_coco(folder, "val")
    content = to_coco(folder, "train", outside=True)
    assert [one["file_name"] for one in content["images"]] == [str(image)]
    assert [one["category_id"] for one in to_coco(folder, "val", outside=True)["annotations"]] == [
        2
    ]


def test_folders_that_are_none_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.yaml of a YOLO folder"):
        read_yolo_folder(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [ant]\n")
    with pytest.raises(FileNotFoundError, match="Expected images at .*images, but there is"):
        read_yolo_folder(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images\n")
    with pytest.raises(ValueError, match="no list of class names"):
        read_yolo_folder(tmp_path)


def test_the_command_writes_what_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_folder(tmp_path / "yolo", {"a": f"{OUTLINE}\n{OUTLINE}", "b": OUTLINE, "c": ""})
    write_folder(tmp_path / "yolo", {"d": "\n"})
    run_command("convert", [str(tmp_path / "yolo"), "--output", str(tmp_path / "coco")])
    said = capsys.readouterr().out
    assert "4 images, 3 objects, 3 of them with an outline" in said
    images, labels = (tmp_path / "yolo" / kind / "train" for kind in ("images", "labels"))
    told = f"1 of these images has no file of labels, such as {images}/c.jpg, of which {labels}/c."
    assert told in said
    assert f"shows no object: its file of labels is empty, such as {labels}/d.txt\n" in said
    assert "MODEL.ROI_HEADS.NUM_CLASSES 2 DATASETS.TRAIN \"('my_train',)\" DATASETS.REG" in said
    assert "DATASETS.REGISTER \"[['my_train', " in said
    assert "MASK_ON" not in said
    (tmp_path / "yolo" / "labels" / "train" / "b.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    run_command("convert", [str(tmp_path / "yolo"), "--output", str(tmp_path / "boxes")])
    said = capsys.readouterr().out
    assert "2 of them with an outline" in said
    assert "NUM_CLASSES 2 MODEL.MASK_ON False" in said
    assert f"1 object has no outline, such as one in {tmp_path}/yolo/labels/train/b.txt," in said
    statistics = ClassStatistics.from_json(tmp_path / "coco" / "train.json")
    assert statistics.instance_counts.tolist() == [0, 3]
    assert statistics.image_counts.tolist() == [0, 2]


def test_shared_images_and_labels_of_no_image_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_folder(tmp_path / "yolo", {"a": BOX, "b": BOX})
    (tmp_path / "yolo" / "data.yaml").write_text(
        "train: images/train\nval: images/train\ntest: one.txt\nnames: [ant]\n"
    )
    elsewhere = tmp_path / "yolo" / "images" / "c.jpg"
    elsewhere.symlink_to(tmp_path / "yolo" / "images" / "train" / "a.jpg")
    (tmp_path / "yolo" / "one.txt").write_text("images/c.jpg\n")
    labels = tmp_path / "yolo" / "labels" / "train"
    (labels / "gone.txt").write_text(BOX)
    (labels / "classes.txt").write_text("ant")
    run_command("convert", [str(tmp_path / "yolo"), "--output", str(tmp_path / "coco")])
    said = capsys.readouterr().out
    for told in ("2 of 2 images of my_val are", "1 of 1 image of my_test is"):
        assert f"{told} also in my_train: AP there is of images trained on.\n" in said
    assert f"1 label file belongs to no image, such as {labels / 'gone.txt'}.\n" in said
