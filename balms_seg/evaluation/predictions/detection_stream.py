"""Keeps what an evaluation needs of detections that come image by image, and nothing else.

Most detections are of classes that LVIS does not judge in their image. They matter only by the
places they take: among the best of their image, and for AP-fixed among the best of their class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from balms_seg.evaluation.lvis.ground_truth import GroundTruth


class DetectionStream:
    """Detections that count, of all images taken in so far.

    Attributes:
        capped: those among the best of their image.
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        *,
        max_detections: int,
        max_per_class: int | None = None,
    ) -> None:
        """Start without detections.

        Args:
            ground_truth: says which classes count in which image.
            max_detections: places an image has.
            max_per_class: places a class has over all images, for `best_of_classes`; None keeps
                none of them.
        """
        self.capped: list[Mapping[str, Any]] = []
        self._is_verified = ground_truth.is_verified
        self._image_index = {id_: i for i, id_ in enumerate(ground_truth.image_ids)}
        self._class_index = {id_: i for i, id_ in enumerate(ground_truth.category_ids)}
        self._max_detections = max_detections
        self._best = (
            None
            if max_per_class is None
            else [_Best(max_per_class) for _ in range(ground_truth.num_classes)]
        )

    def add(self, image_id: Any, detections: Sequence[Mapping[str, Any]]) -> None:
        """Take in one image.

        Args:
            image_id: as in the json.
            detections: of this image, in the LVIS results format.

        Raises:
            ValueError: the image is not in the ground truth, or a score is not finite.
        """
        if not detections:
            return
        if image_id not in self._image_index:
            raise ValueError(
                f"Expected predictions on images of the ground truth, but got image {image_id!r}; "
                "evaluate on the data set that was predicted."
            )
        image = self._image_index[image_id]
        scores = list(map(itemgetter("score"), detections))
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f"Expected finite scores, but image {image_id!r} has {scores[:5]} and so on; the "
                "model's output is broken."
            )
        classes = [self._class_index[found["category_id"]] for found in detections]
        counts = self._is_verified[image, classes].tolist()
        ranks = sorted(range(len(scores)), key=lambda i: -scores[i])
        for i in sorted(ranks[: self._max_detections]):
            if counts[i]:
                self.capped.append(detections[i])
        if self._best is not None:
            for i, class_ in enumerate(classes):
                kept = detections[i] if counts[i] else None
                self._best[class_].add((-scores[i], image, i, kept))

    def best_of_classes(self) -> list[Mapping[str, Any]]:
        """Those that count among the `max_per_class` best of each class, for AP-fixed."""
        return [
            found for best in self._best or () for *_, found in best.entries() if found is not None
        ]


class _Best:
    """The smallest entries; holds at most twice as many as it keeps."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._entries: list[tuple] = []

    def add(self, entry: tuple) -> None:
        self._entries.append(entry)
        if len(self._entries) > 2 * self._number:
            self._entries = self.entries()

    def entries(self) -> list[tuple]:
        # By score, image and position, which no two entries share.
        return sorted(self._entries, key=itemgetter(0, 1, 2))[: self._number]
