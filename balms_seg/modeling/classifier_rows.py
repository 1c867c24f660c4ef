"""What a classifier alone is trained on: features and classes of boxes, or of whole images.

R rows: sampled proposals of a batch, or its images; D features; C columns of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from balms_seg.methods import ClassifierMethod


class ClassifierRows(NamedTuple):
    """R rows, image by image.

    Attributes:
        features: (R, D) float32 input of the classifier.
        gt_classes: (R,) int64 in [0, K); of boxes in [0, K], K being background.
        images: (R,) int64 place of each row's image in the batch.
    """

    features: Tensor
    gt_classes: Tensor
    images: Tensor


@dataclass(frozen=True, eq=False)
class ClassifierView:
    """A model of which the classifier alone trains, seen from the classifier.

    Attributes:
        layer: the classifier, (R, D) to (R, C).
        method: gives its loss.
        compute_rows: runs everything before the classifier on a batch, without gradients.
        compute_losses: (R, C) logits and the rows to (R,) losses.
        log_accuracy: puts the accuracy of (R, C) logits for (R,) classes into the event storage.
        loss_weight: factor on the loss.
        has_background: whether rows may be of class K.
    """

    layer: nn.Module
    method: ClassifierMethod[Any]
    compute_rows: Callable[[Any], ClassifierRows]
    compute_losses: Callable[[Tensor, ClassifierRows], Tensor]
    log_accuracy: Callable[[Tensor, Tensor], None]
    loss_weight: float = 1.0
    has_background: bool = False


def trains_alone(model: nn.Module, classifier: str) -> bool:
    """Whether nothing but the module of that name has trainable parameters, and it has some."""
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    return bool(trained) and all(name.startswith(f"{classifier}.") for name in trained)
