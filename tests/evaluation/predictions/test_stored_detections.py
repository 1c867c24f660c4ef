"""A result file gives the tables of what is in it, whichever program wrote it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils
import pytest
from lvis_cases import (
    annotation,
    dataset,
    detection,
    random_case,
    rectangle,
    run_lvis_api,
    to_rle,
)

from balms_seg.annotations import json_list
from balms_seg.evaluation import evaluate_lvis, load_ground_truth
from balms_seg.evaluation.evaluate_file import evaluate_file
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.evaluation_set import EvaluationSet
from balms_seg.evaluation.lvis.pooled_ap import fixed_and_pooled_ap
from balms_seg.evaluation.predictions import stored_detections as module
from balms_seg.evaluation.predictions.stored_detections import (
    StoredDetections,
    read_stored_detections,
)

BOX = [10.0, 10.0, 20.0, 20.0]
Content = dict[str, Any]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_list, "BATCH_BYTES", 4096)


@pytest.fixture(scope="module")
def case() -> tuple[Content, list[Content]]:
    """Ground truth with names of images, and noisy detections in no order."""
    content, detections = random_case(3)
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"photos/{number:06d}.jpg"
    return content, detections


def stored(folder: Path, content: Content, found: Any, **options: Any) -> StoredDetections:
    path = folder / "found.json"
    path.write_text(json.dumps(found))
    return read_stored_detections(path, load_ground_truth(content), **options)


def assert_same_tables(
    found: StoredDetections, content: Content, detections: list[Content], **options: Any
) -> None:
    """Of both tasks, as of the detections in memory."""
    for task in ("bbox", "segm"):
        expected = evaluate_lvis(content, detections, task, **options)
        tables = evaluate_lvis(content, found.of_task(task), task, **options)
        np.testing.assert_array_equal(tables.precision, expected.precision)
        np.testing.assert_array_equal(tables.recall, expected.recall)


@pytest.mark.parametrize("max_detections", [300, 5])
def test_a_file_read_in_parts_gives_the_tables_of_lvis_api(
    max_detections: int,
    case: tuple[Content, list[Content]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, detections = case
    found = stored(tmp_path, content, detections)
    assert len(found) == len(detections)
    assert found.shape_keys == ("bbox", "segmentation")
    assert_same_tables(found, content, detections, max_detections=max_detections)
    pytest.importorskip("lvis")
    for task in ("bbox", "segm"):
        theirs = run_lvis_api(
            content, detections, task, monkeypatch, max_detections=max_detections
        ).eval["precision"]
        ours = evaluate_lvis(content, found.of_task(task), task, max_detections=max_detections)
        np.testing.assert_array_equal(ours.precision, np.where(theirs < 0, np.nan, theirs))


@pytest.mark.parametrize("max_per_class", [1, 10, 10_000])
def test_fixed_and_pooled_ap_are_those_of_the_detections(
    max_per_class: int, case: tuple[Content, list[Content]], tmp_path: Path
) -> None:
    content, detections = case
    truth = load_ground_truth(content)
    expected = fixed_and_pooled_ap(truth, detections, "bbox", max_per_class=max_per_class)
    table = stored(tmp_path, content, detections).boxes
    assert fixed_and_pooled_ap(truth, table, "bbox", max_per_class=max_per_class) == expected


def of_each(change: Callable[[Content], Content]) -> Callable[[Any, Any], Any]:
    return lambda content, found: [{**one, **change(one)} for one in found]


def by_name(read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def change(content: Content, found: list[Content]) -> list[Content]:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        return [{**one, "image_id": read(names[one["image_id"]])} for one in found]

    return change


def runs_of(mask: Content) -> Content:
    flat = mask_utils.decode(mask).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return {"size": mask["size"], "counts": np.diff(edges, prepend=0).tolist()}


OTHER_PROGRAMS = {
    "ids as text": of_each(lambda d: {"image_id": str(d["image_id"])}),
    "ids as floats": of_each(lambda d: {"category_id": float(d["category_id"])}),
    "numbers as text": of_each(
        lambda d: {"bbox": [str(v) for v in d["bbox"]], "score": str(d["score"])}
    ),
    "file names": by_name(str),
    "last parts": by_name(lambda name: name.removeprefix("photos/")),
    "foreign folders": by_name(lambda name: "C:\\elsewhere\\" + Path(name).name),
    "stems": by_name(lambda name: Path(name).stem),
    "stems as numbers": by_name(lambda name: int(Path(name).stem)),
    "runs as lists": of_each(lambda d: {"segmentation": runs_of(d["segmentation"])}),
    "rle in a list": of_each(lambda d: {"segmentation": [d["segmentation"]]}),
    "ids of their own, joined from two files": lambda content, found: [
        {**one, "id": number % 7} for number, one in enumerate(found)
    ],
    "boxes and masks alternate": lambda content, found: [
        {key: value for key, value in one.items() if key != left_out}
        for one in found
        for left_out in ("segmentation", "bbox")
    ],
}


@pytest.mark.parametrize("program", OTHER_PROGRAMS)
def test_files_of_other_programs_give_the_same_tables(
    program: str, case: tuple[Content, list[Content]], tmp_path: Path
) -> None:
    content, detections = case
    written = OTHER_PROGRAMS[program](content, copy.deepcopy(detections))
    assert_same_tables(stored(tmp_path, content, written), content, detections)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_taken_with_and_without_a_mark(
    encoding: str, case: tuple[Content, list[Content]], tmp_path: Path
) -> None:
    content, detections = case
    path = tmp_path / "found.json"
    path.write_text(json.dumps(detections), encoding=encoding)
    found = read_stored_detections(path, load_ground_truth(content))
    assert_same_tables(found, content, detections)


def test_polygons_are_drawn_whatever_form_they_have(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX)])
    ring = rectangle(*BOX)[0]
    points = [[x, y] for x, y in zip(ring[::2], ring[1::2], strict=True)]
    found = [
        {**detection(1, 1, BOX, 0.5), "segmentation": polygons}
        for polygons in ([ring], ring, [[], ring], points, [points], [ring, [1.0, 2.0]])
    ]
    table = stored(tmp_path, content, found).masks
    assert [table.masks[row] for row in range(len(found))] == [
        {**to_rle([ring]), "counts": to_rle([ring])["counts"].encode()}
    ] * len(found)


def test_a_mask_without_pixels_is_no_detection_of_masks(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX)])
    empty = {**detection(1, 1, BOX, 0.9), "segmentation": [[]]}
    right = detection(1, 1, BOX, 0.5)
    found = stored(tmp_path, content, [empty, right])
    assert evaluate_lvis(content, found.masks, "segm").metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize("given", ["out", "out.bbox.json", "out.segm.json"])
def test_mmdetections_pair_is_read_whichever_is_given(
    given: str, case: tuple[Content, list[Content]], tmp_path: Path
) -> None:
    """It writes masks with scores of their own, and boxes beside them."""
    content, detections = case
    masks = [{**one, "score": one["score"] / 2, "bbox": [0, 0, 1, 1]} for one in detections[::2]]
    (tmp_path / "out.segm.json").write_text(json.dumps(masks))
    boxes = [{k: v for k, v in one.items() if k != "segmentation"} for one in detections]
    (tmp_path / "out.bbox.json").write_text(json.dumps(boxes))
    found = read_stored_detections(tmp_path / given, load_ground_truth(content))
    for task, expected in (("bbox", detections), ("segm", masks)):
        tables = evaluate_lvis(content, found.of_task(task), task)
        assert tables.metrics == evaluate_lvis(content, expected, task).metrics


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "out.pkl"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ValueError, match="is a pickle, which is not read.*outfile_prefix"):
        read_stored_detections(path, load_ground_truth(dataset([annotation(1, 1, BOX)])))


def test_names_of_images_are_said_in_one_line(
    case: tuple[Content, list[Content]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, detections = case
    found = by_name(lambda name: Path(name).stem)(content, detections)
    caplog.clear()
    stored(tmp_path, content, found)
    named = [r.getMessage() for r in caplog.records if "names images by" in r.getMessage()]
    assert len(named) == 1
    assert "file names without folder and suffix, such as '0000" in named[0]


def test_a_name_of_two_images_stands_for_neither(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX), annotation(2, 1, BOX)], num_images=2)
    for image, name in zip(content["images"], ("a/1.jpg", "b/1.jpg"), strict=True):
        image["file_name"] = name
    with pytest.raises(ValueError, match="none of the 1 detection has a known image_id"):
        stored(tmp_path, content, [{**detection(1, 1, BOX, 0.5), "image_id": "1.jpg"}])


def test_copies_are_kept_and_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = dataset([annotation(1, 1, BOX)])
    one = detection(1, 1, BOX, 0.5)
    other = {**one, "segmentation": detection(1, 1, [0.0, 0.0, 9.0, 9.0], 0)["segmentation"]}
    found = stored(tmp_path, content, [one, other, one, one, {**one, "score": 0.25}])
    assert len(found) == 5
    copies = [r.getMessage() for r in caplog.records if "copies" in r.getMessage()]
    assert len(copies) == 1
    assert copies[0].startswith("Of 5 detections in ")
    assert "json: 2 exact copies of others (kept" in copies[0]


def damaged(content: str | bytes) -> Content:
    return {"size": [64, 64], "counts": content}


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (damaged(to_rle(rectangle(*BOX))["counts"][:-1]), "runs sum to|cut short"),
        (damaged("0"), "runs sum to 0"),
        (damaged("o" * 40), "cut short or no RLE"),
        (damaged("é"), "cut short or no RLE"),
        (damaged("9999"), "runs sum to"),
        ({"size": [64, 64], "counts": [64]}, "sum to 64"),
        ({"size": [64, 64], "counts": None}, "counts"),
        ({"size": [2**31, 2**31], "counts": "0"}, "pixels|size"),
        ({"counts": "0"}, "size"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "near the image"),
        ([[0, 0, float("nan"), 0, 9, 9]], "near the image"),
        ([[0, 0, 9, 0, 9, 9, 9]], "no list of x and y"),
        ("abc", "polygons or RLE"),
    ],
)
def test_damaged_masks_are_named_before_c_code_sees_them(
    mask: Any, reason: str, tmp_path: Path
) -> None:
    content = dataset([annotation(1, 1, BOX)])
    good = detection(1, 1, BOX, 0.5)
    found = [good, {**good, "segmentation": mask}]
    with pytest.raises(ValueError, match=f"Detection 1 in .*found.json.*({reason})"):
        stored(tmp_path, content, found)
    boxes = stored(tmp_path, content, found, with_masks=False).boxes
    assert evaluate_lvis(content, boxes, "bbox").metrics["AP"] == pytest.approx(1)


def test_faults_of_any_batch_are_named_by_their_position(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX)])
    good = detection(1, 1, BOX, 0.5)
    for bad, message in [
        ({**good, "score": float("nan")}, "Detection 99 .* finite scores"),
        ({**good, "category_id": 77}, "1 of 100 detections .*: #99 category_id 77"),
        ({**good, "image_id": True}, "Detection 99 .* image_id True; expected an integer"),
        ({**good, "image_id": [1]}, "Detection 99 .* image_id"),
        ({**good, "bbox": {"x": 1}}, "Detection 99 .* bbox"),
        (
            {**good, "segmentation": {"size": [64, 64]}},
            "counts None; expected.* It is \\{.image_id.: 1",
        ),
        ({"image_id": 1}, "Detection 99 .*'category_id' in each"),
        (None, "Detection 99 .* an object"),
    ]:
        with pytest.raises(ValueError, match=message):
            stored(tmp_path, content, [*[good] * 99, bad])


def test_detections_of_one_shape_are_evaluated_where_they_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = dataset([annotation(1, 1, BOX)])
    good = detection(1, 1, BOX, 0.5)
    path = tmp_path / "found.json"
    path.write_text(json.dumps([good, {k: v for k, v in good.items() if k != "bbox"}]))
    truth = load_ground_truth(content)
    evaluation_set = EvaluationSet("val", truth, TrainingCounts.from_entries(content["categories"]))
    text = evaluate_file(path, evaluation_set, fixed=True)
    assert "| bbox " in text
    assert "| segm " in text
    assert caplog.text.count("1 without a box (no part of the AP of bbox)") == 1
    assert "AP_fixed" in text
    assert "AP_fixed" not in evaluate_file(path, evaluation_set, tasks=("bbox",))


def test_too_little_memory_is_said_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = dataset([annotation(1, 1, BOX)])
    assert module.available_memory_bytes() is None or module.available_memory_bytes() > 1 << 20
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 20_000)
    monkeypatch.setattr(module, "iterate_entries", lambda *_: pytest.fail("read all the same"))
    with pytest.raises(ValueError, match="room for the detections .*GiB of memory remain"):
        stored(tmp_path, content, [detection(1, 1, BOX, 0.5)] * 100)
