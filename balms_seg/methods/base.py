"""What a classification method has to answer, and what one for boxes adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


@dataclass(frozen=True)
class MethodOptions:
    """Settings that methods read; each ignores what does not concern it.

    Attributes:
        prior: counts that serve as prior: "image", "instance", "sampled", or "auto" (the method's).
        background: treatment of the background column in Balanced Softmax.
        background_count: count of the background class where `background` is "prior"; None: the
            foreground counts' sum times `background_ratio`.
        background_ratio: background proposals for each foreground proposal in a training batch.
        sigmoid_prior_probability: p in the initial bias -log((1 - p) / p) of sigmoid classifiers.
    """

    prior: str = "auto"
    background: str = "foreground_only"
    background_count: float | None = None
    background_ratio: float = 3.0
    sigmoid_prior_probability: float = 0.001


Options = TypeVar("Options")


class ClassifierMethod(nn.Module, ABC, Generic[Options]):
    """Options and class priors, for boxes and whole images alike; K classes.

    Class counts live in buffers that follow the model's device and stay out of checkpoints.
    """

    needs_statistics: bool = False  # of the training set, for the loss
    independent_scores: bool = False  # a sigmoid per class, so that scores do not sum to 1
    num_classes_key: str  # of the configuration, for errors
    options_class: type[Options]

    def __init__(
        self,
        num_classes: int,
        *,
        statistics: ClassStatistics | None = None,
        options: Options | None = None,
    ) -> None:
        super().__init__()
        if statistics is not None and statistics.num_classes != num_classes:
            raise ValueError(
                f"Expected statistics of {num_classes} classes, but got "
                f"{statistics.num_classes}; set {self.num_classes_key} to the number of "
                "classes of the training set."
            )
        self.num_classes = num_classes
        self.options = self.options_class() if options is None else options
        self.prepare(statistics)

    def prepare(self, statistics: ClassStatistics | None) -> None:  # noqa: B027 (most need none)
        """Take what the loss needs from the training set's statistics (None: inference only)."""

    @property
    @abstractmethod
    def num_columns(self) -> int:
        """Logits per row."""

    @property
    def initial_bias(self) -> float:
        """Initial value of the classifier's bias."""
        return 0.0

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(R, num_columns) logits to scores in [0, 1]."""

    def _register_prior(self, name: str, values: object | None) -> None:
        """Keep a (K,) vector of the training set, or nothing for inference only."""
        buffer = None if values is None else torch.as_tensor(values, dtype=torch.float32)
        self.register_buffer(name, buffer, persistent=False)

    def _prior(self, name: str) -> Tensor:
        """The vector kept under `name`.

        Raises:
            RuntimeError: the method was built without statistics.
        """
        buffer = getattr(self, name)
        if buffer is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the training set's ClassStatistics for its loss, but "
                "was built without; register the sets in DATASETS.TRAIN before building the "
                "model, or pass statistics=."
            )
        return buffer


class Method(ClassifierMethod[MethodOptions]):
    """How many logits a box classifier has, its loss, and its probabilities.

    R rows (proposals), K foreground classes; `gt_classes` lie in [0, K], K is background.
    """

    num_classes_key = "MODEL.ROI_HEADS.NUM_CLASSES"
    options_class = MethodOptions

    @property
    def num_columns(self) -> int:
        """Logits per row; K + 1 with the background last, unless the method has its own layout."""
        return self.num_classes + 1

    @abstractmethod
    def loss(self, logits: Tensor, gt_classes: Tensor, *, reduction: str = "mean") -> Tensor:
        """Loss of the proposals, as a sum over the rows or its mean.

        Args:
            logits: (R, num_columns).
            gt_classes: (R,).
            reduction: "mean" (0 with a gradient where R = 0) and "sum" give a scalar, "none" (R,).
        """

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(R, num_columns) logits to (R, K + 1) scores whose last column is background."""

    def decision_scores(self, logits: Tensor) -> Tensor:
        """(R, K + 1) scores whose argmax is the class decided for, background last."""
        return logits
