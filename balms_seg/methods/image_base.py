"""What a method for whole images has to answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from balms_seg.methods.base import ClassifierMethod


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
    """Settings that methods for images read; each ignores what does not concern it."""


class ImageMethod(ClassifierMethod[ImageMethodOptions]):
    """The loss of an image classifier, its probabilities, and the classifier that it is made for.

    B images, K classes and as many logits: there is no background. `labels` lie in [0, K).
    """

    num_classes_key = "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"
    options_class = ImageMethodOptions
    classifier_kind: ClassVar[str] = "linear"  # or "cosine"; what CLASSIFIER: auto stands for

    @property
    def num_columns(self) -> int:
        """K logits."""
        return self.num_classes

    @abstractmethod
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
            features: (B, D) input of the classifier, with their graph, for losses that read them.
            progress: for losses that change in the course of training.
            reduction: "mean" (0 with a gradient where B = 0) and "sum" give a scalar, "none" (B,).

        Raises:
            ValueError: the loss needs `features` or `progress` and got none.
        """

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, K) probabilities; rows sum to 1."""
