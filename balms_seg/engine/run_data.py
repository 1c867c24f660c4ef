"""The data sets of a run: each read once, checked, counted once, and handed on."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from balms_seg.class_statistics import ClassStatistics
from balms_seg.data.instances.builtin import Records, load_dataset_dicts
from balms_seg.data.instances.registration import register_from_config
from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.data.training_set import TrainingSet
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.jobs.job import Job

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class DataSets:
    """The registered sets of a run, each read when it is first asked for, and counted once.

    Attributes:
        counted: DATASETS.TRAIN, once it was counted; to be set to None, or changed, where the
            configuration changes in what that depends on.
    """

    def __init__(self) -> None:
        self.counted: TrainingSet | None = None
        self._records: dict[str, Records] = {}

    def records(self, name: str) -> Records:
        """The dataset dicts of a registered set."""
        if name not in self._records:
            self._records[name] = load_dataset_dicts(name)
        return self._records[name]

    def training_set(self, job: Job) -> TrainingSet:
        """As `Job.load_training_set`, of the job's configuration."""
        if self.counted is None:
            self.counted = job.load_training_set(load=self.records)
        return self.counted


class RunData:
    """What a run needs of its data sets; to be dropped once it has been handed out.

    Attributes:
        job: of the configuration.
        records: what reads a set, once.
        statistics: of the training set; None where it is not at hand in an evaluation.
    """

    def __init__(self, cfg: CfgNode, *, training: bool, sets: DataSets | None = None) -> None:
        """Register, read, check and count.

        Args:
            cfg: a checked configuration.
            training: whether DATASETS.TRAIN will be trained on; else it is only counted, where it
                is at hand.
            sets: with what was read of them, for this configuration; None: nothing was.

        Raises:
            PreflightError: lists everything that is wrong with the data.
        """
        self._cfg = cfg
        self._sets = DataSets() if sets is None else sets
        self.records = self._sets.records
        self.job = build_job(cfg)
        self.job.check_data(training=training, load=self.records)
        self.statistics: ClassStatistics | None
        if training:
            self.statistics = self._sets.training_set(self.job).statistics
            _check_empty_classes(self.statistics)
        else:
            self.statistics = statistics_if_available(cfg, self._sets)

    @property
    def training_set(self) -> TrainingSet:
        """What is trained on, in a training run."""
        return self._sets.training_set(self.job)

    def load_meta_set(self) -> TrainingSet:
        """What meta batches come from: META.DATASET, or the training set itself."""
        name = self._cfg.META.DATASET
        if not name:
            return self.training_set
        return self.job.load_training_set((name,), load=self.records)


_NO_COUNTS = (
    "Frequency groups are only those that the evaluated annotations state (LVIS's own are in its "
    "files: AP by group is comparable)."
)


def statistics_if_available(
    cfg: CfgNode, sets: DataSets | None = None, *, consequence: str = _NO_COUNTS
) -> ClassStatistics | None:
    """Statistics of DATASETS.TRAIN; None, with a warning, where it is not at hand.

    Args:
        cfg: as for `training_set_if_available`.
        sets: likewise.
        consequence: likewise.
    """
    found = training_set_if_available(cfg, sets, consequence=consequence)
    return None if found is None else found.statistics


def training_set_if_available(
    cfg: CfgNode, sets: DataSets | None = None, *, consequence: str = _NO_COUNTS
) -> TrainingSet | None:
    """DATASETS.TRAIN, counted; None, with a warning, where it is not at hand.

    Args:
        cfg: names the set.
        sets: with what was read of it.
        consequence: sentence that ends the warning.
    """
    if not cfg.DATASETS.TRAIN:
        return None
    try:
        register_from_config(cfg)
        return (DataSets() if sets is None else sets).training_set(build_job(cfg))
    except (FileNotFoundError, KeyError) as error:
        logger.warning(
            "No counts of the training set: %s. %s",
            str(error.args[0] if isinstance(error, KeyError) else error).rstrip("."),
            consequence,
        )
        return None


def hand(hook: Callable[..., Result], *args: Any, **values: Any) -> Result:
    """Call a hook that a subclass may override, with the values that it takes.

    One with detectron2's own parameters takes none of them, and finds its own.
    """
    parameters = inspect.signature(hook).parameters
    return hook(*args, **{name: value for name, value in values.items() if name in parameters})


def _check_empty_classes(statistics: ClassStatistics) -> None:
    if statistics.empty_classes != "error":
        return
    try:
        statistics.prior_counts("image")
    except ValueError as error:
        raise PreflightError([f"EMPTY_CLASSES is 'error': {error}"]) from error
