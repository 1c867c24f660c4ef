"""Every reader of annotation and result files in this project, and what it is held against."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

_KEYS = {"bbox": "bbox", "segm": "segmentation"}


@dataclass(frozen=True)
class Files:
    """What is read.

    Attributes:
        annotations: a json.
        results: detections on it.
        images: folder of its images.
    """

    annotations: Path
    results: Path
    images: Path


def count_classes(files: Files) -> None:
    """The class statistics, which count what is trained on."""
    from balms_seg.class_statistics import ClassStatistics

    for with_masks in (None, False):
        ClassStatistics.from_json(files.annotations, with_masks=with_masks)


def make_dicts(files: Files) -> None:
    """All dataset dicts, their masks decoded as in training; they have to hold what is counted."""
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.data.instances.dataset_dicts import load_annotations
    from balms_seg.evaluation.lvis.masks import segmentation_to_rle

    dicts = load_annotations(files.annotations, files.images)
    for with_masks in (False, True):
        taken = dicts.with_masks(with_masks)
        number = 0
        for record in taken:
            size = record["height"], record["width"]
            objects = [one for one in record["annotations"] if not one.get("iscrowd")]
            number += len(objects)
            for one in record["annotations"]:
                if with_masks and "segmentation" in one:
                    mask = segmentation_to_rle(one["segmentation"], size)
                    assert mask_utils.decode(mask).shape == size
        counted = ClassStatistics.from_json(files.annotations, with_masks=with_masks)
        assert number == counted.instance_counts.sum(), (number, counted.instance_counts)


def evaluate(files: Files) -> dict[str, float]:
    """AP of boxes and masks."""
    from balms_seg.evaluation import evaluate_lvis, load_ground_truth
    from balms_seg.evaluation.predictions.stored_detections import read_stored_detections

    truth = load_ground_truth(files.annotations, image_root=str(files.images))
    stored = read_stored_detections(files.results, truth)
    return {
        task: evaluate_lvis(truth, stored.of_task(task), task).metrics["AP"]
        for task in ("bbox", "segm")
    }


def evaluate_boxes(files: Files) -> float:
    """AP of boxes where masks play no part."""
    from balms_seg.evaluation import evaluate_lvis, load_ground_truth
    from balms_seg.evaluation.predictions.stored_detections import read_stored_detections

    truth = load_ground_truth(files.annotations, image_root=str(files.images))
    stored = read_stored_detections(files.results, truth, with_masks=False)
    return evaluate_lvis(truth, stored.boxes, "bbox").metrics["AP"]


def draw_report(files: Files) -> None:
    """The pictures of a report, and what became of each object."""
    import cv2

    from balms_seg.evaluation import load_ground_truth
    from balms_seg.evaluation.predictions.stored_detections import read_stored_detections
    from balms_seg.report.object_fates import find_fates
    from balms_seg.report.pictures import PictureSources, draw_sheet

    cv2.setNumThreads(0)  # threads do not come along into a forked process
    picture = files.results.with_suffix(".png")
    sources = PictureSources.read(files.annotations, files.images, files.results, num_images=2)
    draw_sheet(sources, picture)
    truth = load_ground_truth(files.annotations, image_root=str(files.images))
    table = read_stored_detections(files.results, truth).masks
    shaped = table.take(np.flatnonzero(table.has_shape("segm")))
    find_fates(truth, shaped, "segm")


READERS: dict[str, Callable[[Files], Any]] = {
    "statistics": count_classes,
    "dicts": make_dicts,
    "evaluation": evaluate,
    "boxes": evaluate_boxes,
    "report": draw_report,
}


def read_by_reference(
    content: dict[str, Any], detections: list[Any], tasks: Sequence[str]
) -> dict[str, float]:
    """AP of each task by lvis-api, or by pycocotools for a file without LVIS's lists.

    Detections without the shape of a task are left out: these two would take the box of the mask,
    if the first detection of the file has none.
    """
    if any("neg_category_ids" in image for image in content["images"]):
        from balms_seg.evaluation.lvis.lvis_backend import run_lvis_api

        values = {}
        for task in tasks:
            key = _KEYS[task]
            fields = ("image_id", "category_id", "score", key)
            found = [{name: one[name] for name in fields} for one in detections if one.get(key)]
            precision, _ = run_lvis_api(copy.deepcopy(content), found, task)
            values[task] = float(np.nanmean(precision[:, :, :, 0]))
        return values
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    values = {}
    for task in tasks:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(content)
            truth.createIndex()
            found = [copy.deepcopy(one) for one in detections if one.get(_KEYS[task])]
            if task == "segm":
                found = [{k: v for k, v in one.items() if k != "bbox"} for one in found]
            evaluation = COCOeval(truth, truth.loadRes(found), task)
            evaluation.params.maxDets = [1, 10, 300]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        values[task] = float(precision[precision > -1].mean())
    return values


def meant(content: Any) -> Any:
    """The file as it should have been written: ids that are text or floats as integers."""
    if isinstance(content, dict):
        return {
            key: _integer(value) if key in ("id", "image_id", "category_id") else meant(value)
            for key, value in content.items()
        }
    return [meant(entry) for entry in content] if isinstance(content, list) else content


def _integer(value: Any) -> Any:
    try:
        return int(float(value)) if float(value).is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return value
