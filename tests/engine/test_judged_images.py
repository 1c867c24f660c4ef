"""Which images a sheet of a class shows."""

from __future__ import annotations

import numpy as np
import pytest

from balms_seg.engine.judged_images import _chosen
from balms_seg.evaluation.images.classifier_predictions import ClassifierPredictions


def test_a_row_of_the_most_wrong_and_one_of_the_least_sure() -> None:
    """Images 0 to 7 are wrong, 0 the most; of 8 to 19, which are right, 8 is the least sure."""
    of_label = np.concatenate([np.linspace(0.01, 0.08, 8), np.linspace(0.51, 0.9, 12), [0.3]])
    probabilities = np.stack([of_label, 1 - of_label], axis=1)
    labels = np.array([0] * 20 + [1])
    keys = [f"{i}.png" for i in range(21)]
    judged = ClassifierPredictions.from_probabilities(probabilities, labels, np.arange(21), keys)
    assert _chosen(judged, 0) == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]
    assert _chosen(judged, 1) == [20]


def test_of_equal_images_the_first_comes_first() -> None:
    judged = ClassifierPredictions.from_probabilities(
        np.array([[0.6, 0.4]] * 3), np.zeros(3, int), np.arange(3), ["a", "b", "c"]
    )
    assert _chosen(judged, 0) == [0, 1, 2]
    assert judged.label_scores == pytest.approx([0.6] * 3)
