"""Detections as arrays: image, class, score, box and mask of each, however they came.

Symbols: n detections, B characters of all their masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from balms_seg.evaluation.lvis.ground_truth import GroundTruth

Rle = dict[str, Any]
_DICTS_AT_ONCE = 10_000


class MaskColumn(Sequence[Rle]):
    """Compressed RLE of n masks, some of which may be absent; a dict is made when it is asked for.

    Args:
        characters: of all masks, behind each other or anywhere.
        starts: (n,) int64, where each mask's begin.
        lengths: (n,) int64, how many it has; 0 for an absent mask.
        sizes: (n, 2) int32 height and width.
    """

    def __init__(
        self, characters: bytes, starts: np.ndarray, lengths: np.ndarray, sizes: np.ndarray
    ) -> None:
        self.characters = characters
        self.starts = starts
        self.lengths = lengths
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Rle: ...

    @overload
    def __getitem__(self, index: slice) -> list[Rle]: ...

    def __getitem__(self, index: int | slice) -> Rle | list[Rle]:
        if not isinstance(index, slice):
            return self.take(np.array([index]))[:][0]
        starts = self.starts[index]
        bounds = zip(starts.tolist(), (starts + self.lengths[index]).tolist(), strict=True)
        return [
            {"size": size, "counts": self.characters[start:end]}
            for (start, end), size in zip(bounds, self.sizes[index].tolist(), strict=True)
        ]

    def take(self, rows: np.ndarray) -> MaskColumn:
        """The chosen masks."""
        return MaskColumn(self.characters, self.starts[rows], self.lengths[rows], self.sizes[rows])


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """n detections on the images and classes of a ground truth, in the order they came in.

    Attributes:
        images: (n,) int32 image index.
        classes: (n,) int32 class index.
        scores: (n,) float64.
        boxes: (n, 4) float64 x, y, width, height in pixels; nan where there is none.
        masks: n of them.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: MaskColumn

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> DetectionTable:
        """The chosen detections, in the order of `rows`."""
        return DetectionTable(
            self.images[rows],
            self.classes[rows],
            self.scores[rows],
            self.boxes[rows],
            self.masks.take(rows),
        )

    def has_shape(self, iou_type: str) -> np.ndarray:
        """Which detections have what a task needs, a box or a mask, (n,) bool."""
        return ~np.isnan(self.boxes[:, 0]) if iou_type == "bbox" else self.masks.lengths > 0

    def as_dicts(self, ground_truth: GroundTruth) -> Iterator[dict[str, Any]]:
        """The detections in the LVIS results format, with the ids of the ground truth."""
        for start in range(0, len(self), _DICTS_AT_ONCE):
            yield from self._dicts(slice(start, start + _DICTS_AT_ONCE), ground_truth)

    def _dicts(self, rows: slice, ground_truth: GroundTruth) -> Iterator[dict[str, Any]]:
        has_box, has_mask = self.has_shape("bbox")[rows], self.has_shape("segm")[rows]
        columns = (self.images, self.classes, self.scores, self.boxes)
        for image, class_, score, box, mask, with_box, with_mask in zip(
            *(column[rows].tolist() for column in columns),
            self.masks[rows],
            has_box.tolist(),
            has_mask.tolist(),
            strict=True,
        ):
            found: dict[str, Any] = {
                "image_id": ground_truth.image_ids[image],
                "category_id": ground_truth.category_ids[class_],
                "score": score,
            }
            if with_box:
                found["bbox"] = box
            if with_mask:
                found["segmentation"] = mask
            yield found
