"""COCO- and LVIS-style annotations as detectron2 dataset dicts."""

from __future__ import annotations

import logging
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from balms_seg.annotations.annotation_file import (
    FREQUENCIES,
    LVIS_IMAGE_FIELDS,
    AnnotationError,
    AnnotationFile,
    read_annotation_file,
    shortened,
)
from balms_seg.annotations.json_file import paused_garbage_collection

logger = logging.getLogger(__name__)

# LVIS v0.5 keeps the names of COCO 2014, while the images are used from the 2017 folders.
_COCO_2014_NAME = re.compile(r"COCO_(train|val|test)2014_\d+\.\w+")
# Points closer than this count as one, and points this close to a line as lying on it.
_TOLERANCE_PX = 1e-3


def load_annotations(
    json_file: str | Path, image_root: str | Path, dataset_name: str | None = None
) -> list[dict[str, Any]]:
    """Read a COCO- or LVIS-style json as detectron2 dataset dicts.

    Category ids need not be contiguous; `category_id`, `neg_category_ids` and
    `not_exhaustive_category_ids` of the result are indices of the classes ordered by id.
    Polygons with fewer than three points or without extent are dropped, and so is an instance
    that keeps none or whose box is empty; its image stays. An image without LVIS's two lists counts
    as annotated completely; the result then leaves them out as well.

    Args:
        json_file: COCO- or LVIS-style annotations.
        image_root: folder that the images' `file_name` is relative to. Where LVIS gives only
            `coco_url`, its last two parts (`train2017/000000000009.jpg`) are.
        dataset_name: if given, the metadata of this data set are set, as detectron2's loaders do.

    Returns:
        One dict an image, ordered by image id, with `file_name`, `image_id`, `height`, `width`
        (px) and `annotations`: `bbox` (x, y, width, height in px), `bbox_mode`, `category_id`,
        and where the json has them `iscrowd` and `segmentation` (polygons or compressed RLE).

    Raises:
        FileNotFoundError: there is no such json.
        AnnotationError: the json cannot be used; see `read_annotation_file`.
    """
    with paused_garbage_collection():
        file = read_annotation_file(json_file)
        records = to_dataset_dicts(file, str(image_root))
    metadata = file_metadata(file)
    if dataset_name is not None:
        from balms_seg.data.instances.registration import set_loaded_metadata

        set_loaded_metadata(dataset_name, metadata)
    warn_about_missing_fields(file)
    logger.info(
        "Loaded %d images with %d instances of %d classes from %s.",
        len(records),
        sum(len(record["annotations"]) for record in records),
        len(file.categories),
        file.path,
    )
    return records


def to_dataset_dicts(file: AnnotationFile, image_root: str) -> list[dict[str, Any]]:
    """Make detectron2 dataset dicts of a checked file; see `load_annotations`."""
    is_lvis_style, contiguous_ids = file.is_lvis_style, file.contiguous_ids
    dropped: Counter[str] = Counter()
    records = []
    for image in file.images:
        instances = (
            _instance(annotation, contiguous_ids, image, file, dropped)
            for annotation in file.annotations[image["id"]]
        )
        record = {
            "file_name": _image_path(image, image_root, is_lvis_style, file),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": [instance for instance in instances if instance is not None],
        }
        for name in LVIS_IMAGE_FIELDS:
            if name in image:
                record[name] = _contiguous(image[name], contiguous_ids, name, dropped)
        records.append(record)
    if dropped:
        logger.warning(
            "Dropped from %s: %s. The images stay; nothing dropped is trained on or counted.",
            file.path,
            ", ".join(f"{count} {what}" for what, count in sorted(dropped.items())),
        )
    return records


def file_metadata(file: AnnotationFile) -> dict[str, Any]:
    """Metadata that the json decides, under detectron2's names.

    Returns:
        `thing_classes`, `thing_dataset_id_to_contiguous_id`, `evaluator_type` ("lvis" with LVIS's
        fields, else "long_tailed"), `class_frequency` ("r", "c" or "f" a class; None without the
        field), `class_image_count` (dicts of `id`, `image_count` and perhaps `instance_count`;
        None without the field).
    """
    categories = file.categories
    frequency = None
    if all("frequency" in category for category in categories):
        frequency = [category["frequency"] for category in categories]
        unknown = sorted({str(value) for value in frequency} - set(FREQUENCIES))
        if unknown:
            raise AnnotationError(
                f"{file.path} has categories of frequency {shortened(unknown)}; expected 'r', 'c' "
                "or 'f', or no frequency at all."
            )
    counts = None
    if all("image_count" in category for category in categories):
        names = ("id", "image_count", "instance_count")
        counts = [{name: c[name] for name in names if name in c} for c in categories]
    return {
        "thing_classes": [category["name"] for category in categories],
        "thing_dataset_id_to_contiguous_id": file.contiguous_ids,
        "evaluator_type": "lvis" if file.is_lvis_style else "long_tailed",
        "class_frequency": frequency,
        "class_image_count": counts,
    }


def warn_about_missing_fields(file: AnnotationFile) -> None:
    """Log one warning that says what stands in for the LVIS fields that the file lacks."""
    parts = []
    for name, meaning in _DEFAULTS.items():
        items = file.images if name in LVIS_IMAGE_FIELDS else file.categories
        num_without = sum(name not in item for item in items)
        if num_without:
            kind = "images" if name in LVIS_IMAGE_FIELDS else "categories"
            some = "" if num_without == len(items) else f" in {num_without} of {len(items)} {kind}"
            parts.append(f"no {name}{some} ({meaning})")
    if parts:
        logger.warning("%s has %s.", file.path, "; ".join(parts))


_DEFAULTS = {
    "frequency": "classes are grouped by their number of training images: rare 1-10, common "
    "11-100, frequent above",
    "image_count": "counted from the annotations",
    "neg_category_ids": "every class without an annotation in an image counts as absent from it, "
    "so a detection of it is a false positive",
    "not_exhaustive_category_ids": "every instance of an annotated class counts as annotated, so "
    "an unmatched detection is a false positive",
}


def _image_path(
    image: dict[str, Any], image_root: str, is_lvis_style: bool, file: AnnotationFile
) -> str:
    name, url = image.get("file_name"), image.get("coco_url")
    if name and not (url and is_lvis_style and _COCO_2014_NAME.fullmatch(name)):
        return os.path.join(image_root, name)
    if not url:
        raise AnnotationError(
            f"Image {image['id']} in {file.path} has neither file_name nor coco_url."
        )
    return os.path.join(image_root, *url.split("/")[-2:])


def _contiguous(
    ids: list[int], contiguous_ids: dict[int, int], name: str, dropped: Counter[str]
) -> list[int]:
    known = [contiguous_ids[value] for value in ids if value in contiguous_ids]
    if len(known) < len(ids):
        dropped[f"{name} that are not among the categories"] += len(ids) - len(known)
    return known


def _instance(
    annotation: dict[str, Any],
    contiguous_ids: dict[int, int],
    image: dict[str, Any],
    file: AnnotationFile,
    dropped: Counter[str],
) -> dict[str, Any] | None:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        segmentation = _compressed(segmentation)
    elif segmentation:
        polygons = [polygon for polygon in segmentation if has_extent(polygon)]
        if not polygons:
            dropped["instances whose polygons have no extent"] += 1
            return None
        if len(polygons) < len(segmentation):
            dropped["polygons without extent"] += len(segmentation) - len(polygons)
        segmentation = polygons
    box = annotation.get("bbox") or _polygon_box(segmentation)
    if box is None or len(box) != 4:
        raise AnnotationError(
            f"Annotation {annotation.get('id', '?')} of image {image['id']} in {file.path} has "
            f"bbox {annotation.get('bbox')!r}; expected [x, y, width, height] in pixels."
        )
    if not (box[2] > 0 and box[3] > 0):
        dropped["instances with an empty box"] += 1
        return None
    instance = {
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": contiguous_ids[annotation["category_id"]],
    }
    if "iscrowd" in annotation:
        instance["iscrowd"] = annotation["iscrowd"]
    if segmentation:
        instance["segmentation"] = segmentation
    return instance


def has_extent(polygon: list[float]) -> bool:
    """Whether [x0, y0, x1, y1, ...] has three points that do not lie on one line."""
    if len(polygon) < 6 or len(polygon) % 2:
        return False
    x0, y0 = polygon[0], polygon[1]
    dx = dy = length = 0.0  # from the first point to the first one that is away from it
    for x, y in zip(polygon[2::2], polygon[3::2], strict=True):
        if length == 0.0:
            distance = math.hypot(x - x0, y - y0)
            if distance > _TOLERANCE_PX:
                dx, dy, length = x - x0, y - y0, distance
        elif abs(dx * (y - y0) - dy * (x - x0)) > _TOLERANCE_PX * length:
            return True
    return False


def _polygon_box(segmentation: Any) -> list[float] | None:
    if not isinstance(segmentation, list) or not segmentation:
        return None
    xs = [x for polygon in segmentation for x in polygon[0::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _compressed(rle: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(rle["counts"], list):
        return rle
    import pycocotools.mask

    return pycocotools.mask.frPyObjects(rle, *rle["size"])
