"""Classifying whole images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from balms_seg.data.images.feature_files import holds_features
from balms_seg.data.images.labelled_images import (
    evaluation_classes,
    image_classes,
    load_image_dicts,
)
from balms_seg.data.instances.builtin import Load, load_dataset_dicts
from balms_seg.data.loading.image_loader import build_image_test_loader
from balms_seg.data.preflight.header_checks import without_unreadable
from balms_seg.data.training_set import TrainingSet, require_names
from balms_seg.engine.jobs.job import Job
from balms_seg.evaluation.evaluator_choice import build_evaluator
from balms_seg.job import IMAGE_CLASSIFIER

if TYPE_CHECKING:
    from detectron2.evaluation import DatasetEvaluator

    from balms_seg.class_statistics import ClassStatistics


class ImageJob(Job):
    """Whole images with one label each, by the image classifier."""

    classifier = IMAGE_CLASSIFIER
    of_images = True
    evaluates_in_mixed_precision = True

    def load_training_set(
        self, names: Sequence[str] | None = None, *, load: Load = load_dataset_dicts
    ) -> TrainingSet:
        """With labels that count in the run's order of classes, of images that can be read."""
        names = self.cfg.DATASETS.TRAIN if names is None else names
        require_names(names)
        classes = image_classes(self.cfg, load=load)
        records = load_image_dicts(names, classes, load=load)
        if self.cfg.INPUT.IMAGES.UNREADABLE == "skip" and not holds_features(records):
            records = without_unreadable(records)
        return TrainingSet.count(
            names,
            records,
            classes,
            empty_classes=self.cfg.MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES,
            group_bounds=tuple(self.cfg.TEST.LONG_TAILED.GROUP_BOUNDS) or None,
        )

    def build_test_loader(self, name: str, *, load: Load = load_dataset_dicts) -> Iterable[Any]:
        """From memory, or through data workers."""
        return build_image_test_loader(self.cfg, name, load=load)

    def build_evaluator(
        self, name: str, statistics: ClassStatistics | None, *, load: Load = load_dataset_dicts
    ) -> DatasetEvaluator:
        """Accuracies, in the run's order of classes."""
        if statistics is None:
            classes = evaluation_classes(self.cfg, name, load=load)
        else:
            classes = list(statistics.class_names)
        return build_evaluator(self.cfg, name, statistics=statistics, class_names=classes)
