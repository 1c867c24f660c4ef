"""Image sets that cannot be trained on are refused before the first iteration."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_sets import SMALL, picture, write_folders
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
    preflight(load_config(base, words(settings)), training=training, of_images=True)


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
        ("train/ape/001.png 3", "1 of 4 labels lies outside 0 to 2, the first is 3 of .*001.png"),
        ("train/ape/001.png -1", "labels from 0 to 2 in .*list.txt, but got label -1 of .* line 4"),
        ("train/ape/009.png 0", "1 of 4 images is missing: .*train/ape/009.png"),
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
    with pytest.raises(PreflightError, match=r"1 of 3 classes has no training image in .*: 1;"):
        check(source, folders, folders)
    check(source, folders, folders, MODEL__IMAGE_CLASSIFIER__EMPTY_CLASSES="floor")


def test_a_test_set_may_lack_classes(folders: Path) -> None:
    check(write_list(folders, LINES[:2]), folders, folders, training=False)


@pytest.mark.parametrize(
    ("num_classes", "message"),
    [(4, "has 3 classes but .*NUM_CLASSES is 4; set it to 3"), (2, "is 2; set it to 3")],
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


def two_sets(tmp_path: Path, train: list[str], test: list[str], **more: object) -> None:
    """Check class folders of a training and a test set."""
    names = [f"{tmp_path.name}_{part}" for part in ("train", "test")]
    for part, classes in zip(("a", "b"), (train, test), strict=True):
        for label, name in enumerate(classes):
            (tmp_path / part / name).mkdir(parents=True)
            picture(label, 0).save(tmp_path / part / name / "1.png")
    settings = {
        **SMALL,
        "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": len(train),
        "DATASETS.REGISTER_IMAGES": [
            [name, str(tmp_path / part), ""] for name, part in zip(names, "ab", strict=True)
        ],
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
        "OUTPUT_DIR": str(tmp_path / "output"),
        **more,
    }
    base = get_config_file("classification/base.yaml")
    preflight(load_config(base, words(settings)), training=True, of_images=True)


def test_a_test_set_with_other_classes_is_refused_with_the_difference(tmp_path: Path) -> None:
    message = "images of 1 class that the model does not know: zebra; it lacks apple"
    with pytest.raises(PreflightError, match=message):
        two_sets(tmp_path, ["apple", "bee", "cat"], ["bee", "cat", "zebra"])


def test_a_test_set_may_lack_classes_by_name(tmp_path: Path) -> None:
    two_sets(tmp_path, ["apple", "bee", "cat"], ["apple", "cat"])


def test_the_classes_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"1 of 4 classes has no training image.*red fox"):
        two_sets(
            tmp_path,
            ["apple", "bee", "cat"],
            ["cat"],
            **{
                "DATASETS.CLASSES": ["cat", "bee", "red fox", "apple"],
                "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 4,
            },
        )


def test_a_class_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DATASETS.CLASSES is .*expected different names"):
        two_sets(tmp_path, ["a", "b"], ["a"], **{"DATASETS.CLASSES": ["a", "b", "a"]})


def test_copies_of_training_images_in_the_test_set_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_sets(tmp_path, ["apple", "bee"], ["apple", "bee"])  # the same pictures in other folders
    name = tmp_path.name
    told = f"2 of 2 images of {name}_test are also in {name}_train: accuracy there is of images"
    assert told in caplog.text
