"""What a meta step learns for each class, and how it enters the loss of a batch.

R: rows (sampled proposals) of this rank's images, K: classes. Every rank holds the same class
parameters psi, as long as all of them call the same methods in the same order.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from balms_seg.device_copies import sent
from balms_seg.distributed import sum_over_ranks
from balms_seg.meta import MetaReweighter
from balms_seg.meta.row_weights import RowWeights
from balms_seg.modeling.classifier_rows import ClassifierRows
from balms_seg.sampling import MetaRepeatFactorTrainingSampler, draws_of

logger = logging.getLogger(__name__)


class ClassLearner(Protocol):
    """psi, what it does to the training loss, and its step."""

    def set_meta_classes(self, has_samples: Tensor, *, warn: bool = True) -> None:
        """Say which (K,) classes the meta set holds; the others stay where they are."""

    def weigh(self, batch: list[dict], rows: ClassifierRows) -> Tensor:
        """(R,) constant loss weights of a batch's rows."""

    def learns_from(self, gt_classes: Tensor) -> Tensor | None:
        """(R,) bool: rows, by their classes, whose weights depend on psi; None: all."""

    def learn(self, batch: list[dict], rows: ClassifierRows, weight_gradient: Tensor) -> Tensor:
        """Move psi along the meta loss; returns the weights of the real step.

        Args:
            batch: what `weigh` had last.
            rows: of the batch.
            weight_gradient: (R,) derivative of the meta loss by each of those weights; of rows that
                nothing is learned from it may be 0.
        """

    def values(self) -> Tensor:
        """(K,) float64 learned value of each class, on the CPU."""

    def summary(self) -> dict[str, float]:
        """What else is worth logging."""

    def state_dict(self) -> dict[str, Any]:
        """What the training loader's state does not hold already."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class LearnedWeights:
    """The Meta Reweighter: a loss weight for each class; the real step has the new weights."""

    def __init__(self, reweighter: MetaReweighter) -> None:
        """Use a reweighter that sums over the ranks."""
        self.reweighter = reweighter
        self.set_meta_classes = reweighter.set_meta_classes
        self.state_dict = reweighter.state_dict
        self.load_state_dict = reweighter.load_state_dict
        self._weighed: RowWeights | None = None

    def weigh(self, batch: list[dict], rows: ClassifierRows) -> Tensor:
        """Weights of mean 1 over the foreground rows; background has 1."""
        self._weighed = self.reweighter.weigh(rows.gt_classes)
        return self._weighed.weights

    def learns_from(self, gt_classes: Tensor) -> Tensor:
        """The foreground."""
        return gt_classes < len(self.reweighter.rates)

    def learn(self, batch: list[dict], rows: ClassifierRows, weight_gradient: Tensor) -> Tensor:
        """One Adam step; the batch weighed anew."""
        assert self._weighed is not None
        self.reweighter.step(self._weighed, weight_gradient)
        return self.weigh(batch, rows)

    def values(self) -> Tensor:
        """(K,) sigmoid(psi); only ratios matter."""
        return self.reweighter.rates.double().cpu()

    def summary(self) -> dict[str, float]:
        """Nothing."""
        return {}


class LearnedRates:
    """The meta repeat-factor sampler: a sample rate for each class.

    Rows weigh p / p_draw of their image, which is 1 unless the rates have changed since the draw;
    the new rates show in images still to be drawn.
    """

    def __init__(
        self, sampler: MetaRepeatFactorTrainingSampler, class_names: Sequence[str]
    ) -> None:
        """Use the sampler of the training loader, whose state holds psi; K class names."""
        self.sampler = sampler
        sampler.parameters.set_names(class_names)
        self._has_samples = torch.ones(len(sampler.rates.class_rates), dtype=torch.bool)

    def set_meta_classes(self, has_samples: Tensor, *, warn: bool = True) -> None:
        """A class that the meta set lacks has gradient zero from the start, so it never moves."""
        self._has_samples = has_samples.cpu()
        if warn and not bool(self._has_samples.all()):
            logger.warning(
                "The meta set has no sample of %s; the rate of these classes stays where it is.",
                self.sampler.parameters.describe(~self._has_samples),
            )

    def weigh(self, batch: list[dict], rows: ClassifierRows) -> Tensor:
        """Each row's image weight p / p_draw."""
        weights = self.sampler.loss_weights(draws_of(batch))
        return sent(weights.to(rows.features.dtype), rows.features.device)[rows.images]

    def learns_from(self, gt_classes: Tensor) -> None:
        """All: every row has its image's weight."""

    def learn(self, batch: list[dict], rows: ClassifierRows, weight_gradient: Tensor) -> Tensor:
        """One Adam step; the batch keeps its weights."""
        weights = self.weigh(batch, rows)
        by_image = torch.zeros(len(batch), dtype=torch.float64)
        pairs = torch.stack([rows.images.double(), weight_gradient.double()])
        images, gradients = pairs.cpu()  # one read of the device
        by_image.index_add_(0, images.long(), gradients)
        if self.sampler.estimator == "score":
            by_image = by_image - mean_of_others(by_image)
        gradient = sum_over_ranks(self.sampler.rate_gradient(draws_of(batch), by_image))
        self.sampler.update(torch.where(self._has_samples, gradient, torch.zeros_like(gradient)))
        return weights

    def values(self) -> Tensor:
        """(K,) class rates: repeat factors with their learned factor."""
        return torch.from_numpy(self.sampler.rates.class_rates.copy())

    def summary(self) -> dict[str, float]:
        """Classes whose rate is the largest in no image, and so cannot be learned."""
        return {"classes_never_largest": len(self.sampler.never_largest())}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: psi, its Adam and the class names are in the training loader's state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def mean_of_others(by_image: Tensor) -> Tensor:
    """A baseline for the score-function estimator: the mean over all other draws of the batch.

    Weighing all images more is a larger step, which lowers the meta loss most of the time. Without
    a baseline that shows as a small gradient against each class that was not drawn, and Adam makes
    steps of full size of it: a rare class would lose its rate before it is first seen. A draw's
    baseline depends on the other draws alone, so for independent draws the gradient's expectation
    stays; systematic sampling within a block makes them dependent to the order of 1 / META.BLOCK.

    Args:
        by_image: (B,) derivatives by the weights of this rank's draws.

    Returns:
        (B,) constants; 0 for a batch of one image.
    """
    mine = torch.stack([by_image.sum(), by_image.new_tensor(len(by_image))])
    total, count = sum_over_ranks(mine)
    return (total - by_image) / (count - 1).clamp(min=1)
