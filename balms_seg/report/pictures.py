"""Pictures of detections beside the ground truth."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from balms_seg.annotations import (
    Annotations,
    ImageFolder,
    annotation_content,
    image_content,
    read_annotations,
)
from balms_seg.decoding import decode_image
from balms_seg.evaluation.lvis.ground_truth import GroundTruth, load_ground_truth
from balms_seg.evaluation.predictions.stored_detections import read_stored_detections
from balms_seg.progress import with_progress
from balms_seg.report.instance_drawing import draw_instances
from balms_seg.report.picture_captions import MARGIN_PX, beside, sheet

logger = logging.getLogger(__name__)

_TILE_PX = 320  # longer side of an image on the sheet
_SMALLEST_SIDE_PX = 480  # longer side of a picture of its own; smaller images are enlarged


def draw_sheet(sources: PictureSources, path: str | Path) -> None:
    """Draw a sheet of images, ground truth on the left and detections on the right of each.

    Colours tell the frequency group of a class: red rare, orange common, blue frequent.

    Args:
        sources: what is drawn, two images a row.
        path: PNG to write.
    """
    tiles = [
        np.concatenate([_framed(side) for side in pair], axis=1)
        for _, pair in sources.draw_pairs(lambda longer_px: _TILE_PX / longer_px)
    ]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), sheet(tiles, sources.min_score, sources.groups))


def draw_each_image(
    sources: PictureSources, output_dir: str | Path, *, with_group: bool = False
) -> list[Path]:
    """Draw one picture an image, ground truth on the left and detections on the right, captioned.

    Args:
        sources: what is drawn; small images are enlarged.
        output_dir: where the pictures go.
        with_group: say the frequency group in the labels.

    Returns:
        The files written.
    """
    written = []
    pairs = sources.draw_pairs(
        lambda longer_px: max(_SMALLEST_SIDE_PX / longer_px, 1.0), with_group=with_group
    )
    for image, pair in with_progress(
        pairs, label="drawing", unit="image", total=len(sources.images)
    ):
        path = Path(output_dir) / Path(image["file_name"]).with_suffix(".png").name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), beside(pair, sources.min_score, sources.groups))
        written.append(path)
    return written


@dataclass(frozen=True, eq=False)
class PictureSources:
    """The images to draw, those with the most rare instances first, and what is drawn on them."""

    images: list[dict[str, Any]]
    categories: dict[int, dict[str, Any]]
    annotations: Mapping[Any, list[dict[str, Any]]]
    detections: Mapping[Any, list[dict[str, Any]]]
    folder: ImageFolder
    pixel_range: Sequence[float]
    min_score: float

    @classmethod
    def read(
        cls,
        ground_truth_json: str | Path,
        image_root: str | Path,
        detections_json: str | Path,
        *,
        num_images: int = 8,
        min_score: float = 0.3,
        match_file_names: str = "exact",
        pixel_range: Sequence[float] = (),
        class_frequency: Mapping[Any, str] | None = None,
    ) -> PictureSources:
        """Read them.

        Args:
            ground_truth_json: COCO- or LVIS-style annotations.
            image_root: folder of the images.
            detections_json: LVIS results: image_id, category_id, bbox (xywh, px), score,
                segmentation.
            num_images: how many at most.
            min_score: detections below it are not drawn.
            match_file_names: DATASETS.MATCH_FILE_NAMES of the run.
            pixel_range: INPUT.PIXEL_RANGE of the run, for images of more than 8 bits.
            class_frequency: letter per category id; None: the annotations' own.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the detections are of other images or classes than the ground truth.
        """
        truth = ground_truth_of_run(
            read_annotations(ground_truth_json),
            class_frequency,
            image_root=image_root,
            match_file_names=match_file_names,
        )
        known = truth.annotations
        is_rare = np.array([letter == "r" for letter in truth.frequency])
        num_rare = np.bincount(known.images[is_rare[known.classes]], minlength=len(known.by_image))
        places = np.argsort(-num_rare, kind="stable")[:num_images]
        detections = defaultdict(list)
        for found in _chosen_detections(detections_json, truth, places, min_score=min_score):
            detections[found["image_id"]].append(found)
        return cls(
            images=[image_content(known, place) for place in places.tolist()],
            categories=drawn_categories(truth),
            annotations={
                known.image_table.ids[place]: [
                    annotation_content(known, row) for row in known.by_image[place].tolist()
                ]
                for place in places.tolist()
            },
            detections=detections,
            folder=ImageFolder.of(known, image_root, match_file_names),
            pixel_range=pixel_range,
            min_score=min_score,
        )

    @property
    def groups(self) -> set[str]:
        """Frequency letters of the classes."""
        return {str(category["frequency"]) for category in self.categories.values()}

    def draw_pairs(
        self, scale_of: Callable[[int], float], *, with_group: bool = False
    ) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
        """Each image, with ground truth and with detections; `scale_of` its longer side in px."""
        for image in self.images:
            pixels = read_image(self.folder.path(image["file_name"]), self.pixel_range)
            scale = scale_of(max(pixels.shape[:2]))
            pair = [
                draw_instances(pixels, own, self.categories, scale=scale, with_group=with_group)
                for own in (self.annotations[image["id"]], self.detections[image["id"]])
            ]
            yield image, pair


def ground_truth_of_run(
    annotations: Annotations,
    class_frequency: Mapping[Any, str] | None,
    *,
    image_root: str | Path | None,
    match_file_names: str,
) -> GroundTruth:
    """What a run was evaluated on, in its groups.

    Args:
        annotations: of the set.
        class_frequency: letter per category id, which wins; None or empty: the annotations' own.
        image_root: as for `PictureSources.read`.
        match_file_names: likewise.
    """
    return load_ground_truth(
        annotations,
        class_frequency=class_frequency,
        own_groups=not class_frequency,
        image_root=image_root,
        match_file_names=match_file_names,
        trust_annotations=True,  # they have been evaluated on
    )


def drawn_categories(truth: GroundTruth) -> dict[Any, dict[str, Any]]:
    """Name and frequency letter per category id, the letter as the evaluation has it."""
    columns = truth.category_ids, truth.class_names, truth.frequency
    return {i: {"name": name, "frequency": f} for i, name, f in zip(*columns, strict=True)}


def _chosen_detections(
    path: str | Path, truth: GroundTruth, images: np.ndarray, *, min_score: float
) -> Iterator[dict[str, Any]]:
    """Those of a result file that lie on chosen images and have a shape and score enough."""
    stored = read_stored_detections(path, truth)
    has_masks = "segmentation" in stored.shape_keys
    table = stored.masks if has_masks else stored.boxes  # of a pair, the masks have boxes, too
    has_shape = table.has_shape("bbox") | table.has_shape("segm")
    can_be_drawn = has_shape & np.isin(table.images, images)
    is_chosen = can_be_drawn & (table.scores >= min_score)
    if not is_chosen.any():
        scores = table.scores[can_be_drawn]
        highest = f"the highest has {scores.max():.2g}" if len(scores) else "there is none at all"
        logger.warning(
            "No detection has a score of %g or more (--min-score); %s.", min_score, highest
        )
    return table.take(np.flatnonzero(is_chosen)).as_dicts(truth)


def read_image(path: str, pixel_range: Sequence[float] = ()) -> np.ndarray:
    """(H, W, 3) BGR pixels of an image, as the model saw it.

    Args:
        path: of the image.
        pixel_range: INPUT.PIXEL_RANGE of the run, see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Expected an image at {path}, but there is none.")
    return decode_image(path, "BGR", pixel_range=pixel_range)


def _framed(image: np.ndarray) -> np.ndarray:
    border = [MARGIN_PX // 2] * 4
    height, width = image.shape[:2]
    bottom = _TILE_PX - height + border[0]
    right = _TILE_PX - width + border[0]
    return cv2.copyMakeBorder(
        image, border[0], bottom, border[0], right, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
