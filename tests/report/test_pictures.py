"""Pictures show what they should, and say whose they are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from report_runs import NUM_IMAGES, annotations, box_of, predictions, write_data, write_run

from balms_seg.commands.command_line import run_command
from balms_seg.report.pictures import draw_instances

ROOT = Path(__file__).resolve().parents[2]
RED, BLUE = (40, 40, 215), (180, 120, 30)  # BGR of rare and frequent classes


def has_color(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels.astype(int) - color).max(axis=-1) < 6).any())


def test_the_mask_is_coloured_by_group_and_nothing_else_changes() -> None:
    content = annotations()
    categories = {category["id"]: category for category in content["categories"]}
    pixels = np.full((64, 64, 3), 90, np.uint8)
    own = next(a for a in content["annotations"] if a["category_id"] == 4)
    drawn = draw_instances(pixels, [own], categories, scale=4.0)
    assert drawn.shape == (256, 256, 3)
    assert has_color(drawn, RED)
    assert (pixels == 90).all()
    x, y, width, height = (round(4 * value) for value in box_of(4))
    inside = drawn[y + 30 : y + height - 4, x + 4 : x + width - 4]
    assert (inside != 90).any(axis=-1).all()
    assert (drawn[: y - 30] == 90).all()


def test_only_the_focus_is_filled() -> None:
    content = annotations()
    categories = {category["id"]: category for category in content["categories"]}
    pixels = np.full((64, 64, 3), 90, np.uint8)
    both = [a for a in content["annotations"] if a["image_id"] == 1 and a["category_id"] in (1, 4)]
    drawn = draw_instances(pixels, both, categories, scale=4.0, focus=both[1])
    centers = [[round(4 * (value + 12)) for value in box_of(c)[:2]] for c in (1, 4)]
    (x, y), (u, v) = centers
    assert (drawn[y, x] == 90).all()
    assert (drawn[v, u] != 90).any()


def test_each_image_gets_ground_truth_beside_predictions(tmp_path: Path) -> None:
    json_file, images = write_data(tmp_path / "data")
    run = write_run(tmp_path / "run")
    run_command(
        "visualize results",
        [str(run), "--output", str(tmp_path / "pictures"), "--groups", "--ground-truth"]
        + [str(json_file), "--images", str(images)],
    )
    files = sorted((tmp_path / "pictures").iterdir())
    assert len(files) == NUM_IMAGES
    pixels = cv2.imread(str(files[1]))
    truth, found = pixels[:, :480], pixels[:, -480:]
    assert has_color(truth, RED)
    assert not has_color(found, RED)  # there, what is rare is taken for a frequent class
    assert has_color(found, BLUE)


def test_detections_of_another_data_set_are_an_error(tmp_path: Path) -> None:
    json_file, images = write_data(tmp_path / "data")
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{**predictions()[0], "image_id": 999}]))
    arguments = [str(results), "--output", str(tmp_path / "pictures"), "--images", str(images)]
    with pytest.raises(SystemExit, match="val.json, but one is of image 999 and class 1"):
        run_command("visualize results", [*arguments, "--ground-truth", str(json_file)])
    with pytest.raises(SystemExit, match="give --ground-truth JSON and --images DIR"):
        run_command("visualize results", arguments)
