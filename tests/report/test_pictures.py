"""Pictures show what they should, and say whose they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from lvis_cases import SIDE_PX
from PIL import Image
from report_runs import NUM_IMAGES, annotations, box_of, predictions, write_data, write_run

from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.commands.command_line import run_command
from balms_seg.report.instance_drawing import draw_instances
from balms_seg.report.pictures import read_image

ROOT = Path(__file__).resolve().parents[2]
RED, _, BLUE = (color[::-1] for color in GROUP_COLORS)  # BGR of rare and frequent classes


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
    assert pixels.shape == (2 * 24 + 480, 2 * 480 + 6, 3)
    caption, pixels = pixels[:48], pixels[48:]
    assert has_color(caption, RED)  # says what it stands for
    assert has_color(caption, BLUE)
    truth, found = pixels[:, :480], pixels[:, -480:]
    assert has_color(truth, RED)
    assert not has_color(found, RED)  # there, what is rare is taken for a frequent class
    assert has_color(found, BLUE)


@pytest.mark.parametrize("own", [None, "f"])
def test_groups_are_those_of_the_run_whatever_the_annotations_say(
    own: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    json_file, images = write_data(tmp_path / "data")
    content = json.loads(json_file.read_text())
    for category in content["categories"]:
        del category["frequency"]
        category.update({"frequency": own} if own else {})
    json_file.write_text(json.dumps(content))
    run = write_run(tmp_path / "run")
    run_command(
        "visualize results",
        [str(run), "--output", str(tmp_path / "pictures"), "--ground-truth"]
        + [str(json_file), "--images", str(images), "--min-score", "0.99"],
    )
    assert has_color(cv2.imread(str(tmp_path / "pictures" / "2.png"))[48:, :480], RED)
    assert "a score of 0.99 or more (--min-score); the highest has 0.95." in caplog.text


def test_thresholds_below_the_scores_that_are_drawn_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, images = write_data(tmp_path / "data")
    run = write_run(tmp_path / "run")
    words = [str(run), "--output", str(tmp_path / "pictures"), "--num-images", "1"]
    words += ["--ground-truth", str(json_file), "--images", str(images)]
    for text, said in (("0.9\n0.0062\n", True), ("0.9\n0.3\n", False)):
        (run / "thresholds.csv").write_text(f"threshold\n{text}")
        run_command("visualize results", words)
        out = capsys.readouterr().out
        assert (f"thresholds in {run / 'thresholds.csv'} begin at 0.0062" in out) == said
    (run / "thresholds.csv").write_text("threshold\nx\n")
    with pytest.raises(SystemExit, match="a number as threshold of each class in .*thresholds.csv"):
        run_command("visualize results", words)


def test_images_are_found_as_the_run_found_them(tmp_path: Path) -> None:
    json_file, images = write_data(tmp_path / "data")
    images.rename(tmp_path / "moved")
    images.mkdir()
    (tmp_path / "moved").rename(images / "below")
    run = write_run(tmp_path / "run")
    arguments = [str(run), "--output", str(tmp_path / "pictures"), "--ground-truth"]
    arguments += [str(json_file), "--images", str(images)]
    page = ["--ground-truth", str(json_file), "--images", str(images), "--resamples", "0"]
    with pytest.raises(SystemExit, match="Expected an image at"):
        run_command("visualize results", arguments)
    record = json.loads((run / "results.json").read_text())
    record["config"] += "DATASETS:\n  MATCH_FILE_NAMES: basename\n"
    (run / "results.json").write_text(json.dumps(record))
    run_command("visualize results", arguments)
    assert len(list((tmp_path / "pictures").iterdir())) == NUM_IMAGES
    run_command("report", [str(run), *page])
    assert "data:image/" in (run / "report.html").read_text()


def test_page_and_pictures_have_one_palette() -> None:
    style = (ROOT / "balms_seg" / "report" / "page.css").read_text()
    shown = dict(
        re.findall(r"--(rare|common|frequent): #([0-9a-f]{6})", style.partition("@media")[0])
    )
    assert [tuple(bytes.fromhex(value)) for value in shown.values()] == [*GROUP_COLORS]


def test_detections_of_another_data_set_are_an_error(tmp_path: Path) -> None:
    json_file, images = write_data(tmp_path / "data")
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{**predictions()[0], "image_id": 999}]))
    arguments = [str(results), "--output", str(tmp_path / "pictures"), "--images", str(images)]
    with pytest.raises(SystemExit, match="has 999, the ground truth .1, 2"):
        run_command("visualize results", [*arguments, "--ground-truth", str(json_file)])
    with pytest.raises(SystemExit, match=r"which annotations it is of; give --ground-truth JSON\."):
        run_command("visualize results", arguments)


def draw(tmp_path: Path, found: list[dict]) -> np.ndarray:
    """The picture of the second image with these detections."""
    json_file, images = write_data(tmp_path / "data")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    arguments = [str(results), "--output", str(tmp_path / "pictures"), "--images", str(images)]
    run_command("visualize results", [*arguments, "--ground-truth", str(json_file)])
    return cv2.imread(str(tmp_path / "pictures" / "2.png"))


def test_damaged_masks_are_a_line_before_they_are_drawn(tmp_path: Path) -> None:
    found = predictions()
    found[4]["segmentation"] = {"size": [SIDE_PX, SIDE_PX], "counts": "l1"}
    with pytest.raises(SystemExit, match="Detection 4 .*counts.* runs that sum to"):
        draw(tmp_path, found)


def test_ids_as_text_and_masks_without_boxes_are_drawn(tmp_path: Path) -> None:
    found = [{**one, "image_id": str(one["image_id"])} for one in predictions()]
    for one in found:
        del one["bbox"]
    assert has_color(draw(tmp_path, found)[:, -480:], BLUE)


def test_a_box_that_ends_above_the_image_covers_nothing() -> None:
    content = annotations()
    categories = {category["id"]: category for category in content["categories"]}
    pixels = np.full((64, 64, 3), 90, np.uint8)
    above = {"category_id": 4, "bbox": [10.0, -30.0, 20.0, 20.0]}
    drawn = draw_instances(pixels, [above], categories, scale=4.0)
    assert (drawn[100:] == 90).all()


def test_deep_images_are_scaled_as_in_training(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 2048, np.uint16)).save(tmp_path / "deep.png")
    pixels = read_image(str(tmp_path / "deep.png"), (0, 4095))
    assert (pixels == 128).all()


def test_a_name_that_is_no_text_is_drawn() -> None:
    """json can hold half of a surrogate pair, on which OpenCV crashes."""
    categories = {4: {"id": 4, "name": "eel\ud800", "frequency": "r"}}
    found = {"category_id": 4, "bbox": [10.0, 10.0, 20.0, 20.0]}
    drawn = draw_instances(np.full((64, 64, 3), 90, np.uint8), [found], categories, scale=4.0)
    assert has_color(drawn, RED)
