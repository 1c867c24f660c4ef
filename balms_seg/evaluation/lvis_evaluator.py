"""The detectron2 evaluator for long-tailed instance segmentation."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm

from balms_seg.annotations.json_file import paused_garbage_collection
from balms_seg.class_statistics import ClassStatistics
from balms_seg.evaluation.lvis.analysis import analyse_task
from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS
from balms_seg.evaluation.lvis.lvis_ap import LVISResult
from balms_seg.evaluation.lvis.pooled_ap import FIXED_PER_CLASS, fixed_and_pooled_ap
from balms_seg.evaluation.output.evaluation_files import write_task_files
from balms_seg.evaluation.output.group_hints import describe_empty_groups
from balms_seg.evaluation.output.result_table import format_lvis_table
from balms_seg.evaluation.predictions.detection_stream import DetectionStream
from balms_seg.evaluation.predictions.prediction_parts import ImagePredictions
from balms_seg.evaluation.predictions.rank_parts import RankParts
from balms_seg.evaluation.predictions.resumed_evaluation import (
    RemainingImages,
    prediction_fingerprint,
)
from balms_seg.evaluation.predictions.staged_files import appearing_together
from balms_seg.evaluation.predictions.torchvision_outputs import torchvision_detections
from balms_seg.evaluation.registered_set import RegisteredSet, class_ids_of
from balms_seg.wording import counted

logger = logging.getLogger(__name__)

_TASKS = ("bbox", "segm")


class LongTailedLVISEvaluator(DatasetEvaluator):
    """Box and mask AP by LVIS's rules, with APr, APc, APf and results per class.

    Predictions go to disk as they come, one file a process, and are removed once evaluated.

    After `evaluate`, `group_sizes` holds the classes of each frequency group, `class_results` the
    `LVISResult` per task (main process only), and `evaluation` its name in the files' manifest.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        statistics: ClassStatistics | None = None,
        max_detections: int = LVIS_MAX_DETECTIONS,
        backend: str = "numpy",
        group_bounds: tuple[int, int] | None = None,
        ap_fixed: bool = False,
        boundary: bool = False,
        error_kinds: bool = True,
        resume: bool = False,
        settings: str = "",
    ) -> None:
        """Read the ground truth of a registered data set.

        Args:
            dataset_name: its metadata names the `json_file` and may hold
                `thing_dataset_id_to_contiguous_id` (default: ids in ascending order),
                `thing_classes`, `class_image_count` and `class_frequency` ("r", "c", "f" or None
                per contiguous class id, used for classes whose group the json does not say).
            tasks: of "bbox" and "segm"; None evaluates boxes, and masks if the model predicts any.
            distributed: whether to collect the predictions of all processes in the main one;
                otherwise each process evaluates its own.
            output_dir: where to write lvis_instances_results.json and, per task, results per class
                (csv and json), the calibration of the scores, and the matches that
                `balms-seg compare` reads.
            statistics: of the training set: counts for `group_bounds` and for the results per
                class, and groups of classes whose group neither json nor metadata say.
            max_detections: kept per image.
            backend: as for `evaluate_lvis`.
            group_bounds: largest number of training images of a rare and of a common class; where
                given, the groups follow from training counts alone, those of `statistics` or of
                the metadata's `class_image_count`.
            ap_fixed: also AP-fixed and AP-pool, from the best detections of each class.
            boundary: also boundary AP, where masks are evaluated.
            error_kinds: also false positives by kind and the class most confused with.
            resume: whether `remaining` takes up predictions that an interrupted run left in
                `output_dir`.
            settings: what else than the weights predictions depend on, such as the configuration.

        Raises:
            FileNotFoundError: the json is missing.
            ValueError: the data set has no json, the json is malformed, or a task is unknown.
        """
        unknown = sorted(set(tasks or ()) - set(_TASKS))
        if unknown:
            raise ValueError(f"Expected tasks among {_TASKS}, but got {unknown}.")
        self._tasks = tuple(tasks) if tasks is not None else None
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_detections = max_detections
        self._backend = backend
        self._ap_fixed = ap_fixed
        self._boundary = boundary
        self._error_kinds = error_kinds
        self._resume = resume
        self._settings = f"{dataset_name}\n{settings}"
        self._metadata = MetadataCatalog.get(dataset_name)
        self._set: RegisteredSet | None = None
        if not distributed or comm.is_main_process():
            self._set = RegisteredSet.read(
                self._metadata, statistics=statistics, group_bounds=group_bounds
            )
        self._parts = RankParts(output_dir, distributed=distributed)
        self.reset()

    @property
    def most_in_an_image(self) -> int:
        """As many objects as one image has, or as there are classes; 0 beside the main process."""
        if self._set is None:
            return 0
        truth = self._set.ground_truth
        return max(truth.num_classes, int(np.bincount(truth.images).max(initial=0)))

    def writing_to(self, output_dir: str) -> LongTailedLVISEvaluator:
        """An evaluator on the same ground truth that writes to another folder."""
        other = copy.copy(self)
        other._output_dir = output_dir
        other._parts = RankParts(output_dir, distributed=self._distributed)
        other.reset()
        return other

    def remaining(
        self, loader: Iterable[list[dict[str, Any]]], model: Any, *, in_training: bool = False
    ) -> Iterable[list[dict[str, Any]]]:
        """Leave out what an interrupted inference with the same model has predicted already.

        To be called by every process before inference; without it nothing is taken up.

        Args:
            loader: of the data set's images.
            model: its weights have to be those of the interrupted run.
            in_training: whether a training waits for the evaluation. It writes beside one of the
                same weights by --eval-only, of which the second to come stops.

        Returns:
            The loader, or one over the remaining images.
        """
        if not self._resume or self._output_dir is None:
            return loader
        settings = f"{self._settings}\n{in_training}"
        done = self._parts.take_up(prediction_fingerprint(model, settings))
        if not done:
            return loader
        logger.info(
            "An interrupted evaluation left predictions for %s; going on with the others. "
            "TEST.LONG_TAILED.RESUME False, or removing %s, starts anew.",
            counted(len(done), "image"),
            self._parts.folder,
        )
        return RemainingImages(loader, done)

    @property
    def kept_in(self) -> Path | None:
        """Folder of predictions that the same evaluation takes up; None while there are none."""
        is_taken_up = self._resume and self._output_dir is not None
        return self._parts.folder if is_taken_up and self._parts.are_there else None

    def reset(self) -> None:
        """Forget all predictions but those that `remaining` has found."""
        self._parts.stop()
        self.group_sizes: dict[str, dict[str, int]] = {}
        self.class_results: dict[str, LVISResult] = {}
        self.evaluation: str | None = None

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take in the predictions for a batch of images.

        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances" in the coordinates of the original image; or
                torchvision's, with "boxes", "labels", "scores" and perhaps "masks", see
                `torchvision_detections`.
        """
        for image, output in zip(inputs, outputs, strict=True):
            image_id = image["image_id"]
            if "instances" in output:
                instances = output["instances"].to("cpu")
                has_masks = instances.has("pred_masks")
                detections = instances_to_coco_json(instances, image_id)
            else:
                has_masks = "masks" in output
                detections = torchvision_detections(output, image_id, self._class_ids)
            self._parts.write(
                ImagePredictions(image_id=image_id, has_masks=has_masks, detections=detections)
            )

    @cached_property
    def _class_ids(self) -> dict[Any, int]:
        """Contiguous class id per category id, on every process."""
        return self._set.class_ids if self._set else class_ids_of(self._metadata)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Evaluate what was taken in; a collective call if distributed.

        Returns:
            Metrics in percent per task, nan for empty groups. Empty on other processes than the
            main one, without any prediction, and where the json has no annotations.
        """
        self.evaluation = self._parts.fingerprint
        paths = self._parts.finish()
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        if self._set is None:
            self._parts.forget()
            return results
        if self._output_dir is None:
            self._evaluate_parts(self._set, paths, None, results)
        else:
            with appearing_together(self._output_dir, self.evaluation) as folder:
                self._evaluate_parts(self._set, paths, folder, results)
            logger.info("Detections and results per class are in %s", self._output_dir)
        self._parts.remove(paths)
        return results

    def _evaluate_parts(
        self,
        evaluated: RegisteredSet,
        paths: list[Path],
        folder: Path | None,
        results: OrderedDict[str, dict[str, float]],
    ) -> None:
        stream = DetectionStream(
            evaluated.ground_truth,
            max_detections=self._max_detections,
            max_per_class=FIXED_PER_CLASS if self._ap_fixed else None,
        )
        with paused_garbage_collection():
            num_images, has_masks = self._parts.pass_on(
                paths,
                stream,
                image_ids=evaluated.ground_truth.image_ids,
                class_ids=evaluated.class_ids,
                folder=folder,
            )
        if not num_images:
            logger.warning("No image was processed; there is nothing to evaluate.")
        elif len(evaluated.ground_truth.classes) == 0:
            logger.info("The ground truth has no annotations; only the detections are written.")
        else:
            tasks = self._tasks or (_TASKS if has_masks else _TASKS[:1])
            tasks += ("boundary",) if self._boundary and "segm" in tasks else ()
            self._evaluate_tasks(evaluated, stream, tasks, folder, results)

    def _evaluate_tasks(
        self,
        evaluated: RegisteredSet,
        stream: DetectionStream,
        tasks: tuple[str, ...],
        folder: Path | None,
        results: OrderedDict[str, dict[str, float]],
    ) -> None:
        best_of_classes = stream.best_of_classes()
        for task in tasks:
            analysis = analyse_task(
                evaluated.ground_truth,
                stream.capped,
                task,
                max_detections=None,  # the stream has kept to it
                with_errors=self._error_kinds,
                backend=self._backend,
            )
            metrics = dict(analysis.result.metrics)
            if self._ap_fixed:
                metrics |= fixed_and_pooled_ap(evaluated.ground_truth, best_of_classes, task)
            results[task] = {name: 100 * value for name, value in metrics.items()}
            self.class_results[task] = analysis.result
            self.group_sizes = analysis.result.group_sizes
            if folder is not None:
                write_task_files(
                    folder,
                    task,
                    analysis,
                    class_ids=evaluated.class_ids,
                    class_names=self._metadata.get("thing_classes"),
                    training=evaluated.training,
                )
        logger.info("Evaluation results:\n%s", format_lvis_table(results, self.group_sizes))
        hint = describe_empty_groups(self.group_sizes, evaluated.training.images.values())
        if hint:
            logger.warning(hint)
