"""What a classifier alone is trained on: features and classes of boxes, or of whole images.

R rows: sampled proposals of a batch, or its images; D features; C columns of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from balms_seg.methods import LossContext, Method
from balms_seg.modeling.loss_context import row_losses


class ClassifierRows(NamedTuple):
    """R rows, image by image.

    Attributes:
        features: (R, D) float32 input of the classifier.
        gt_classes: (R,) int64 in [0, K); of boxes in [0, K], K being background.
        images: (R,) int64 place of each row's image in the batch.
        columns: (R, K) bool where labels are partial, see `LossContext`.
    """

    features: Tensor
    gt_classes: Tensor
    images: Tensor
    columns: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ClassifierView:
    """A model of which the classifier alone trains, seen from the classifier.

    Attributes:
        layer: the classifier, (R, D) to (R, C).
        method: gives its loss.
        compute_rows: runs everything before the classifier on a batch, without gradients.
        context: what the method is told of rows.
        accuracies: () float64 shares of rows by their names in the log, of (R, C) logits for (R,)
            classes; they stay where the logits are, so that nobody waits. NaN: of no row.
        loss_weight: factor on the loss.
        has_background: whether rows may be of class K.
    """

    layer: Any  # a module with in_features and weight
    method: Method
    compute_rows: Callable[[Any], ClassifierRows]
    context: Callable[[ClassifierRows], LossContext]
    accuracies: Callable[[Tensor, Tensor], dict[str, Tensor]]
    loss_weight: float = 1.0
    has_background: bool = False

    def training_losses(self, logits: Tensor, rows: ClassifierRows) -> Tensor:
        """(R,) losses of (R, C) logits; once for each batch that is trained on."""
        return self._losses(logits, rows, is_trained=True)

    def losses(self, logits: Tensor, rows: ClassifierRows) -> Tensor:
        """(R,) losses of (R, C) logits; changes nothing."""
        return self._losses(logits, rows, is_trained=False)

    def _losses(self, logits: Tensor, rows: ClassifierRows, *, is_trained: bool) -> Tensor:
        context = self.context(rows)
        return row_losses(self.method, logits, rows.gt_classes, context, is_trained=is_trained)

    def plain_losses(self, logits: Tensor, rows: ClassifierRows) -> Tensor:
        """(R,) losses of (R, C) logits, without what the method takes from the training set."""
        context = self.context(rows)
        logits = context.without_unknown(logits, rows.gt_classes, self.method.foreground_columns)
        losses = self.method.plain_loss(logits, rows.gt_classes)
        assert losses is not None
        return losses


def trains_alone(model: nn.Module, classifier: str) -> bool:
    """Whether nothing but the module of that name has trainable parameters, and it has some."""
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    return bool(trained) and all(name.startswith(f"{classifier}.") for name in trained)
