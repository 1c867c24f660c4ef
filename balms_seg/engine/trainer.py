"""The trainer of every job: detectron2's, with our step, loader, evaluators and checkpoints."""

from __future__ import annotations

import importlib.util
import logging
import os
import weakref
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from balms_seg.config.meta_learning import check_meta_training
from balms_seg.data import build_image_test_loader, build_train_loader, training_statistics
from balms_seg.data.instances.mapper import build_test_mapper
from balms_seg.engine.best_checkpoint import BestCheckpoint
from balms_seg.engine.checkpoints import LongTailedCheckpointer, require_finite
from balms_seg.engine.class_checks import CLASSES_KEY, check_classes, class_record
from balms_seg.engine.classifier_step import ClassifierStep
from balms_seg.engine.interruption import DueEvaluation, StopHook, evaluate_interruptibly
from balms_seg.engine.meta.class_values import ClassValueRecorder
from balms_seg.engine.meta.meta_setup import build_meta_step
from balms_seg.engine.optimizer import build_optimizer
from balms_seg.engine.picture_writer import PictureWriter
from balms_seg.engine.run_results import log_copy_paste_lines, save_results
from balms_seg.engine.step import TrainingStep, autocast
from balms_seg.engine.weight_average import CHECKPOINT_KEY, WeightAverage
from balms_seg.evaluation.evaluator_choice import build_evaluator
from balms_seg.job import classifies_images
from balms_seg.modeling.classifier_init import start_classifiers
from balms_seg.modeling.find_classifier import find_trunk
from balms_seg.modeling.freeze import train_only
from balms_seg.stop_signals import leave_signals_to_parent, stop_signals

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.evaluation import DatasetEvaluator

logger = logging.getLogger(__name__)


class LongTailedTrainer(DefaultTrainer):
    """Trains, evaluates, resumes; hooks, schedules and writers are detectron2's."""

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimiser, loader and hooks.

        Args:
            cfg: a checked configuration with `SEED` >= 0.
        """
        # Not DefaultTrainer's own __init__, which fixes the step, the checkpointer, and CUDA
        # devices for data-parallel models.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = self._build_step(cfg, model, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LongTailedCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            keep=cfg.SOLVER.CHECKPOINTS_TO_KEEP,
            trainer=weakref.proxy(self),
        )
        self.checkpointer.record = {
            "config": cfg.dump(),
            CLASSES_KEY: class_record(cfg, training_statistics(cfg)).to_plain(),
        }
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def _build_step(
        self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> TrainingStep:
        """The step of the whole model, or of its classifier alone, with or without learning."""
        check_meta_training(cfg)
        loader = self.build_train_loader(cfg)
        settings = {"seed": cfg.SEED, "mixed_precision": cfg.SOLVER.AMP.ENABLED}
        trunk = find_trunk(model)
        if trunk is None:
            return TrainingStep(_data_parallel(model), loader, optimizer, **settings)
        meta = build_meta_step(cfg, trunk, optimizer, loader)
        return ClassifierStep(_data_parallel(model), loader, optimizer, meta=meta, **settings)

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
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """This package's loader, keyed by stream position."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """detectron2's for detectors, this package's for image classifiers."""
        if classifies_images(cfg):
            return build_image_test_loader(cfg, dataset_name)
        loader = build_detection_test_loader(cfg, dataset_name, mapper=build_test_mapper(cfg))
        loader.worker_init_fn = leave_signals_to_parent
        return loader

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The evaluator for a registered data set."""
        return build_evaluator(cfg, dataset_name)

    def build_writers(self) -> list[Any]:
        """Terminal, metrics.json, and tensorboard's files or, without it, pictures as png."""
        directory = self.cfg.OUTPUT_DIR
        os.makedirs(directory, exist_ok=True)
        writers = [CommonMetricPrinter(self.max_iter), JSONWriter(f"{directory}/metrics.json")]
        if importlib.util.find_spec("tensorboard"):
            writers.append(TensorboardXWriter(directory))
        else:
            logger.info("No tensorboard event files: pip install tensorboard to get them.")
            writers.append(PictureWriter(f"{directory}/training_pictures"))
        return writers

    def build_hooks(self) -> list[Any]:
        """detectron2's hooks; test-time augmentation comes before the writers."""
        built = super().build_hooks()
        meta = getattr(self._trainer, "meta", None)
        if meta is not None:  # first, so that checkpoints and writers find what it did
            recorder = ClassValueRecorder(
                meta.learner,
                training_statistics(self.cfg),
                max_iter=self.max_iter,
                path=f"{self.cfg.OUTPUT_DIR}/meta_rates.csv",
            )
            built.insert(0, recorder)
        if self.cfg.SOLVER.EMA_DECAY > 0:
            average = WeightAverage(self.checkpointer.model, self.cfg.SOLVER.EMA_DECAY)
            self.checkpointer.add_checkpointable(CHECKPOINT_KEY, average)
            built.insert(0, average)
        first_evaluation = next(
            (i for i, hook in enumerate(built) if isinstance(hook, hooks.EvalHook)), len(built)
        )
        built[first_evaluation:first_evaluation] = [StopHook(), DueEvaluation()]
        evaluated = []
        if self.cfg.TEST.AUG.ENABLED:
            evaluated.append(hooks.EvalHook(0, lambda: self._test_with_augmentation()))
        if self.cfg.TEST.BEST_METRIC and comm.is_main_process():
            evaluated.append(BestCheckpoint(self.checkpointer, self.cfg.TEST.BEST_METRIC))
        first_writer = next(
            (i for i, hook in enumerate(built) if isinstance(hook, hooks.PeriodicWriter)),
            len(built),
        )
        built[first_writer:first_writer] = evaluated
        return built

    def register_hooks(self, hooks_: list[Any]) -> None:
        """As detectron2's; every EvalHook, a subclass's too, sees what is to be evaluated."""
        for hook in hooks_:
            if isinstance(hook, hooks.EvalHook):
                hook._do_eval = partial(evaluate_interruptibly, weakref.proxy(self), hook._do_eval)
        super().register_hooks(hooks_)

    def resume_or_load(self, resume: bool = True) -> None:
        """As detectron2's; at a run's start the classifier is what `MODEL.INIT_CLASSIFIER` says."""
        super().resume_or_load(resume)
        if self.start_iter > 0:
            check_classes(self.cfg, self.checkpointer.loaded_record)
        if not (resume and self.checkpointer.has_checkpoint()):
            start_classifiers(
                self.checkpointer.model,
                self.cfg.MODEL.INIT_CLASSIFIER,
                seed=self.cfg.SEED,
                absent_parameters=self.checkpointer.absent_parameters,
            )

    def train(self) -> Any:
        """As detectron2's; a signal ends it after the iteration, with a checkpoint."""
        with stop_signals.installed(), stop_signals.deferred():
            return super().train()

    def after_train(self) -> None:
        """Run the hooks' ends, without an evaluation if an error ended the training."""
        # detectron2's EvalHook takes an error in the last iteration for success.
        if self.iter < self.max_iter:
            kept = [hook for hook in self._hooks if not isinstance(hook, hooks.EvalHook)]
            self._hooks: list[Any] = kept
        super().after_train()

    def _test_with_augmentation(self) -> dict[str, Any]:
        results = self.test_with_augmentation(self.cfg, self.model)
        self._last_eval_results.update(results)
        return results

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on every set of `DATASETS.TEST` and write results.json.

        Args:
            cfg: configuration.
            model: with its weights loaded.
            evaluators: one a set; None builds those of the configuration.

        Returns:
            task -> metric -> percent, under the set's name first if there are several sets; {} on
            ranks other than the main one.
        """
        if isinstance(model, nn.Module):
            require_finite(model)
        results, group_sizes = OrderedDict(), {}
        # As detectron2 does, detectors are evaluated in full precision.
        in_mixed_precision = classifies_images(cfg) and cfg.SOLVER.AMP.ENABLED
        device_type = torch.device(cfg.MODEL.DEVICE).type
        for index, name in enumerate(cfg.DATASETS.TEST):
            evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            loader = cls.build_test_loader(cfg, name)
            if hasattr(evaluator, "remaining"):  # after an interrupted evaluation
                loader = evaluator.remaining(loader, model)
            with autocast(device_type, enabled=in_mixed_precision):
                results[name] = inference_on_dataset(model, loader, evaluator) or {}
            group_sizes[name] = getattr(evaluator, "group_sizes", None)
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                log_copy_paste_lines(results[name])
        if comm.is_main_process() and any(results.values()):
            save_results(cfg, results, group_sizes)
        return next(iter(results.values())) if len(results) == 1 else results

    @classmethod
    def test_with_augmentation(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate with detectron2's test-time augmentation, into OUTPUT_DIR/inference_TTA.

        Returns:
            As `test`; tasks (or sets) end in _TTA.
        """
        logger.info("Evaluation with test-time augmentation")
        core = model.module if isinstance(model, DistributedDataParallel) else model
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/inference_TTA"
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, core))
        return OrderedDict((f"{name}_TTA", value) for name, value in results.items())

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks, optimiser, stream position and seed."""
        return {
            **TrainerBase.state_dict(self),
            "_trainer": self._trainer.state_dict(),
            "data_loader": self._trainer.data_loader.state_dict(),
            "seed": self._trainer.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a run of plain detectron2 has no stream position."""
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        if "data_loader" in state_dict:
            self._trainer.data_loader.load_state_dict(state_dict["data_loader"])
            self._trainer.seed = state_dict["seed"]
            self.cfg = self.cfg.clone()  # so that results name the seed in use
            self.cfg.defrost()
            self.cfg.SEED = state_dict["seed"]
            self.cfg.freeze()
        else:
            logger.warning(
                "The checkpoint has no stream position (it was not written by balms_seg): the data "
                "stream starts anew."
            )


def _data_parallel(model: nn.Module) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    device_ids = [comm.get_local_rank()] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
