"""What a method for images answers: loss, probabilities, classifier. B images, K classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from balms_seg.class_statistics import ClassStatistics
from balms_seg.losses import balanced_softmax_loss
from balms_seg.methods import IMAGE_METHODS, ImageMethod

K, B = 4, 6
COUNTS = (50, 20, 5, 1)
STATISTICS = ClassStatistics.from_labels(np.repeat(np.arange(K), COUNTS), K)
LABELS = torch.tensor([0, 1, 2, 3, 0, 0])


def build(name: str) -> ImageMethod:
    return IMAGE_METHODS[name](K, statistics=STATISTICS)


def logits_of(rows: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, K, generator=generator).mul(3).requires_grad_()


def test_softmax_loss_is_cross_entropy() -> None:
    logits = logits_of()
    assert torch.equal(build("softmax").loss(logits, LABELS), cross_entropy(logits, LABELS))


def test_balanced_softmax_takes_the_image_counts() -> None:
    logits = logits_of()
    expected = balanced_softmax_loss(logits, LABELS, torch.tensor(COUNTS, dtype=torch.float32))
    assert torch.equal(build("balanced_softmax").loss(logits, LABELS), expected)


@pytest.mark.parametrize("name", list(IMAGE_METHODS))
def test_probabilities_sum_to_one(name: str) -> None:
    probabilities = build(name).probabilities(logits_of().detach())
    assert probabilities.shape == (B, K)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(B))


@pytest.mark.parametrize("name", [n for n, m in IMAGE_METHODS.items() if m.needs_statistics])
def test_a_loss_without_statistics_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match="register the sets in DATASETS.TRAIN"):
        IMAGE_METHODS[name](K).loss(logits_of(), LABELS)


@pytest.mark.parametrize("name", list(IMAGE_METHODS))
def test_statistics_of_other_classes_name_the_key(name: str) -> None:
    with pytest.raises(ValueError, match="MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"):
        IMAGE_METHODS[name](K + 1, statistics=STATISTICS)
