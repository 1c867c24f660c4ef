"""Whether scores mean what they say: precision of detections by their score, per group.

Symbols: n detections, B bins of equal width over [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS, GroundTruth
from balms_seg.evaluation.lvis.matching import Matches

NUM_BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores against the share of right detections.

    Attributes:
        edges: (B + 1,) ascending bounds of the bins.
        counts: (B,) detections; sums of weights where these were given.
        mean_scores: (B,) nan in empty bins.
        precisions: (B,) share of right detections, nan in empty bins.
    """

    edges: np.ndarray
    counts: np.ndarray
    mean_scores: np.ndarray
    precisions: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of score and precision, bins weighted by their counts; nan if empty."""
        if self.counts.sum() == 0:
            return float("nan")
        gaps = np.abs(self.mean_scores - self.precisions)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())

    def to_dict(self) -> dict[str, float | list[float]]:
        """For json."""
        return {
            "expected_calibration_error": self.expected_calibration_error,
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "mean_scores": self.mean_scores.tolist(),
            "precisions": self.precisions.tolist(),
        }


def reliability(
    scores: np.ndarray,
    is_right: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    num_bins: int = NUM_BINS,
) -> Reliability:
    """Bin detections by score.

    Args:
        scores: (n,) in [0, 1].
        is_right: (n,) bool.
        weights: (n,) how much each counts; None: 1.
        num_bins: B; a score on a bound belongs to the upper bin, 1 to the last.

    Raises:
        ValueError: a score lies outside [0, 1].

    Source: Guo et al. 2017 (arXiv 1706.04599).
    """
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(
            f"Expected scores in [0, 1] to compare with precision, but got {scores.min():g} to "
            f"{scores.max():g}; calibration needs probabilities."
        )
    bins = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, weights, num_bins)
    scale = 1.0 if weights is None else weights
    with np.errstate(invalid="ignore"):
        mean_scores = np.bincount(bins, scale * scores, num_bins) / counts
        precisions = np.bincount(bins, scale * is_right, num_bins) / counts
    return Reliability(np.linspace(0, 1, num_bins + 1), counts, mean_scores, precisions)


def calibration_by_group(
    ground_truth: GroundTruth, matches: Matches, *, num_bins: int = NUM_BINS
) -> dict[str, Reliability]:
    """Reliability of all detections that count, and of those of each frequency group.

    A detection is right if it matches an annotation at IoU 0.5. Those that LVIS ignores are left
    out, so a low score costs as much as it does in AP.

    Returns:
        Per "all", "rare", "common" and "frequent".
    """
    counts, is_right = judge_detections(matches)
    frequency = np.array(ground_truth.frequency)[matches.detections.classes]
    groups = {"all": counts}
    groups |= {name: counts & (frequency == letter) for letter, name in FREQUENCY_GROUPS.items()}
    return {
        name: reliability(matches.detections.scores[own], is_right[own], num_bins=num_bins)
        for name, own in groups.items()
    }


def calibration_error_without_blocks(
    scores: np.ndarray,
    is_right: np.ndarray,
    blocks: np.ndarray,
    num_blocks: int,
    *,
    num_bins: int = NUM_BINS,
) -> np.ndarray:
    """Expected calibration error of all detections, and without those of each block of images.

    Args:
        scores: (n,) in [0, 1].
        is_right: (n,) bool.
        blocks: (n,) block of each detection's image.
        num_blocks: G.
        num_bins: B, as for `reliability`.

    Returns:
        (1 + G,), nan where no detection is left.
    """
    bins = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    places, shape = bins * num_blocks + blocks, (num_bins, num_blocks)
    number, score_sum, right_sum = (
        np.bincount(places, weights, num_bins * num_blocks).reshape(shape)
        for weights in (None, scores, is_right)
    )
    # Of everything, and of everything but each block.
    left, gaps = (
        cells.sum(axis=1, keepdims=True) - np.pad(cells, ((0, 0), (1, 0)))
        for cells in (number, score_sum - right_sum)
    )
    with np.errstate(invalid="ignore"):
        return np.abs(gaps).sum(axis=0) / left.sum(axis=0)


def judge_detections(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Which detections LVIS counts, and which of these are right at IoU 0.5: (n,) bool each."""
    counts = ~matches.is_excused[:, 0]
    is_right = np.zeros(len(counts), dtype=bool)
    matched, ignored = matches.is_matched[:, 0, 0], matches.is_ignored[:, 0, 0]
    counts[matches.rows[matched]] = ~ignored[matched]
    is_right[matches.rows[matched & ~ignored]] = True
    return counts, is_right
