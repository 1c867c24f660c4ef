"""The trainer of every job: detectron2's, with our step, loader, evaluators and checkpoints."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

from detectron2.engine import DefaultTrainer, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from balms_seg.config.meta_learning import check_meta_training
from balms_seg.data import build_train_loader, load_dataset_dicts
from balms_seg.data.loading.unread_keys import every_key_is_read
from balms_seg.engine.batch_size import rescale_progress, scaled_to
from balms_seg.engine.bounded_history import BoundedHistory
from balms_seg.engine.checkpoints import LongTailedCheckpointer, require_finite
from balms_seg.engine.class_checks import CLASSES_KEY, check_classes, class_record
from balms_seg.engine.classifier_start import start_as_configured
from balms_seg.engine.classifier_step import ClassifierStep
from balms_seg.engine.evaluated_sets import EvaluatedSet, evaluate_sets
from balms_seg.engine.interruption import evaluate_interruptibly, stops_told
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.meta.meta_setup import build_meta_step
from balms_seg.engine.mixed_precision import half_precision
from balms_seg.engine.optimizer import build_optimizer
from balms_seg.engine.run_data import DataSets, RunData, hand, statistics_if_available
from balms_seg.engine.run_hooks import with_run_hooks
from balms_seg.engine.run_state import restore_state, state_of
from balms_seg.engine.settled_settings import with_settled_warmup
from balms_seg.engine.stage_one import check_stage_one
from balms_seg.engine.step import TrainingStep, data_parallel
from balms_seg.engine.step_errors import step_errors_explained
from balms_seg.engine.writers import run_writers
from balms_seg.evaluation.evaluator_choice import evaluation_folder
from balms_seg.modeling.classifier_init import starts_anew
from balms_seg.modeling.find_classifier import find_classifier_view
from balms_seg.modeling.freeze import train_only
from balms_seg.modeling.prepare import prepare_model
from balms_seg.stop_signals import stop_signals

if TYPE_CHECKING:
    import torch
    from detectron2.config import CfgNode
    from detectron2.evaluation import DatasetEvaluator

    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.data.instances.builtin import Load
    from balms_seg.data.training_set import TrainingSet

logger = logging.getLogger(__name__)


class LongTailedTrainer(DefaultTrainer):
    """Trains, evaluates, resumes; hooks, schedules and writers are detectron2's.

    Each data set is read once, however often it is needed, and the training set counted once.
    `build_train_loader`, `build_test_loader` and `build_evaluator` are handed what was read; one
    that a subclass defines with detectron2's own parameters is called as detectron2 calls it.
    """

    def __init__(self, cfg: CfgNode, sets: DataSets | None = None) -> None:
        """Check the data; build model, optimiser, loaders and hooks.

        Args:
            cfg: a checked configuration with `SEED` >= 0.
            sets: with what `setup` read for it.

        Raises:
            PreflightError: something is wrong with the data.
            ValueError: the run would end before its warm-up does.
        """
        # DefaultTrainer's own fixes the step, the checkpointer, and CUDA for data-parallel models.
        TrainerBase.__init__(self)
        given = with_settled_warmup(cfg)
        cfg = scaled_to(given, comm.get_world_size())
        data = RunData(cfg, training=True, sets=sets)
        whole = data.training_set
        self.statistics, self.image_numbers = whole.statistics, whole.image_numbers
        model = prepare_model(self.build_model(cfg), self.statistics)
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = self._build_step(cfg, model, optimizer, data)
        self._test_loaders = self._build_test_loaders(cfg, data.records)
        self._evaluated_sets: list[EvaluatedSet] | None = None
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LongTailedCheckpointer(
            model, cfg.OUTPUT_DIR, keep=cfg.SOLVER.CHECKPOINTS_TO_KEEP, trainer=weakref.proxy(self)
        )
        self.checkpointer.record = {
            "config": given.dump(),
            CLASSES_KEY: class_record(cfg, whole).to_plain(),
        }
        self.cfg, self.start_iter, self.max_iter = cfg, 0, cfg.SOLVER.MAX_ITER
        self.register_hooks([BoundedHistory(), *self.build_hooks()])

    @every_key_is_read()
    def _build_step(
        self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, data: RunData
    ) -> TrainingStep:
        """The step of the whole model, or of its classifier alone, with or without learning."""
        check_meta_training(cfg, of_images=build_job(cfg).of_images)
        loader = hand(self.build_train_loader, cfg, training_set=data.training_set)
        settings = {"seed": cfg.SEED, "mixed_precision": half_precision(cfg)}
        classifier = find_classifier_view(model)
        if classifier is None:
            return TrainingStep(data_parallel(model), loader, optimizer, **settings)
        meta = build_meta_step(cfg, classifier, optimizer, loader, data)
        return ClassifierStep(data_parallel(model), loader, optimizer, meta=meta, **settings)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model, with everything frozen that `MODEL.TRAIN_ONLY` does not name."""
        model = super().build_model(cfg)
        if not cfg.MODEL.TRAIN_ONLY:
            return model
        return train_only(model, cfg.MODEL.TRAIN_ONLY, frozen_norm=cfg.MODEL.FROZEN_NORM)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser that `SOLVER.OPTIMIZER` names."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, training_set: TrainingSet | None = None) -> Any:
        """This package's loader, keyed by stream position."""
        dicts = None if training_set is None else training_set.dicts
        return build_train_loader(cfg, dataset_dicts=dicts)

    @classmethod
    def build_test_loader(
        cls, cfg: CfgNode, dataset_name: str, load: Load = load_dataset_dicts
    ) -> Any:
        """detectron2's for detectors, this package's for image classifiers."""
        return build_job(cfg).build_test_loader(dataset_name, load=load)

    @classmethod
    def build_evaluator(
        cls,
        cfg: CfgNode,
        dataset_name: str,
        statistics: ClassStatistics | None = None,
        load: Load = load_dataset_dicts,
    ) -> DatasetEvaluator:
        """The evaluator for a registered data set, with the training set's counts and groups."""
        return build_job(cfg).build_evaluator(dataset_name, statistics, load=load)

    def build_writers(self) -> list[Any]:
        """Terminal, metrics.json, and tensorboard's files or, without it, pictures as png."""
        return run_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def build_hooks(self) -> list[Any]:
        """detectron2's hooks; test-time augmentation comes before the writers."""
        built = super().build_hooks()
        for hook in built:
            if isinstance(hook, hooks.EvalHook):
                hook._func = self._evaluate  # detectron2's would read the sets anew
        return with_run_hooks(self, built)

    def register_hooks(self, hooks_: list[Any]) -> None:
        """As detectron2's; every EvalHook, a subclass's too, sees what is to be evaluated."""
        for hook in hooks_:
            if isinstance(hook, hooks.EvalHook):
                hook._do_eval = partial(evaluate_interruptibly, weakref.proxy(self), hook._do_eval)
        super().register_hooks(hooks_)

    def resume_or_load(self, resume: bool = True) -> None:
        """As detectron2's; at a run's start the classifier is what `MODEL.INIT_CLASSIFIER` says."""
        super().resume_or_load(resume)
        absent = self.checkpointer.absent_parameters
        is_new = starts_anew(self.cfg.MODEL.INIT_CLASSIFIER, absent)
        # A classifier that is kept means the classes that it was trained on, in their order.
        if self.start_iter > 0 or not is_new:
            check_classes(self.cfg, self.checkpointer.loaded_record)
        if not (resume and self.checkpointer.has_checkpoint()):
            check_stage_one(self.checkpointer, self.cfg)
            model = self.checkpointer.model
            start_as_configured(model, self.cfg, self.statistics, absent_parameters=absent)

    def train(self) -> Any:
        """As detectron2's; a signal ends it after the iteration, with a checkpoint."""
        with stop_signals.installed(), stop_signals.deferred(), stops_told(self):
            return super().train()

    def run_step(self) -> None:
        """As detectron2's; an error says what to do."""
        with step_errors_explained(self.cfg, self.model):
            super().run_step()

    def after_train(self) -> None:
        """Run the hooks' ends, without an evaluation if an error ended the training."""
        # detectron2's EvalHook takes an error in the last iteration for success.
        if self.iter < self.max_iter:
            self._hooks: list[Any] = [h for h in self._hooks if not isinstance(h, hooks.EvalHook)]
        super().after_train()

    @classmethod
    def _build_test_loaders(cls, cfg: CfgNode, load: Load) -> list[Any]:
        return [hand(cls.build_test_loader, cfg, name, load=load) for name in cfg.DATASETS.TEST]

    @property
    def evaluated_sets(self) -> list[EvaluatedSet]:
        """The sets of DATASETS.TEST, whose annotations are read at the first evaluation."""
        if self._evaluated_sets is None:
            self._evaluated_sets = self.build_evaluated_sets(
                self.cfg, self._test_loaders, self.statistics
            )
        return self._evaluated_sets

    @classmethod
    def build_evaluated_sets(
        cls,
        cfg: CfgNode,
        loaders: list[Any] | None = None,
        statistics: ClassStatistics | None = None,
        load: Load = load_dataset_dicts,
    ) -> list[EvaluatedSet]:
        """The sets of DATASETS.TEST with their loaders and evaluators."""
        loaders = cls._build_test_loaders(cfg, load) if loaders is None else loaders
        rows = zip(cfg.DATASETS.TEST, loaders, strict=True)
        handed = {"statistics": statistics, "load": load}
        return [
            EvaluatedSet(n, each, hand(cls.build_evaluator, cfg, n, **handed)) for n, each in rows
        ]

    def _evaluate(self) -> dict[str, Any]:
        self._last_eval_results = self.test(self.cfg, self.model, sets=self.evaluated_sets)
        return self._last_eval_results

    def _test_with_augmentation(self) -> dict[str, Any]:
        results = self.test_with_augmentation(self.cfg, self.model, sets=self.evaluated_sets)
        self._last_eval_results.update(results)
        return results

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
        *,
        sets: list[EvaluatedSet] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on every set of `DATASETS.TEST` and write results.json.

        Args:
            cfg: configuration.
            model: with its weights loaded.
            evaluators: one a set; None builds those of the configuration.
            sets: with loaders and evaluators, where they have been built.

        Returns:
            task -> metric -> percent, under the set's name first if there are several sets; {} on
            ranks other than the main one.
        """
        if isinstance(model, nn.Module):
            require_finite(model)
        if sets is None and evaluators:
            loaders = cls._build_test_loaders(cfg, load_dataset_dicts)
            rows = zip(cfg.DATASETS.TEST, loaders, evaluators, strict=True)
            sets = [EvaluatedSet(*row) for row in rows]
        elif sets is None:
            sets = cls.build_evaluated_sets(cfg, statistics=statistics_if_available(cfg))
        dtype = half_precision(cfg) if build_job(cfg).evaluates_in_mixed_precision else None
        return evaluate_sets(cfg, model, sets, mixed_precision=dtype)

    @classmethod
    def test_with_augmentation(
        cls, cfg: CfgNode, model: nn.Module, *, sets: list[EvaluatedSet] | None = None
    ) -> dict[str, Any]:
        """Evaluate with detectron2's test-time augmentation, into OUTPUT_DIR/inference_TTA.

        Returns:
            As `test`; tasks (or sets) end in _TTA.
        """
        logger.info("Evaluation with test-time augmentation")
        core = model.module if isinstance(model, DistributedDataParallel) else model
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/inference_TTA"
        if sets is not None:
            sets = [each.writing_to(evaluation_folder(cfg, each.name)) for each in sets]
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, core), sets=sets)
        return OrderedDict((f"{name}_TTA", value) for name, value in results.items())

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks, optimiser, stream position and seed."""
        return {**TrainerBase.state_dict(self), **state_of(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a run of plain detectron2 has no stream position."""
        state = rescale_progress(state_dict, self.cfg.SOLVER.IMS_PER_BATCH, self.scheduler)
        TrainerBase.load_state_dict(self, state)
        restore_state(self, state)
