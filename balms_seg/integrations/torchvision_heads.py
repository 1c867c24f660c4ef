"""Balanced Softmax in torchvision's detectors. K: classes; its background is column 0."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.models.detection.roi_heads import RoIHeads

from balms_seg.integrations.prior_shift import shifted, sigmoid_shift, softmax_shift


def _take_over(own: nn.Module, theirs: nn.Module, shift: Tensor) -> None:
    """Make all that `theirs` has part of `own`, with a shift that stays out of checkpoints."""
    nn.Module.__init__(own)
    own.__dict__ |= {**vars(theirs), "_buffers": dict(theirs._buffers)}
    own.register_buffer("shift", shift.to(next(theirs.parameters()).device), persistent=False)


class BalancedRoIHeads(RoIHeads):
    """The heads of Faster and Mask R-CNN, trained with Balanced Softmax.

    Put them in place: `model.roi_heads = BalancedRoIHeads(model.roi_heads, counts)`.
    """

    shift: Tensor

    def __init__(self, heads: RoIHeads, counts: Tensor) -> None:
        """Take over a model's heads, which are used up by it.

        Args:
            heads: of K classes and background.
            counts: (K,) positive training instances per class, in the order of the labels 1 to K.
        """
        _take_over(self, heads, F.pad(softmax_shift(counts), (1, 0)))

    def select_training_samples(self, *args: Any, **kwargs: Any) -> Any:
        """As torchvision's; remembers which of the samples are of objects."""
        samples = super().select_training_samples(*args, **kwargs)
        self._is_object = torch.cat(samples[2]) > 0  # the labels
        return samples

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As torchvision's; in training its loss gets shifted logits."""
        if not self.training:
            return super().forward(*args, **kwargs)
        with self.box_predictor.register_forward_hook(self._shifted):
            return super().forward(*args, **kwargs)

    def _shifted(
        self, predictor: nn.Module, features: Any, predictions: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        logits, deltas = predictions
        return shifted(logits, self._is_object, self.shift), deltas


class BalancedRetinaNetHead(RetinaNetClassificationHead):
    """RetinaNet's classification, a sigmoid a class without background, in the sigmoid form.

    Put it in place: `head = model.head`, then
    `head.classification_head = BalancedRetinaNetHead(head.classification_head, frequency)`.
    """

    shift: Tensor

    def __init__(self, head: RetinaNetClassificationHead, frequency: Tensor) -> None:
        """Take over a model's head, which is used up by it.

        Args:
            head: of K classes.
            frequency: (K,) share of training images that hold the class, in the order of the
                labels; 1/2 for a label that does not occur, such as a 0 kept for background.
        """
        _take_over(self, head, sigmoid_shift(frequency))

    def compute_loss(
        self, targets: Any, head_outputs: dict[str, Tensor], matched_idxs: list[Tensor]
    ) -> Tensor:
        """As torchvision's, of logits that are shifted on the anchors of objects."""
        logits = shifted(head_outputs["cls_logits"], torch.stack(matched_idxs) >= 0, self.shift)
        return super().compute_loss(targets, {**head_outputs, "cls_logits": logits}, matched_idxs)
