"""One step of decoupled training: the box classifier alone, on a trunk that stays as it is.

R: rows (sampled proposals) of this rank's images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

from balms_seg.engine.ranks import sum_over_ranks
from balms_seg.engine.step import TrainingStep
from balms_seg.modeling.box_rows import compute_box_rows

logger = logging.getLogger(__name__)


class ClassifierStep(TrainingStep):
    """Equals the plain step for a model of which only the box classifier trains, at less cost.

    The trunk runs without autograd and up to the classifier's input only. Everything after it, the
    classifier included, is computed in float32.

    The loss is divided by the rows of all ranks, and its gradient summed over them here, so that
    the result does not depend on how a batch is shared out.
    """

    def __init__(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        """As `TrainingStep`; `model` is one that `trains_box_classifier_alone`."""
        super().__init__(model, *args, **kwargs)
        core = model.module if hasattr(model, "module") else model
        if core.vis_period > 0:
            logger.warning("VIS_PERIOD is ignored where only the box classifier trains.")
        self._trunk = partial(compute_box_rows, core)
        self._predictor = core.roi_heads.box_predictor

    def run_step(self) -> None:
        """Load a batch, and take one optimiser step on its classification loss."""
        batch, data_time = self._next_batch()
        rows = self._forward(self._trunk, batch, self.seed)
        num_rows = sum_over_ranks(rows.gt_classes.new_tensor(len(rows.gt_classes))).clamp(min=1)

        logits = self._predictor.cls_score(rows.features)
        self._predictor.log_accuracy(logits, rows.gt_classes)
        row_losses = self._predictor.method.loss(logits, rows.gt_classes, reduction="none")
        loss = self._predictor.loss_weight.get("loss_cls", 1.0) * row_losses.sum() / num_rows

        self.optimizer.zero_grad()
        loss.backward()
        # Raises on NaN, before any weight has changed.
        self._write_metrics({"loss_cls": sum_over_ranks(loss.detach())}, data_time)
        for parameter in self._predictor.cls_score.parameters():
            if parameter.grad is not None:
                parameter.grad = sum_over_ranks(parameter.grad)
        self.optimizer.step()

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        super()._write_metrics(loss_dict, *args, **kwargs)
        for name, loss in loss_dict.items():  # detectron2 logs a loss that is the only one as total
            get_event_storage().put_scalar(name, loss.item())
