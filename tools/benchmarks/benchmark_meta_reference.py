"""The authors' scheme of BALMS rebuilt with `torch.func`: what `benchmark.py meta` names so.

Source: cunjunyu/BalancedMetaSoftmax-InstanceSeg, projects/BALMS/balms/{trainer,fast_rcnn,
meta_reweighter}.py, read for what an iteration computes; it uses the abandoned package `higher`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from balms_seg.modeling import keyed_sampling
from balms_seg.modeling.box_rows import CLASSIFIER

Batch = list[dict[str, Any]]


class ReferenceScheme:
    """One iteration: three full forward passes, the middle ones under second-order autograd.

    Losses that nothing trains on (RPN, box regression, masks) are computed in each pass, and every
    binary cross-entropy as often as there.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.SGD,
        *,
        batches: Iterator[Batch],
        meta_batches: Iterator[Batch],
        meta_lr: float = 0.01,
        seeds: tuple[int, int] = (0, 0),
    ) -> None:
        """Prepare the scheme.

        Args:
            model: a detector with a `balanced_sigmoid` classifier, the rest of it frozen.
            optimizer: of the classifier's weight and bias, with momentum.
            batches: training batches.
            meta_batches: class-balanced ones.
            meta_lr: Adam's.
            seeds: key the proposal sampling of the two.
        """
        self.model, self.optimizer = model, optimizer
        self.batches, self.meta_batches, self.seeds = batches, meta_batches, seeds
        predictor = model.roi_heads.box_predictor
        self.psi = nn.Parameter(torch.zeros(predictor.num_classes, device=model.device))
        self.meta_optimizer = torch.optim.Adam([self.psi], lr=meta_lr)
        self._box_losses, self._method = predictor.losses, predictor.method
        predictor.losses = self._losses

    def run_step(self) -> None:
        """A meta step and a training step."""
        batch = next(self.batches)
        self._meta_step(batch)
        losses = self._forward(self._parameters(), batch, self.seeds[0])
        losses.pop("loss_sigmoid")
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()

    def _meta_step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        self.meta_optimizer.zero_grad()
        parameters = self._parameters()
        loss = self._forward(parameters, batch, self.seeds[0])["loss_cls"]
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        virtual = {
            name: self._sgd(parameter, gradient)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
        self._forward(virtual, next(self.meta_batches), self.seeds[1])["loss_sigmoid"].backward()
        self.meta_optimizer.step()

    def _parameters(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.named_parameters() if CLASSIFIER in name}

    def _forward(self, parameters: dict[str, Tensor], batch: Batch, seed: int) -> dict[str, Tensor]:
        positions = [sample["stream_position"] for sample in batch]
        with keyed_sampling(seed, positions):
            return functional_call(self.model, parameters, (batch,))

    def _sgd(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        (group,) = [
            g for g in self.optimizer.param_groups if any(p is parameter for p in g["params"])
        ]
        velocity = gradient + group["weight_decay"] * parameter
        buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            velocity = group["momentum"] * buffer + velocity
        return parameter - group["lr"] * velocity

    def _losses(self, predictions: tuple[Tensor, Tensor], proposals: list) -> dict[str, Tensor]:
        logits, _ = predictions
        losses = self._box_losses(predictions, proposals)  # its loss_cls is thrown away there too
        gt_classes = torch.cat([each.gt_classes for each in proposals])
        num_rows, num_classes = logits.shape
        is_foreground = gt_classes < num_classes
        shifted = logits + torch.logit(self._method.frequency) * is_foreground[:, None]

        labels = F.one_hot(gt_classes, num_classes + 1)[:, :-1].to(logits)
        rows = F.binary_cross_entropy_with_logits(shifted, labels, reduction="none").sum(dim=1)
        weights = labels[is_foreground] @ torch.sigmoid(self.psi)
        weighted = rows[is_foreground] * weights / weights.sum() * len(weights)
        total = weighted.sum() + rows[~is_foreground].sum()
        meta = F.binary_cross_entropy_with_logits(shifted, labels, reduction="none").sum()
        return {**losses, "loss_cls": total / num_rows, "loss_sigmoid": meta / num_rows}
