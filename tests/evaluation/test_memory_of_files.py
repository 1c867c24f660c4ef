"""Reading takes memory in proportion to the file: measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: As docs/own_data.md says.
MOST_OVER_FILE = 6
BESIDES_BYTES = 32 << 20
NUM_IMAGES, SIDE_PX = 200, 100

READERS = {
    "training": "load_annotations(path, '.')",
    "ground truth": "load_ground_truth(path)",
    "results": "read_stored_detections(path, truth)",
}
PROGRAM = """
import json, sys
from pathlib import Path
from balms_seg.data import load_annotations
from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.predictions.stored_detections import read_stored_detections

def held(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) << 10

small, path = sys.argv[1:]
load_annotations(small, ".")  # what is imported late is not counted
truth = load_ground_truth(small)
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
kept = {reader}
print(held("VmHWM") - before)
"""


def box_only(number: int) -> dict[str, Any]:
    return {"bbox": [number % 50, 1, 9, 9]}


def with_polygon(number: int) -> dict[str, Any]:
    points = [round(1 + (number * 7 + i * 13) % 90 + i / 100, 2) for i in range(60)]
    return {"bbox": [1, 1, 9, 9], "area": 81.0, "iscrowd": 0, "segmentation": [points]}


def with_run_lengths(number: int) -> dict[str, Any]:
    runs = [5, 7] * 20
    runs.append(SIDE_PX * SIDE_PX - sum(runs))
    return {"bbox": [1, 1, 9, 9], "segmentation": {"size": [SIDE_PX, SIDE_PX], "counts": runs}}


def content(fields: Callable[[int], dict[str, Any]], number: int) -> dict[str, Any]:
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": SIDE_PX, "width": SIDE_PX}
        for i in range(NUM_IMAGES)
    ]
    entries = [
        {"id": i + 1, "image_id": i % NUM_IMAGES, "category_id": i % 9, **fields(i)}
        for i in range(number)
    ]
    categories = [{"id": k, "name": f"class {k}"} for k in range(9)]
    return {"images": images, "annotations": entries, "categories": categories}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fields", [box_only, with_polygon, with_run_lengths])
def test_memory_stays_within_a_multiple_of_the_file(
    reader: str, fields: Callable[[int], dict[str, Any]], tmp_path: Path
) -> None:
    small, path = tmp_path / "small.json", tmp_path / "large.json"
    small.write_text(json.dumps(content(box_only, NUM_IMAGES)))
    made = content(fields, 200_000 if fields is box_only else 40_000)
    if reader == "results":
        made = [{**entry, "score": 0.5} for entry in made["annotations"]]
    path.write_text(json.dumps(made, separators=(",", ":")))
    command = [sys.executable, "-c", PROGRAM.replace("{reader}", READERS[reader])]
    done = subprocess.run(
        [*command, str(small), str(path)],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    allowed = MOST_OVER_FILE * path.stat().st_size + BESIDES_BYTES
    assert int(done.stdout) <= allowed
