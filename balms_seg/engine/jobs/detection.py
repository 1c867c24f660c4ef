"""Detecting and segmenting instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.data import build_detection_test_loader
from detectron2.data.build import load_proposals_into_dataset

from balms_seg.data.instances.builtin import Load, load_dataset_dicts
from balms_seg.data.instances.copy_paste import expected_pastes
from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.instances.mapper import build_test_mapper
from balms_seg.data.training_set import TrainingSet, load_instance_dicts, shared_classes
from balms_seg.engine.jobs.job import Job
from balms_seg.evaluation.evaluator_choice import build_evaluator, evaluation_problems
from balms_seg.job import BOX_CLASSIFIER
from balms_seg.stop_signals import leave_signals_to_parent

if TYPE_CHECKING:
    from detectron2.evaluation import DatasetEvaluator

    from balms_seg.class_statistics import ClassStatistics


class DetectionJob(Job):
    """Instances with boxes and masks, by detectron2's models."""

    classifier = BOX_CLASSIFIER
    of_images = False
    evaluates_in_mixed_precision = False  # as detectron2 does

    def load_training_set(
        self, names: Sequence[str] | None = None, *, load: Load = load_dataset_dicts
    ) -> TrainingSet:
        """With the counts of what is drawn where a method's prior are those, and what is pasted."""
        cfg = self.cfg
        names = cfg.DATASETS.TRAIN if names is None else names
        dicts, num_left_out = load_instance_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            with_masks=cfg.MODEL.MASK_ON,
            load=load,
        )
        counts_draws = any(node.get("PRIOR") == "sampled" for node in cfg.MODEL.METHODS.values())
        class_names = shared_classes(names)
        return TrainingSet.count(
            names,
            dicts,
            class_names,
            empty_classes=cfg.MODEL.ROI_BOX_HEAD.EMPTY_CLASSES,
            repeats=self._expected_repeats if counts_draws else None,
            pastes_per_image=expected_pastes(cfg, dicts, len(class_names)),
            group_bounds=tuple(cfg.TEST.LONG_TAILED.GROUP_BOUNDS) or None,
            num_left_out=num_left_out,
        )

    def build_test_loader(self, name: str, *, load: Load = load_dataset_dicts) -> Iterable[Any]:
        """detectron2's, with this package's decoder."""
        cfg, records = self.cfg, load(name)
        if isinstance(records, DatasetDicts):
            records = records.with_masks(False)
        if cfg.MODEL.LOAD_PROPOSALS:
            files = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=True))
            records = load_proposals_into_dataset(list(records), files[name])
        loader = build_detection_test_loader(
            records, mapper=build_test_mapper(cfg), num_workers=cfg.DATALOADER.NUM_WORKERS
        )
        loader.worker_init_fn = leave_signals_to_parent
        return loader

    def evaluation_problems(self, name: str) -> Iterable[str]:
        """Builds the ground truth as the evaluator will."""
        return evaluation_problems(self.cfg, name)

    def build_evaluator(
        self, name: str, statistics: ClassStatistics | None, *, load: Load = load_dataset_dicts
    ) -> DatasetEvaluator:
        """By LVIS's rules; reads the annotations itself."""
        return build_evaluator(self.cfg, name, statistics=statistics)
