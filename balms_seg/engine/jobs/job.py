"""What the engine asks of a job, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from balms_seg.data.instances.builtin import Load, Records, load_dataset_dicts
from balms_seg.data.preflight.data_checks import preflight
from balms_seg.data.training_set import TrainingSet

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.evaluation import DatasetEvaluator

    from balms_seg.class_statistics import ClassStatistics


class Job(ABC):
    """One of the two jobs, with a configuration for it.

    `load` reads the dataset dicts of a registered set: a run hands in what reads each set once.

    Attributes:
        classifier: the classifier among the model's modules, as `MODEL.TRAIN_ONLY` names it.
        of_images: whether the data are whole images with one label each.
        evaluates_in_mixed_precision: where `SOLVER.AMP.ENABLED` is set.
    """

    classifier: ClassVar[str]
    of_images: ClassVar[bool]
    evaluates_in_mixed_precision: ClassVar[bool]

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def check_data(self, *, training: bool, load: Load = load_dataset_dicts) -> None:
        """Stop where the data cannot be used.

        Raises:
            PreflightError: lists everything that is wrong.
        """
        preflight(
            self.cfg,
            training=training,
            of_images=self.of_images,
            load=load,
            evaluation_problems=self.evaluation_problems,
        )

    def evaluation_problems(self, name: str) -> Iterable[str]:
        """Why a set of DATASETS.TEST cannot be evaluated on, for reasons its files can tell."""
        return ()

    @abstractmethod
    def load_training_set(
        self, names: Sequence[str] | None = None, *, load: Load = load_dataset_dicts
    ) -> TrainingSet:
        """Read and count registered sets; those of DATASETS.TRAIN where none are named.

        Raises:
            ValueError: the sets cannot be used.
            FileNotFoundError: a set is not at hand.
            KeyError: a set is not registered.
        """

    @abstractmethod
    def build_test_loader(self, name: str, *, load: Load = load_dataset_dicts) -> Iterable[Any]:
        """The loader of a set to evaluate on."""

    @abstractmethod
    def build_evaluator(
        self, name: str, statistics: ClassStatistics | None, *, load: Load = load_dataset_dicts
    ) -> DatasetEvaluator:
        """The evaluator of a set; without statistics of the training set it knows no counts."""

    def _expected_repeats(self, dicts: Records, num_classes: int) -> Any:
        from balms_seg.sampling import expected_repeats

        return expected_repeats(self.cfg, dicts, num_classes=num_classes)
