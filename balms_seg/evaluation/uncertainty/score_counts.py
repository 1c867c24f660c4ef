"""Right and wrong detections kept at every candidate threshold, class by class.

Symbols: K classes, S candidate thresholds, I images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches

_NUM_QUANTILES = 200


@dataclass(frozen=True, eq=False)
class Curves:
    """Weighted counts at each candidate: (K, S) true and false detections kept, (K,) objects."""

    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray


class ScoreCounts:
    """Detections of a run, sorted into the steps between candidate thresholds.

    Candidates are quantiles of the scores, of right detections and of all, so that each step holds
    about as many.

    Attributes:
        num_classes: K.
        groups: (K,) int64 frequency group.
        thresholds: (S,) ascending candidates, from 0 on.
    """

    def __init__(self, stored: StoredMatches) -> None:
        """Sort the detections of a run."""
        self.num_classes = len(stored.class_names)
        self.groups = np.unique(stored.frequency, return_inverse=True)[1]
        is_true = np.zeros(len(stored.scores), dtype=bool)
        is_true[stored.rows] = stored.is_matched[:, 0] & ~stored.is_ignored[:, 0]
        does_not_count = ~stored.counts_unmatched
        does_not_count[stored.rows] |= stored.is_ignored[:, 0]
        counts = is_true | ~does_not_count
        shares = np.linspace(0, 1, _NUM_QUANTILES)
        parts = [stored.scores[chosen] for chosen in (is_true, counts) if chosen.any()]
        if not parts:
            parts = [stored.scores]
        quantiles = [np.quantile(part, shares, method="nearest") for part in parts]
        self.thresholds = np.unique(np.concatenate([*quantiles, [0.0]]))
        step = np.searchsorted(self.thresholds, stored.scores, side="right") - 1
        self._cells = stored.classes.astype(np.int64) * len(self.thresholds) + step
        self._images, self._is_true, self._is_false = stored.images, is_true, counts & ~is_true
        self._objects = stored.annotation_images, stored.annotation_classes

    def curves(self, weights: np.ndarray) -> Curves:
        """Counts on images with (I,) weights."""

        def kept(chosen: np.ndarray) -> np.ndarray:
            shape = self.num_classes, len(self.thresholds)
            found = np.bincount(
                self._cells[chosen],
                weights=weights[self._images[chosen]],
                minlength=shape[0] * shape[1],
            )
            return found.reshape(shape)[:, ::-1].cumsum(axis=1)[:, ::-1]

        images, classes = self._objects
        objects = np.bincount(classes, weights=weights[images], minlength=self.num_classes)
        return Curves(kept(self._is_true), kept(self._is_false), objects)
