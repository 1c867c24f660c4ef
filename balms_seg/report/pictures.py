"""Pictures of detections beside the ground truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from balms_seg.annotations import annotation_content, image_content, read_annotations
from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.predictions.detection_file import iterate_detections
from balms_seg.progress import with_progress

_TILE_PX = 320  # longer side of an image on the sheet
_SMALLEST_SIDE_PX = 480  # longer side of a picture of its own; smaller images are enlarged
_MARGIN_PX = 6
_CAPTION_PX = 24
_OPACITY = 0.45
# BGR of the frequency groups.
_GROUP_COLORS = {
    letter: color[::-1] for letter, color in zip(FREQUENCY_GROUPS, GROUP_COLORS, strict=True)
}
_OTHER_COLOR = (120, 120, 120)


def draw_predictions(
    ground_truth_json: str | Path,
    image_root: str | Path,
    detections_json: str | Path,
    path: str | Path,
    *,
    num_images: int = 8,
    min_score: float = 0.3,
) -> None:
    """Draw a sheet of images, ground truth on the left and detections on the right of each.

    Colours tell the frequency group of a class: red rare, orange common, blue frequent. Images with
    the most instances of rare classes come first.

    Args:
        ground_truth_json: COCO- or LVIS-style annotations.
        image_root: folder of the images.
        detections_json: LVIS results: image_id, category_id, bbox (xywh, px), score, segmentation.
        path: PNG to write.
        num_images: how many images, two a row.
        min_score: detections below it are not drawn.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the detections are of other images or classes than the ground truth.
    """
    sources = _Sources.read(
        ground_truth_json,
        image_root,
        detections_json,
        num_images=num_images,
        min_score=min_score,
    )
    tiles = [
        np.concatenate([_framed(side) for side in pair], axis=1)
        for _, pair in sources.draw_pairs(lambda longer_px: _TILE_PX / longer_px)
    ]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), _sheet(tiles))


def draw_each_image(
    ground_truth_json: str | Path,
    image_root: str | Path,
    detections_json: str | Path,
    output_dir: str | Path,
    *,
    num_images: int = 50,
    min_score: float = 0.3,
    with_group: bool = False,
) -> list[Path]:
    """Draw one picture an image, ground truth on the left and detections on the right.

    Images with the most instances of rare classes come first; small ones are enlarged.

    Args:
        ground_truth_json: as for `draw_predictions`, and so what follows.
        image_root: folder of the images.
        detections_json: LVIS results.
        output_dir: where the pictures go.
        num_images: how many at most.
        min_score: detections below it are not drawn.
        with_group: say the frequency group in the labels.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the detections are of other images or classes than the ground truth.
    """
    sources = _Sources.read(
        ground_truth_json,
        image_root,
        detections_json,
        num_images=num_images,
        min_score=min_score,
    )
    written = []
    pairs = sources.draw_pairs(
        lambda longer_px: max(_SMALLEST_SIDE_PX / longer_px, 1.0), with_group=with_group
    )
    for image, pair in with_progress(pairs, label="drawing", unit="image", total=num_images):
        gap = np.full((pair[0].shape[0], _MARGIN_PX, 3), 255, dtype=np.uint8)
        path = Path(output_dir) / Path(image["file_name"]).with_suffix(".png").name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.concatenate([pair[0], gap, pair[1]], axis=1))
        written.append(path)
    return written


@dataclass(frozen=True, eq=False)
class _Sources:
    """The images to draw, those with the most rare instances first, and what is drawn on them."""

    images: list[dict[str, Any]]
    categories: dict[int, dict[str, Any]]
    annotations: Mapping[Any, list[dict[str, Any]]]
    detections: Mapping[Any, list[dict[str, Any]]]
    image_root: Path

    @classmethod
    def read(
        cls,
        ground_truth_json: str | Path,
        image_root: str | Path,
        detections_json: str | Path,
        *,
        num_images: int,
        min_score: float,
    ) -> _Sources:
        truth = read_annotations(ground_truth_json)
        categories = {category["id"]: category for category in truth.facts.categories}
        is_rare = np.array([letter == "r" for letter in truth.frequency])
        num_rare = np.bincount(truth.images[is_rare[truth.classes]], minlength=len(truth.by_image))
        places = np.argsort(-num_rare, kind="stable")[:num_images].tolist()
        images = [image_content(truth, place) for place in places]
        annotations = {
            truth.image_table.ids[place]: [
                annotation_content(truth, row) for row in truth.by_image[place].tolist()
            ]
            for place in places
        }
        detections = defaultdict(list)
        known, chosen = set(truth.image_table.ids.to_list()), set(annotations)
        for detection in chain.from_iterable(iterate_detections(detections_json)):
            if detection["image_id"] not in known or detection["category_id"] not in categories:
                raise ValueError(
                    f"Expected {detections_json} to hold detections on the images and classes of "
                    f"{ground_truth_json}, but one is of image {detection['image_id']} and class "
                    f"{detection['category_id']}; give the annotations that belong to them."
                )
            if detection["score"] >= min_score and detection["image_id"] in chosen:
                detections[detection["image_id"]].append(detection)
        return cls(images, categories, annotations, detections, Path(image_root))

    def draw_pairs(
        self, scale_of: Callable[[int], float], *, with_group: bool = False
    ) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
        """Each image, with ground truth and with detections; `scale_of` its longer side in px."""
        for image in self.images:
            pixels = read_image(self.image_root, image)
            scale = scale_of(max(pixels.shape[:2]))
            pair = [
                draw_instances(pixels, own, self.categories, scale=scale, with_group=with_group)
                for own in (self.annotations[image["id"]], self.detections[image["id"]])
            ]
            yield image, pair


def read_image(image_root: Path, image: Mapping[str, Any]) -> np.ndarray:
    """(H, W, 3) BGR pixels of an image of the annotations.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be read.
    """
    path = image_root / image["file_name"]
    pixels = cv2.imread(str(path)) if path.is_file() else None
    if pixels is None:
        raise FileNotFoundError(f"Expected an image at {path}, but it cannot be read.")
    return pixels


def draw_instances(
    pixels: np.ndarray,
    instances: Sequence[Mapping[str, Any]],
    categories: Mapping[int, Mapping[str, Any]],
    *,
    scale: float = 1.0,
    focus: Mapping[str, Any] | None = None,
    with_group: bool = False,
) -> np.ndarray:
    """Masks, outlines and names over an enlarged image.

    Args:
        pixels: (H, W, 3) BGR.
        instances: annotations or detections: category_id, bbox (xywh, px), segmentation, score.
        categories: entries of the json per category id.
        scale: pixels of the result per pixel of the image.
        focus: the one instance to fill and label; the others are outlined only. None: all.
        with_group: say the frequency group in the label.

    Returns:
        (round(H * scale), round(W * scale), 3) BGR.
    """
    height, width = pixels.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    labels = []
    for instance in sorted(instances, key=lambda one: one is focus):
        category = categories[instance["category_id"]]
        color = _GROUP_COLORS.get(category.get("frequency", ""), _OTHER_COLOR)
        decoded = _decode(instance, height, width).astype(np.uint8)
        mask = cv2.resize(decoded, size, interpolation=cv2.INTER_NEAREST)
        if focus is None or instance is focus:
            blended = (1 - _OPACITY) * canvas + _OPACITY * np.array(color)
            canvas = np.where(mask[:, :, None] > 0, blended, canvas).astype(np.uint8)
            corner = [value * scale for value in instance["bbox"][:2]]
            labels.append((_label(instance, category, with_group=with_group), corner, color))
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, color, 1, cv2.LINE_AA)
    for text, corner, color in labels:  # last, so that no mask covers a name
        _write_label(canvas, text, corner, color)
    return canvas


def _label(instance: Mapping[str, Any], category: Mapping[str, Any], *, with_group: bool) -> str:
    text = str(category["name"])
    if with_group and category.get("frequency") in FREQUENCY_GROUPS:
        text += f" ({FREQUENCY_GROUPS[category['frequency']]})"
    if "score" in instance:
        text += f" {instance['score']:.0%}"
    return text


def _write_label(
    canvas: np.ndarray, text: str, corner: list[float], color: tuple[int, int, int]
) -> None:
    """White text on the class's colour at a box's upper left corner (px), moved into the image."""
    font, font_scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), baseline = cv2.getTextSize(text, font, font_scale, 1)
    x = int(np.clip(corner[0], 0, max(canvas.shape[1] - width - 2, 0)))
    y = int(np.clip(corner[1], height + baseline, canvas.shape[0]))
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width + 2, y), color, cv2.FILLED)
    origin = (x + 1, y - baseline + 1)
    cv2.putText(canvas, text, origin, font, font_scale, (255, 255, 255), 1, cv2.LINE_AA)


def _decode(instance: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """(H, W) bool mask of polygons or RLE; the box where there is neither."""
    segmentation = instance.get("segmentation")
    if not segmentation:
        x, y, w, h = (round(value) for value in instance["bbox"])
        mask = np.zeros((height, width), dtype=bool)
        mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
        return mask
    if isinstance(segmentation, list):
        segmentation = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_utils.frPyObjects(segmentation, height, width)
    return mask_utils.decode(segmentation).astype(bool)


def _framed(image: np.ndarray) -> np.ndarray:
    border = [_MARGIN_PX // 2] * 4
    height, width = image.shape[:2]
    bottom = _TILE_PX - height + border[0]
    right = _TILE_PX - width + border[0]
    return cv2.copyMakeBorder(
        image, border[0], bottom, border[0], right, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Two tiles a row under a caption."""
    blank = np.full_like(tiles[0], 255)
    tiles = tiles + [blank] * (len(tiles) % 2)
    rows = [np.concatenate(tiles[i : i + 2], axis=1) for i in range(0, len(tiles), 2)]
    body = np.concatenate(rows, axis=0)
    caption = np.full((_CAPTION_PX, body.shape[1], 3), 255, dtype=np.uint8)
    for column, text in enumerate(("ground truth", "detections") * 2):
        origin = (column * body.shape[1] // 4 + _MARGIN_PX, _CAPTION_PX - 7)
        cv2.putText(
            caption, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (60, 60, 60), 1, cv2.LINE_AA
        )
    return np.concatenate([caption, body], axis=0)
