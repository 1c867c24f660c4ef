import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case

from balms_seg.evaluation import evaluate_lvis, load_ground_truth
from balms_seg.evaluation.lvis.pooled_ap import fixed_and_pooled_ap
from balms_seg.evaluation.predictions.detection_stream import DetectionStream
from balms_seg.evaluation.predictions.prediction_parts import (
    ImagePredictions,
    PartWriter,
    finished_images,
    part_path,
    parts_in,
    read_parts,
    remove_forgotten,
)

BOX = [10.0, 10.0, 20.0, 20.0]


def write_images(path: Path, image_ids: list[Any], fingerprint: str = "a", **options: Any) -> None:
    writer = PartWriter(path, fingerprint, **options)
    for image_id in image_ids:
        found = [{"image_id": image_id, "score": 0.1 + 0.2}]
        writer.write(ImagePredictions(image_id, True, found))
    writer.close()


def test_predictions_come_back_whole_and_in_order(tmp_path: Path) -> None:
    write_images(part_path(tmp_path, "a", 0), [3, "text", 1])
    write_images(part_path(tmp_path, "a", 1), [7, 3])
    paths = parts_in(tmp_path, "a")
    images = list(read_parts(paths, "a"))
    assert [image.image_id for image in images] == [3, "text", 1, 7]
    assert images[0].detections == [{"image_id": 3, "score": 0.1 + 0.2}]
    assert all(image.has_masks for image in images)


def test_a_new_part_truncates_the_old_and_a_kept_one_goes_on(tmp_path: Path) -> None:
    path = part_path(tmp_path, "a", 0)
    write_images(path, [1, 2])
    write_images(path, [3], keep=True)
    assert finished_images([path], "a") == {1, 2, 3}
    write_images(path, [4], "b", keep=True)
    assert finished_images([path], "b") == {4}
    write_images(path, [5], "b")
    assert finished_images([path], "b") == {5}


def test_a_line_that_was_cut_off_is_predicted_anew(tmp_path: Path) -> None:
    path = part_path(tmp_path, "a", 0)
    write_images(path, [1, 2])
    path.write_bytes(path.read_bytes()[:-9])
    assert finished_images([path], "a") == {1}
    write_images(path, [2, 3], keep=True)
    assert [image.image_id for image in read_parts([path], "a")] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[1]\n", b'{"version": 0}\n'])
def test_what_is_no_part_is_written_anew(content: bytes, tmp_path: Path) -> None:
    path = part_path(tmp_path, "a", 0)
    path.write_bytes(content)
    assert finished_images([path], "a") == set()
    write_images(path, [1], keep=True)
    assert finished_images([path], "a") == {1}


def test_a_part_of_another_evaluation_is_an_error_not_a_gap(tmp_path: Path) -> None:
    for rank, fingerprint in enumerate(["a", "b"]):
        PartWriter(part_path(tmp_path, "a", rank), fingerprint).close()
    with pytest.raises(ValueError, match=r"predictions_a_1\.jsonl to hold predictions of this"):
        list(read_parts([part_path(tmp_path, "a", rank) for rank in (0, 1)], "a"))


def test_a_part_that_cannot_be_seen_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"predictions_a_1\.jsonl.*OUTPUT_DIR has to be"):
        list(read_parts([part_path(tmp_path, "a", 1)], "a"))


def streamed(
    content: dict[str, Any], detections: list[dict[str, Any]], **options: Any
) -> DetectionStream:
    stream = DetectionStream(load_ground_truth(content), **options)
    for image in content["images"]:
        own = [found for found in detections if found["image_id"] == image["id"]]
        stream.add(image["id"], own)
    return stream


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("max_detections", [300, 7])
def test_stream_keeps_what_the_evaluation_counts(task: str, max_detections: int) -> None:
    content, detections = random_case(3)
    stream = streamed(content, detections, max_detections=max_detections)
    assert len(stream.capped) < len(detections)
    expected = evaluate_lvis(content, detections, task, max_detections=max_detections)
    found = evaluate_lvis(content, stream.capped, task, max_detections=None)
    np.testing.assert_array_equal(found.precision, expected.precision)
    np.testing.assert_array_equal(found.recall, expected.recall)
    by_lvis_api = evaluate_lvis(content, stream.capped, task, max_detections=None, backend="lvis")
    np.testing.assert_array_equal(by_lvis_api.precision, expected.precision)


@pytest.mark.parametrize("max_per_class", [1, 10, 40, 10_000])
def test_stream_keeps_the_best_of_each_class_in_bounded_memory(max_per_class: int) -> None:
    content, detections = random_case(4)
    detections = [{**found, "score": 1 / (i + 2)} for i, found in enumerate(detections)]
    stream = streamed(content, detections, max_detections=3, max_per_class=max_per_class)
    assert max(len(best._entries) for best in stream._best) <= 2 * max_per_class
    ground_truth = load_ground_truth(content)
    expected = fixed_and_pooled_ap(ground_truth, detections, "bbox", max_per_class=max_per_class)
    found = fixed_and_pooled_ap(ground_truth, stream.best_of_classes(), "bbox")
    assert found == pytest.approx(expected, abs=1e-12)


def test_predictions_that_belong_nowhere_are_explained() -> None:
    stream = DetectionStream(
        load_ground_truth(dataset([annotation(1, 1, BOX)])), max_detections=300
    )
    stream.add(99, [])
    with pytest.raises(ValueError, match="image 99; evaluate on the data set"):
        stream.add(99, [detection(99, 1, BOX, 0.5)])
    with pytest.raises(ValueError, match="finite scores, but image 1 "):
        stream.add(1, [detection(1, 1, BOX, float("nan"))])


def test_files_hold_one_line_an_image(tmp_path: Path) -> None:
    write_images(part_path(tmp_path, "a", 0), [1, 2])
    lines = part_path(tmp_path, "a", 0).read_text().splitlines()
    assert [json.loads(line).get("image_id") for line in lines] == [None, 1, 2]


def test_evaluations_of_other_weights_write_beside_each_other(tmp_path: Path) -> None:
    writers = [PartWriter(part_path(tmp_path, name, 0), name) for name in ("a", "b")]
    for number, writer in enumerate(writers):
        writer.write(ImagePredictions(number, True, []))
    for number, (name, writer) in enumerate(zip("ab", writers, strict=True)):
        writer.close()
        assert [one.image_id for one in read_parts(parts_in(tmp_path, name), name)] == [number]


@pytest.mark.parametrize("keep", [True, False])
def test_a_second_writer_stops_before_it_destroys_anything(keep: bool, tmp_path: Path) -> None:
    path = part_path(tmp_path, "a", 0)
    first = PartWriter(path, "a")
    first.write(ImagePredictions(1, True, []))
    with pytest.raises(RuntimeError, match="Another process evaluates the same weights"):
        PartWriter(path, "a", keep=keep)
    first.write(ImagePredictions(2, True, []))
    first.close()
    assert finished_images([path], "a") == {1, 2}
    write_images(path, [3], keep=True)  # the first one is done
    assert finished_images([path], "a") == {1, 2, 3}


@pytest.mark.parametrize(
    "line",
    [
        b"{]",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b'{"image_id": 2}',
        b'{"image_id": 2, "has_masks": true, "detections": 7}',
        b'{"image_id": [2], "has_masks": true, "detections": []}',
        b"[" * 100000,
    ],
    ids=range(8),
)
def test_a_broken_line_is_named_and_its_image_predicted_again(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = part_path(tmp_path, "a", 0)
    write_images(path, [1, 2, 3])
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[3:], b""]))
    assert finished_images([path], "a") == {1, 3}
    assert f"Line 3 of {path} is broken" in caplog.text
    write_images(path, [2], keep=True)
    assert [one.image_id for one in read_parts([path], "a")] == [1, 3, 2]


@pytest.mark.parametrize("line", [b'{"version": 1, "fing', b"[" * 100_000])
def test_a_file_whose_first_line_is_broken_is_named_and_written_anew(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = part_path(tmp_path, "a", 0)
    write_images(path, [1, 2])
    path.write_bytes(b"\n".join([line, *path.read_bytes().splitlines()[1:], b""]))
    assert finished_images([path], "a") == set()
    assert f"The first line of {path} is broken" in caplog.text
    write_images(path, [3], keep=True)
    assert [one.image_id for one in read_parts([path], "a")] == [3]


def test_parts_that_nobody_takes_up_are_removed_after_a_week(tmp_path: Path) -> None:
    old, new = part_path(tmp_path, "a", 0), part_path(tmp_path, "b", 0)
    for path in (old, new):
        write_images(path, [1])
    os.utime(old, (0, 0))
    remove_forgotten(tmp_path)
    assert sorted(tmp_path.iterdir()) == [new]
