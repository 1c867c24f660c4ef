"""Result files are read entry by entry, and a wrong one is named by its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balms_seg.evaluation.predictions import detection_file
from balms_seg.evaluation.predictions.detection_file import iterate_detections, read_detections

GOOD = {"image_id": 1, "category_id": 2, "score": 0.5, "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({**GOOD, "score": "high"}, "every score to be a number"),
        ({**GOOD, "bbox": [0, 0, 1]}, "Expected 4 numbers"),
        ({"image_id": 1}, "Expected 'category_id' in each"),
        ([1, 2], "every detection to be an object"),
    ],
)
def test_the_first_wrong_entry_is_named(bad: object, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([GOOD, GOOD, bad]))
    with pytest.raises(ValueError, match=rf"{expected}, but 1 of 3 .* the first at position 2: "):
        read_detections(path)


def test_places_count_from_the_begin_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [[GOOD] * 3, [GOOD], [GOOD, {**GOOD, "score": None}]]
    monkeypatch.setattr(detection_file, "iterate_entries", lambda *_: iter(batches))
    with pytest.raises(ValueError, match=r"detections from position 4 .* at position 5: "):
        list(iterate_detections(tmp_path / "results.json"))


def test_what_is_no_list_is_named_by_its_first_keys(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(dict.fromkeys("gfedcba", 1)))
    with pytest.raises(ValueError, match=r"an object with the keys \['a', 'b', 'c', 'd', 'e'\]; "):
        read_detections(path)
