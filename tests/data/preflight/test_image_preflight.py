"""Image sets that cannot be trained on are refused before the first iteration."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_sets import SMALL, write_folders
from made_up_data import words, write_data_sets

from balms_seg.data.preflight.data_checks import PreflightError, preflight
from balms_seg.engine import load_config
from balms_seg.model_zoo import get_config_file


def check(
    source: Path | str, root: Path | str, tmp_path: Path, *, training: bool = True, **more: object
) -> None:
    name = f"{tmp_path.name}_checked"
    settings = {
        **SMALL,
        "DATASETS.REGISTER_IMAGES": [[name, str(source), str(root)]],
        "DATASETS.TRAIN": (name,),
        "DATASETS.TEST": () if training else (name,),
        "OUTPUT_DIR": str(tmp_path / "output"),
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    base = get_config_file("classification/base.yaml")
    preflight(load_config(base, words(settings)), training=training)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_folders(tmp_path / "train", (3, 2, 1))
    return tmp_path


def write_list(folder: Path, lines: list[str]) -> Path:
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


LINES = ["train/ape/000.png 0", "train/bee/000.png 1", "train/cat/000.png 2"]


def test_a_set_in_order_passes(folders: Path) -> None:
    check(folders, "train", folders)
    check(folders, "train", folders, training=False)


def test_a_list_in_order_passes(folders: Path) -> None:
    check(write_list(folders, LINES), folders, folders)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/ape/001.png 3", "1 of 4 labels lie outside 0 to 2, the first is 3 of .*001.png"),
        ("train/ape/001.png -1", "1 of 4 labels lie outside 0 to 2, the first is -1"),
        ("train/ape/009.png 0", "1 of 4 images are missing: .*train/ape/009.png"),
        ("train/ape/001.png", "line 4"),
        ("train/broken.png 0", "broken.png: "),
    ],
    ids=["above", "negative", "missing", "no label", "unreadable"],
)
def test_a_wrong_line_is_named(line: str, message: str, folders: Path) -> None:
    (folders / "train" / "broken.png").write_bytes(b"no image")
    with pytest.raises(PreflightError, match=message):
        check(write_list(folders, [*LINES, line]), folders, folders)


def test_an_unreadable_image_may_be_skipped(folders: Path) -> None:
    (folders / "train" / "broken.png").write_bytes(b"no image")
    lines = [*LINES, "train/broken.png 0"]
    check(write_list(folders, lines), folders, folders, INPUT__IMAGES__UNREADABLE="skip")


def test_an_empty_class_is_named_unless_it_may_be_empty(folders: Path) -> None:
    source = write_list(folders, [LINES[0], LINES[2]])
    with pytest.raises(PreflightError, match=r"1 of 3 classes have no training image: 1;"):
        check(source, folders, folders)
    check(source, folders, folders, MODEL__IMAGE_CLASSIFIER__EMPTY_CLASSES="floor")


def test_a_test_set_may_lack_classes(folders: Path) -> None:
    check(write_list(folders, LINES[:2]), folders, folders, training=False)


@pytest.mark.parametrize(
    ("num_classes", "message"),
    [(4, "it has 3 classes but .*NUM_CLASSES is 4; set it to 3"), (2, "outside 0 to 1")],
)
def test_the_number_of_classes_has_to_agree(num_classes: int, message: str, folders: Path) -> None:
    with pytest.raises(PreflightError, match=message):
        check(folders, "train", folders, MODEL__IMAGE_CLASSIFIER__NUM_CLASSES=num_classes)


def test_each_job_refuses_the_others_sets(folders: Path) -> None:
    detection = write_data_sets(folders / "instances")
    check_settings = {key.replace(".", "__"): value for key, value in detection.items()}
    with pytest.raises(PreflightError, match="annotated instances, but .* needs whole images"):
        check(folders, "train", folders, **check_settings)
    settings = {
        "DATASETS.REGISTER": [],
        "DATASETS.REGISTER_IMAGES": [[f"{folders.name}_other", str(folders), "train"]],
        "DATASETS.TRAIN": (f"{folders.name}_other",),
        "DATASETS.TEST": (),
        "OUTPUT_DIR": str(folders / "output"),
    }
    detector = load_config(get_config_file("toy/base.yaml"), words(settings))
    with pytest.raises(PreflightError, match="configs/classification"):
        preflight(detector, training=True)
