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
from typing import Any

import torch
from torch import Tensor

from balms_seg.distributed import sum_over_ranks
from balms_seg.engine.meta.class_learners import ClassLearner
from balms_seg.engine.meta.meta_batches import MetaBatches, RowPlaces, RowsOf
from balms_seg.meta import linear_classifier, one_step_meta_gradient, sgd_settings
from balms_seg.methods import Method
from balms_seg.modeling.classifier_rows import ClassifierRows, ClassifierView

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
        classifier: ClassifierView,
        optimizer: torch.optim.Optimizer,
        objective: str,
        period: int,
    ) -> None:
        """Check what can be checked before the first iteration.

        Args:
            learner: the class parameters.
            batches: where meta rows come from.
            classifier: an `nn.Linear`, and its method.
            optimizer: of the classifier's parameters; plain SGD.
            objective: the meta loss: "plain", without the method's prior (the paper), or
                "balanced", the training loss itself (the authors' release for LVIS).
            period: iterations from one meta step to the next.

        Raises:
            TypeError: the layer is not linear, or the optimiser not plain SGD.
            ValueError: the objective is plain, and the method has no such loss.
        """
        linear_classifier(classifier.layer)
        sgd_settings(optimizer, classifier.layer.parameters())
        self.learner, self.batches = learner, batches
        self.classifier, self.optimizer, self.period = classifier, optimizer, period
        self._meta_losses = classifier.losses
        if objective == "plain":
            self._meta_losses = classifier.plain_losses
            _check_plain_loss(classifier.method)

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
        is_due = iteration % self.period == 0
        meta = self.batches.next_rows(iteration, rows_of) if is_due else None
        places, meta_classes = _on_host(rows, meta)
        if meta is not None:
            self.learner.set_meta_classes(self.batches.has_samples(), warn=False)
            is_foreground = meta_classes < self.classifier.method.num_classes
            counts = torch.tensor([len(is_foreground), int(is_foreground.sum())])
            num_meta, num_foreground = sum_over_ranks(counts)
            if num_foreground > 0:  # the same on all ranks
                gradient = self._weight_gradient(
                    rows,
                    meta,
                    weights,
                    residuals=residuals,
                    learned=self.learner.learns_from(places.gt_classes),
                    normaliser=normaliser,
                    num_meta=num_meta,
                )
                weights = self.learner.learn(batch, rows, gradient)
        self.batches.add(batch, rows.features, places)
        return weights

    def _weight_gradient(
        self,
        rows: ClassifierRows,
        meta: ClassifierRows,
        weights: Tensor,
        *,
        residuals: Tensor,
        learned: Tensor | None,
        normaliser: Tensor,
        num_meta: Tensor,
    ) -> Tensor:
        """(R,) derivative of the meta loss, one virtual step ahead, by the rows' weights."""
        layer = self.classifier.layer
        return one_step_meta_gradient(
            linear_classifier(layer),
            sgd_settings(self.optimizer, layer.parameters()),
            features=rows.features,
            residuals=residuals,
            sample_weights=weights,
            learned=learned,
            normaliser=normaliser,
            meta_features=meta.features,
            meta_residuals=lambda virtual: loss_and_residuals(
                lambda leaf: self._meta_losses(leaf, meta), virtual
            )[1],
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


def _on_host(rows: ClassifierRows, meta: ClassifierRows | None) -> tuple[RowPlaces, Tensor]:
    """Classes and images of a batch's rows, and classes of the meta rows: one read of a device."""
    meta_classes = rows.gt_classes[:0] if meta is None else meta.gt_classes
    parts = [rows.gt_classes, rows.images, meta_classes]
    classes, images, meta_classes = torch.cat(parts).cpu().split([len(part) for part in parts])
    return RowPlaces(classes, images), meta_classes


def loss_and_residuals(
    compute_losses: Callable[[Tensor], Tensor], logits: Tensor
) -> tuple[Tensor, Tensor]:
    """(R,) losses of (R, C) logits and their (R, C) derivatives, both constants."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        losses = compute_losses(leaf)
        return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


def _check_plain_loss(method: Method) -> None:
    no_rows = torch.zeros(0, method.num_columns), torch.zeros(0, dtype=torch.int64)
    if method.plain_loss(*no_rows) is None:
        raise ValueError(
            f"META.OBJECTIVE is plain, but {type(method).__name__} has no loss without what it "
            "takes from the training set (plain_loss); set META.OBJECTIVE to balanced, or "
            "META.LEARN to none."
        )
