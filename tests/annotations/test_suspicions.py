"""Files that as a whole mean something else than they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import HEIGHT, WIDTH, content, write

from balms_seg import ClassStatistics
from balms_seg.annotations import AnnotationError, read_annotations, require_trust, warn_once
from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.lvis.category_counts import TrainingCounts


def with_boxes(boxes: list[list[float]]) -> dict[str, Any]:
    changed = content()
    changed["annotations"] = [
        {"id": number, "image_id": 1 + number % 2, "category_id": 5, "bbox": box}
        for number, box in enumerate(boxes)
    ]
    return changed


def drawn_boxes(number: int = 40) -> np.ndarray:
    """Boxes x, y, width, height that lie in the image."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(2, [WIDTH, HEIGHT], (number, 2))
    return np.concatenate([rng.uniform(0, [WIDTH, HEIGHT] - sizes), sizes], axis=1).round(1)


def refusal(tmp_path: Path, changed: dict[str, Any]) -> str:
    read = read_annotations(write(tmp_path, changed))
    require_trust(read, is_trusted=True)
    with pytest.raises(AnnotationError) as caught:
        require_trust(read, is_trusted=False)
    assert "DATASETS.TRUST_ANNOTATIONS True (--trust-annotations)" in str(caught.value)
    return str(caught.value)


def test_boxes_in_the_image_are_above_suspicion(tmp_path: Path) -> None:
    boxes = drawn_boxes()
    boxes[:2, 2] += WIDTH  # single ones beyond the image
    read = read_annotations(write(tmp_path, with_boxes(boxes.tolist())))
    require_trust(read, is_trusted=False)


def test_corners_are_recognised(tmp_path: Path) -> None:
    boxes = drawn_boxes()
    boxes[:, 2:] += boxes[:, :2]
    message = refusal(tmp_path, with_boxes(boxes.tolist()))
    assert "of 40 boxes end beyond the image, and all of them lie in it" in message
    assert "corners x1, y1, x2, y2; expected bbox as [x, y, width, height] in pixels" in message


def test_shares_of_the_image_are_recognised(tmp_path: Path) -> None:
    boxes = drawn_boxes() / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    message = refusal(tmp_path, with_boxes(boxes.tolist()))
    assert "all 40 boxes have coordinates of at most 1, as shares of the image" in message


def with_share_polygons(number: int) -> dict[str, Any]:
    """Good boxes, the first ones with polygons whose coordinates are shares of the image."""
    changed = content()
    for entry in changed["annotations"][:number]:
        shares = np.array(entry["segmentation"]).reshape(-1, 2) / [WIDTH, HEIGHT]
        entry["segmentation"] = [shares.ravel().tolist()]
    return changed


def test_polygons_as_shares_beside_good_boxes_are_recognised(tmp_path: Path) -> None:
    message = refusal(tmp_path, with_share_polygons(3))
    assert "all 3 segmentations by polygons have coordinates of at most 1, as shares" in message
    assert "expected [[x, y, x, y, ...], ...] in pixels" in message
    assert "boxes" not in message


def test_single_polygons_as_shares_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, with_share_polygons(1))
    for _ in range(2):  # the second one comes from the cache
        read = read_annotations(path)
        require_trust(read, is_trusted=False)
        assert read.facts.num_share_masks == 1
    warn_once(read)
    assert "1 instance whose polygons have coordinates of at most 1, as shares" in caplog.text


def test_boxes_of_another_image_size_are_recognised(tmp_path: Path) -> None:
    message = refusal(tmp_path, with_boxes((3 * drawn_boxes()).tolist()))
    assert "boxes end beyond the image; expected" in message


def test_single_boxes_beyond_the_image_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = drawn_boxes()
    boxes[:2, 2] += WIDTH
    boxes[2] = [WIDTH + 1, 0, 5, 5]
    warn_once(read_annotations(write(tmp_path, with_boxes(boxes.tolist()))))
    assert "2 boxes ending beyond the image (clipped in training)" in caplog.text
    assert "1 instance with a box outside the image" in caplog.text


def test_a_file_under_several_ids_is_recognised(tmp_path: Path) -> None:
    changed = content()
    for image in changed["images"]:
        image["file_name"] = "same.png"
    message = refusal(tmp_path, changed)
    assert "2 of 2 images share their file with another one, the first is same.png" in message


def test_single_files_under_several_ids_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = content()
    changed["images"] += [{"id": number, "file_name": f"{number}.png"} for number in (3, 4)]
    changed["images"][1]["file_name"] = changed["images"][0]["file_name"]
    read = read_annotations(write(tmp_path, changed))
    require_trust(read, is_trusted=False)
    warn_once(read)
    assert "2 images with the file of another image" in caplog.text


def test_all_readers_refuse_what_looks_wrong_until_it_is_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, with_boxes((drawn_boxes() / [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()))
    for read in (ClassStatistics.from_json, TrainingCounts.from_json, load_ground_truth):
        with pytest.raises(AnnotationError, match="as shares of the image have"):
            read(path)
        read(path, trust_annotations=True)
    (warning,) = caplog.records
    assert "looks wrong, and is taken as it is: all 40 boxes" in warning.getMessage()


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "coco_mini_lvis/coco_mini_lvis_train.json",
        "coco_mini_lvis/coco_mini_lvis_val.json",
        "lvis_v0.5_val_100.json",
    ],
)
def test_real_files_are_above_suspicion(shared_data: Path, name: str) -> None:
    require_trust(read_annotations(shared_data / name), is_trusted=False)
