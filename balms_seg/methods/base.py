"""What a classification method has to answer, for boxes and for whole images.

Legend: R rows (proposals of a batch, or its images), K classes, C columns of the classifier. Where
there is background (boxes), targets lie in [0, K] and K is background; else in [0, K).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from balms_seg.class_statistics import ClassStatistics
from balms_seg.methods.settings import MethodSettings

if TYPE_CHECKING:
    from balms_seg.methods.context import LossContext


class Method(nn.Module, ABC):
    """How many columns a classifier has, its loss, and its probabilities.

    What a method takes from the training set (`prepare`) lies in buffers that follow the model's
    device and stay out of checkpoints. What it learns while training, its running state, lies in
    persistent buffers (`add_state`): checkpoints hold it, an average of the weights copies it, and
    `training_loss` alone changes it, the same on all ranks.

    Attributes:
        num_classes: K.
        has_background: whether rows may be of background.
        settings: of the class's `Settings`.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    # What a method promises; the tests of the contract ask for exactly that.
    needs_statistics: ClassVar[bool] = False  # of the training set, for loss or probabilities
    rows_are_independent: bool = True  # a row's loss does not depend on the other rows
    has_state: ClassVar[bool] = False  # that training changes
    needs_progress: ClassVar[bool] = False  # the loss asks how far the run is
    independent_scores: ClassVar[bool] = False  # a sigmoid per class: scores do not sum to 1
    # Layer of the classifier that "auto" stands for, "linear" or "cosine"; and whether another
    # than cosines, multiplied with `cosine_scale`, means nothing to the loss.
    classifier_kind: ClassVar[str] = "linear"
    needs_cosines: ClassVar[bool] = False

    settings: MethodSettings
    __jit_ignored_attributes__: ClassVar[tuple[str, ...]] = ("settings",)
    __jit_unused_properties__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep from TorchScript what it would compile or resolve needlessly, and cannot."""
        super().__init_subclass__(**kwargs)
        cls.__jit_ignored_attributes__ = (*cls.__jit_ignored_attributes__, *cls.__annotations__)
        cls.__jit_unused_properties__ = tuple(
            name for name in dir(cls) if isinstance(getattr(cls, name, None), property)
        )

    def __init__(
        self, num_classes: int, *, has_background: bool, settings: MethodSettings | None = None
    ) -> None:
        """Choose the settings; `prepare` brings what the loss needs from the training set."""
        super().__init__()
        if settings is not None and not isinstance(settings, self.Settings):
            raise TypeError(
                f"Expected settings of {type(self).__name__}.Settings, but got "
                f"{type(settings).__name__}; build them by METHODS[name].Settings("
                f"{', '.join(f'{field.name}=...' for field in fields(self.Settings))}), of "
                "balms_seg.methods."
            )
        self.num_classes, self.has_background = num_classes, has_background
        self.settings = self.Settings() if settings is None else settings

    @property
    def num_columns(self) -> int:
        """C; K, and one for background, unless the method has its own layout."""
        return self.num_classes + self.has_background

    @property
    def foreground_columns(self) -> slice:
        """Where the K classes' columns are."""
        return slice(0, self.num_classes)

    @property
    def initial_bias(self) -> float:
        """Initial value of the classifier's bias."""
        return 0.0

    def bias_of(self, probability: Tensor) -> Tensor:
        """Bias with which a column starts at a probability."""
        return probability.log()

    def prior_bias(self, shares: Tensor, foreground: float) -> Tensor:
        """(C,) biases with which the scores start at how often the classes occur.

        Args:
            shares: (K,) of each class among the objects.
            foreground: share of objects among the rows; 1 where there is no background.
        """
        background = shares.new_tensor([1 - foreground])
        return self.bias_of(torch.cat([foreground * shares, background])[: self.num_columns])

    @property
    def cosine_scale(self) -> float | None:
        """What a cosine classifier has to multiply with; None leaves it to the configuration."""
        return None

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Take what the method needs from the training set; None: it is only to predict.

        Raises:
            TypeError: the statistics are counts alone.
            ValueError: the statistics are of another number of classes, or the settings do not go
                with it.
        """
        if not (statistics is None or isinstance(statistics, ClassStatistics)):
            raise TypeError(
                "Expected ClassStatistics of the training set, or None for a model that only "
                f"predicts, but got {type(statistics).__name__}; make them by "
                "ClassStatistics.from_json, from_dataset_dicts or from_labels, of balms_seg."
            )
        if statistics is not None and statistics.num_classes != self.num_classes:
            node = "ROI_HEADS" if self.has_background else "IMAGE_CLASSIFIER"
            raise ValueError(
                f"Expected statistics of {self.num_classes} classes, but got "
                f"{statistics.num_classes}; set MODEL.{node}.NUM_CLASSES to the number of classes "
                "of the training set."
            )
        if statistics is not None:
            self.settings.check_classes(self.num_classes)

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Loss of each row; changes nothing.

        Args:
            logits: (R, C).
            targets: (R,) int64.
            context: what else is known of the rows.

        Returns:
            (R,) in float32 or wider; what is trained on is their mean.
        """

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """As `loss`, called exactly once for each batch that is trained on, on every rank.

        Running state changes here and nowhere else.
        """
        return self.loss(logits, targets, context)

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """(R,) losses without what the method takes from the training set: the meta objective.

        None: the method has no such loss, and cannot be trained with a meta step.
        """
        return None

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(R, C) logits to scores in [0, 1]: (R, K + 1) with background last, else (R, K)."""

    def decision_scores(self, logits: Tensor) -> Tensor:
        """Scores of the shape of `probabilities` whose argmax is the class decided for."""
        return self.probabilities(logits)

    @torch.no_grad()
    def init_classifier(self, layer: nn.Module, generator: torch.Generator | None = None) -> None:
        """Initialise a classifier of `num_columns` columns, in place.

        Args:
            layer: with a weight (C, D), a bias (C,) or None, and where normal weights of deviation
                0.01 will not do a deviation `initial_std`.
            generator: on the CPU; None: torch's global one.
        """
        weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
        fresh = torch.empty(weight.shape)
        fresh.normal_(std=getattr(layer, "initial_std", 0.01), generator=generator)
        weight.copy_(fresh)
        if bias is not None:
            bias.fill_(self.initial_bias)

    def keep(self, name: str, values: Any | None) -> None:
        """Keep a vector of the training set in float32; None where the method only predicts."""
        buffer = None if values is None else torch.as_tensor(values, dtype=torch.float32)
        self.register_buffer(name, buffer, persistent=False)

    def kept(self, name: str) -> Tensor:
        """The vector kept under a name.

        Raises:
            RuntimeError: the method was prepared without statistics, or not at all.
        """
        buffer = getattr(self, name, None)
        if buffer is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the training set's ClassStatistics, but got none; "
                "name the sets in DATASETS.TRAIN of a run of this package; elsewhere call "
                "balms_seg.modeling.prepare_model(model, ClassStatistics.from_json(...)), or give "
                "replace_box_classifier the statistics."
            )
        return buffer

    def add_state(self, name: str, values: Tensor) -> None:
        """Running state and its start: a persistent buffer."""
        self.register_buffer(name, values)
