"""One step of decoupled training: the classifier alone, on a trunk that stays as it is.

R: rows (sampled proposals, or whole images) of this rank's images.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from balms_seg.distributed import sum_over_ranks
from balms_seg.engine.meta.meta_step import MetaStep, loss_and_residuals
from balms_seg.engine.step import TrainingStep
from balms_seg.modeling.classifier_rows import ClassifierRows
from balms_seg.modeling.find_classifier import find_classifier_view
from balms_seg.modeling.freeze import normalised_as_in_evaluation

logger = logging.getLogger(__name__)


class ClassifierStep(TrainingStep):
    """Equals the plain step for a model of which only the classifier trains, at less cost.

    The trunk runs without autograd and up to the classifier's input only. Everything after it, the
    classifier included, is computed in float32.

    The loss is divided by the rows of all ranks, and its gradient summed over them here, so that
    the result does not depend on how a batch is shared out.

    Attributes:
        meta: what weighs the rows and learns from it; None: all rows weigh the same.
    """

    def __init__(
        self, model: nn.Module, *args: Any, meta: MetaStep | None = None, **kwargs: Any
    ) -> None:
        """As `TrainingStep`; `model` is one in which `find_classifier_view` finds a classifier."""
        super().__init__(model, *args, **kwargs)
        self.meta = meta
        core: Any = model.module if hasattr(model, "module") else model
        if getattr(core, "vis_period", 0) > 0:
            logger.warning("VIS_PERIOD is ignored where only the classifier trains.")
        view = find_classifier_view(core)
        assert view is not None
        self._view = view

    def run_step(self) -> None:
        """Load a batch, and take one optimiser step on its classification loss."""
        batch, data_time = self._next_batch()
        rows = self._rows_of(batch, self.seed)
        num_rows = sum_over_ranks(rows.gt_classes.new_full((), len(rows.gt_classes))).clamp(min=1)
        normaliser = num_rows / self._view.loss_weight

        logits = self._view.layer(rows.features)
        with self._keyed_sampling(batch, self.seed):
            row_losses, residuals = loss_and_residuals(
                lambda leaf: self._view.training_losses(leaf, rows), logits
            )
            row_weights = torch.ones_like(row_losses)
            if self.meta is not None:
                row_weights = self._row_weights(batch, rows, residuals, normaliser)
        row_weights = row_weights / normaliser
        loss = (row_losses * row_weights).sum()

        self.optimizer.zero_grad()
        logits.backward(residuals * row_weights[:, None])
        accuracies = self._view.accuracies(logits, rows.gt_classes)
        # Raises on NaN, before any weight has changed.
        self._write_loss(sum_over_ranks(loss), accuracies, data_time)
        for parameter in self._view.layer.parameters():
            if parameter.grad is not None:
                parameter.grad = sum_over_ranks(parameter.grad)
        self.optimizer.step()

    def losses(self, batch: list[dict[str, Any]]) -> Any:
        """As there, of the rows of the classifier; without a meta step."""
        rows = self._rows_of(batch, self.seed)
        with self._keyed_sampling(batch, self.seed):
            return self._view.training_losses(self._view.layer(rows.features), rows)

    def _rows_of(self, batch: list[dict], seed: int) -> ClassifierRows:
        return self._forward(self._view.compute_rows, batch, seed)

    def _meta_rows_of(self, batch: list[dict], seed: int) -> ClassifierRows:
        """Those of a meta batch, which stands for test images: normalised as they are."""
        with normalised_as_in_evaluation(self.model):
            return self._rows_of(batch, seed)

    def _row_weights(
        self, batch: list[dict], rows: ClassifierRows, residuals: Tensor, normaliser: Tensor
    ) -> Tensor:
        assert self.meta is not None
        try:
            return self.meta.row_weights(
                self.iter,
                batch,
                rows,
                residuals=residuals,
                normaliser=normaliser,
                rows_of=self._meta_rows_of,
            )
        except FloatingPointError as error:
            raise self._stopped(str(error)) from error

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state and the meta step's."""
        meta = {} if self.meta is None else {"meta": self.meta.state_dict()}
        return {**super().state_dict(), **meta}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a run without a meta step has none to restore."""
        super().load_state_dict(state_dict)
        if self.meta is None:
            return
        if "meta" in state_dict:
            self.meta.load_state_dict(state_dict["meta"])
        else:
            logger.warning(
                "The checkpoint is of a run without a meta step: what it learns starts anew."
            )

    def _write_loss(self, loss: Tensor, accuracies: Mapping[str, Tensor], data_time: float) -> None:
        """Log () loss and accuracies, which one read brings to the host together."""
        scalars = torch.stack([loss.double(), *accuracies.values()])
        value, *shares = scalars.tolist()
        self._write_metrics({"loss_cls": torch.tensor(value, dtype=torch.float64)}, data_time)
        # detectron2 stops the main rank alone, and logs a loss that is the only one as total_loss.
        if not math.isfinite(value):
            raise self._stopped("loss_cls is not finite.")
        known = {n: share for n, share in zip(accuracies, shares, strict=True) if share == share}
        get_event_storage().put_scalars(loss_cls=value, **known)
