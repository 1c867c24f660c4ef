"""What a method for whole images has to answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from balms_seg.losses import _checks
from balms_seg.methods.base import ClassifierMethod

FBL_ALPHAS = ("released", "clipped")
CB_LOSSES = ("softmax", "focal")


@dataclass(frozen=True)
class TrainingProgress:
    """How far training is, for losses that change on the way.

    Attributes:
        iteration: from 0.
        max_iter: iterations of the run.
        epoch: passes through the training set that are over, a whole number from 0.
        max_epoch: passes that the run makes; need not be whole.
    """

    iteration: int
    max_iter: int
    epoch: int
    max_epoch: float


@dataclass(frozen=True)
class ImageMethodOptions:
    """Settings that methods for images read; each ignores what does not concern it.

    Attributes:
        focal_gamma: gamma of the focal loss.
        cb_beta: beta of the effective number of samples, for cb_loss and ldam_drw.
        cb_loss: what cb_loss weighs: "softmax" or "focal".
        ldam_max_margin: margin of the rarest class.
        cosine_scale: what a cosine classifier multiplies its cosines with.
        drw_start: share of the run after which ldam_drw weighs the classes.
        logit_adjustment_tau: tau.
        fbl_lambda: lambda of the Feature-Balanced Loss.
        fbl_alpha: its curriculum: "released", or "clipped" at 1.
        fbl_ramp: share of the run after which alpha is 1; 0: ten epochs before the end, in whole
            epochs, as released.
    """

    focal_gamma: float = 1.0
    cb_beta: float = 0.9999
    cb_loss: str = "softmax"
    ldam_max_margin: float = 0.5
    cosine_scale: float = 30.0
    drw_start: float = 0.8
    logit_adjustment_tau: float = 1.0
    fbl_lambda: float = 60.0
    fbl_alpha: str = "released"
    fbl_ramp: float = 0.0

    @classmethod
    def from_config(cls, node: Any) -> ImageMethodOptions:
        """Read `MODEL.IMAGE_CLASSIFIER`, whose keys are the attributes in capitals."""
        return cls(**{field.name: node[field.name.upper()] for field in fields(cls)})


class ImageMethod(ClassifierMethod[ImageMethodOptions]):
    """The loss of an image classifier, its probabilities, and the classifier that it is made for.

    B images, K classes and as many logits: there is no background. `labels` lie in [0, K).
    """

    num_classes_key = "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"
    options_class = ImageMethodOptions
    classifier_kind: ClassVar[str] = "linear"  # or "cosine"; what CLASSIFIER: auto stands for
    needs_features: ClassVar[bool] = False
    needs_progress: ClassVar[bool] = False

    @property
    def num_columns(self) -> int:
        """K logits."""
        return self.num_classes

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        features: Tensor | None = None,
        progress: TrainingProgress | None = None,
        reduction: str = "mean",
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, K).
            labels: (B,) int64.
            features: (B, D) input of the classifier, with its graph, where `needs_features`.
            progress: how far training is, where `needs_progress`.
            reduction: "mean" (0 with a gradient where B = 0) and "sum" give a scalar, "none" (B,).

        Raises:
            ValueError: the loss needs `features` or `progress` and got none.
        """
        for name, needed, given in (
            ("features", self.needs_features, features),
            ("progress", self.needs_progress, progress),
        ):
            if needed and given is None:
                raise ValueError(
                    f"The loss of {type(self).__name__} reads {name}, but got None; pass {name}=, "
                    "and choose another method for a meta step or a calibration, which have none."
                )
        _checks.check_reduction(reduction)
        return _checks.reduce_loss(self.row_losses(logits, labels, features, progress), reduction)

    @abstractmethod
    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) losses whose mean is the batch's; arguments as for `loss`."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, K) probabilities; rows sum to 1. The plain softmax."""
        return F.softmax(logits, dim=-1)


def weigh_rows(losses: Tensor, class_weights: Tensor, labels: Tensor) -> Tensor:
    """Losses times their class's weight, the weights scaled to mean 1 over the batch.

    Their mean is that of `F.cross_entropy(..., weight=)`, which reference implementations use.

    Args:
        losses: (B,).
        class_weights: (K,) positive; only their ratios matter.
        labels: (B,).
    """
    weights = class_weights.to(losses)[labels]
    return losses * (weights * (len(weights) / weights.sum()))
