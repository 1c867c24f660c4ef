"""The meta step: class parameters moved by what the next classifier would do to a balanced batch.

R: rows of this rank's training images. Order of one iteration that has a meta step:

1. the rows are weighed with the class parameters as they are;
2. a virtual SGD step of the classifier on the weighted loss;
3. the loss of the virtual classifier on a class-balanced meta batch, differentiated by the weights;
4. an Adam step on the class parameters;
5. the real step, with the weights that this returns.

Source: Ren et al. 2020 (arXiv 2007.10740), section 3.2 and supplement B.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from balms_seg.distributed import sum_over_ranks
from balms_seg.engine.meta.class_learners import ClassLearner
from balms_seg.engine.meta.meta_batches import MetaBatches, RowsOf
from balms_seg.losses import balanced_softmax_loss, sigmoid_loss
from balms_seg.meta import linear_classifier, one_step_meta_gradient, sgd_settings
from balms_seg.methods import ClassifierMethod
from balms_seg.modeling.classifier_rows import ClassifierRows

logger = logging.getLogger(__name__)


class MetaStep:
    """Learns weights or rates of the classes while a linear classifier trains by SGD.

    Attributes:
        learner: the class parameters.
        batches: where meta rows come from.
    """

    def __init__(
        self,
        learner: ClassLearner,
        batches: MetaBatches,
        *,
        layer: nn.Module,
        method: ClassifierMethod[Any],
        optimizer: torch.optim.Optimizer,
        objective: str = "plain",
        period: int = 1,
    ) -> None:
        """Check what can be checked before the first iteration.

        Args:
            learner: the class parameters.
            batches: where meta rows come from.
            layer: the classifier, an `nn.Linear`.
            method: of the classifier; gives the training loss.
            optimizer: of the layer's parameters; plain SGD.
            objective: the meta loss: "plain", without the method's prior (the paper), or
                "balanced", the training loss itself (the authors' release for LVIS).
            period: iterations from one meta step to the next.

        Raises:
            TypeError: the layer is not linear, or the optimiser not plain SGD.
        """
        linear_classifier(layer)
        sgd_settings(optimizer, layer.parameters())
        self.learner, self.batches = learner, batches
        self.layer, self.optimizer, self.period = layer, optimizer, period
        plain = sigmoid_loss if method.independent_scores else _cross_entropy
        self._num_classes = method.num_classes
        self._meta_residuals: Callable[[Tensor, Tensor], Tensor] = partial(
            _residuals, plain if objective == "plain" else method.loss
        )

    def row_weights(
        self,
        iteration: int,
        batch: list[dict],
        rows: ClassifierRows,
        *,
        residuals: Tensor,
        normaliser: Tensor,
        rows_of: RowsOf,
    ) -> Tensor:
        """Weights of a batch's rows for the real step, after a meta step where one is due.

        Args:
            iteration: counts from 0.
            batch: of the training loader.
            rows: of the batch.
            residuals: (R, C) derivative of each row's unweighted loss by its logits.
            normaliser: () what the sum of the weighted losses over all ranks is divided by.
            rows_of: runs the trunk.

        Returns:
            (R,) constants.

        Raises:
            FloatingPointError: class parameters would not be finite; names the classes.
        """
        weights = self.learner.weigh(batch, rows)
        if iteration % self.period == 0:
            self.learner.set_meta_classes(self.batches.has_samples(), warn=False)
            meta = self.batches.next_rows(iteration, rows_of)
            is_foreground = meta.gt_classes < self._num_classes
            counts = torch.stack([torch.ones_like(is_foreground).sum(), is_foreground.sum()])
            num_meta, num_foreground = sum_over_ranks(counts)
            if num_foreground > 0:  # the same on all ranks
                gradient = self._weight_gradient(
                    rows,
                    meta,
                    weights,
                    residuals=residuals,
                    normaliser=normaliser,
                    num_meta=num_meta,
                )
                weights = self.learner.learn(batch, rows, gradient)
        self.batches.add(batch, rows)
        return weights

    def _weight_gradient(
        self,
        rows: ClassifierRows,
        meta: ClassifierRows,
        weights: Tensor,
        *,
        residuals: Tensor,
        normaliser: Tensor,
        num_meta: Tensor,
    ) -> Tensor:
        """(R,) derivative of the meta loss, one virtual step ahead, by the rows' weights."""
        return one_step_meta_gradient(
            linear_classifier(self.layer),
            sgd_settings(self.optimizer, self.layer.parameters()),
            features=rows.features,
            residuals=residuals,
            sample_weights=weights,
            learned=self.learner.learns_from(rows),
            normaliser=normaliser,
            meta_features=meta.features,
            meta_residuals=lambda virtual: self._meta_residuals(virtual, meta.gt_classes),
            meta_normaliser=num_meta,
            sum_over_ranks=sum_over_ranks,
        ).sample_weights

    def state_dict(self) -> dict[str, Any]:
        """Class parameters and position of the meta batches."""
        return {
            "kind": type(self.batches).__name__,
            "learner": self.learner.state_dict(),
            "batches": self.batches.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is of other classes, or of another kind of meta batches.
        """
        kind = type(self.batches).__name__
        if state["kind"] != kind:
            raise ValueError(
                f"Expected meta batches of {kind}, but the checkpoint has those of "
                f"{state['kind']}; resume with the saved run's META.SOURCE."
            )
        self.learner.load_state_dict(state["learner"])
        self.batches.load_state_dict(state["batches"])


def loss_and_residuals(
    compute_losses: Callable[[Tensor], Tensor], logits: Tensor
) -> tuple[Tensor, Tensor]:
    """(R,) losses of (R, C) logits and their (R, C) derivatives, both constants."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        losses = compute_losses(leaf)
        return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


def _cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
    equal = torch.ones(logits.shape[1], device=logits.device)
    return balanced_softmax_loss(logits, targets, equal, reduction=reduction)


def _residuals(loss: Callable[..., Tensor], logits: Tensor, gt_classes: Tensor) -> Tensor:
    """(R, C) derivative of each row's loss by its logits."""
    return loss_and_residuals(lambda leaf: loss(leaf, gt_classes, reduction="none"), logits)[1]
