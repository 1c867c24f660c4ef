"""The detectron2 evaluator for image classification."""

from __future__ import annotations

import json
import logging
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.frequency_groups import group_spans
from balms_seg.csv_files import csv_file
from balms_seg.distributed import wait_for_all
from balms_seg.evaluation.images.accuracy import (
    ClassificationResult,
    classification_rows,
    evaluate_classification,
)
from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
    write_predictions,
)
from balms_seg.evaluation.output.per_class import write_per_class_csv, write_per_class_json
from balms_seg.evaluation.output.result_table import format_classification_table
from balms_seg.evaluation.output.results_file import to_json
from balms_seg.evaluation.predictions.staged_files import appearing_together
from balms_seg.image_batch import ImageBatch

logger = logging.getLogger(__name__)

TASK = "classification"
SCHEMA_VERSION = 1


class ClassificationEvaluator(DatasetEvaluator):
    """Top-1 and top-5 accuracy, per class and frequency group, and calibration.

    The predictions of all processes are brought into the order of the data set before anything is
    summed, so the numbers do not depend on how many processes there were.

    After `evaluate`, `group_sizes` holds the classes of each frequency group, `result` the
    `ClassificationResult` (main process only), and `evaluation` its name in the files' manifest.
    """

    def __init__(
        self,
        dataset_name: str,
        statistics: ClassStatistics | None = None,
        output_dir: str | None = None,
        *,
        class_names: Sequence[str] | None = None,
        distributed: bool = True,
    ) -> None:
        """Look up the data set.

        Args:
            dataset_name: registered; its metadata may hold `thing_classes`, the class names.
            statistics: of the training set, for the groups many, medium and few; without, these
                are left out.
            class_names: the model's, in which labels count; by default those of the statistics,
                or without these those of the data set.
            output_dir: where to write results per class (csv and json), the confusion matrix, the
                calibration, and the predictions (npz and csv).
            distributed: whether to collect the predictions of all processes in the main one;
                otherwise each process evaluates its own.
        """
        self._name = dataset_name
        self._statistics = statistics
        self._output_dir = output_dir
        self._distributed = distributed
        if class_names is None and statistics is not None:
            class_names = statistics.class_names
        if class_names is None:
            class_names = MetadataCatalog.get(dataset_name).get("thing_classes")
        if statistics is not None and len(class_names) != statistics.num_classes:
            raise ValueError(
                f"Expected names of the {statistics.num_classes} classes of the training set, but "
                f"got {len(class_names)}."
            )
        self._class_names = class_names
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._parts: list[ClassifierPredictions] = []
        self._num_classes: int | None = None
        self.group_sizes: dict[str, dict[str, int]] = {}
        self.result: ClassificationResult | None = None
        self.evaluation: str | None = None

    def process(self, inputs: ImageBatch, outputs: Tensor) -> None:
        """Take in the predictions for a batch of images.

        Args:
            inputs: B images.
            outputs: (B, K) probabilities.

        Raises:
            ValueError: shapes disagree, images have no names, a label is out of range, or a
                probability is not finite.
        """
        probabilities = outputs.detach().float().cpu().numpy()
        labels = inputs.labels.cpu().numpy()
        samples = inputs.dataset_indices.numpy()
        self._check(probabilities, labels, len(inputs.keys))
        self._num_classes = probabilities.shape[1]
        self._parts.append(
            ClassifierPredictions.from_probabilities(probabilities, labels, samples, inputs.keys)
        )

    def _check(self, probabilities: np.ndarray, labels: np.ndarray, num_keys: int) -> None:
        known = None if self._class_names is None else len(self._class_names)
        expected = self._num_classes or known
        if probabilities.ndim != 2 or len(probabilities) != len(labels):
            raise ValueError(
                f"Expected probabilities of shape ({len(labels)}, K), one row an image, but got "
                f"{probabilities.shape}."
            )
        if num_keys != len(labels):
            raise ValueError(
                f"Expected the batch to name its {len(labels)} images (ImageBatch.keys), but got "
                f"{num_keys} names; predictions are compared by the images' names."
            )
        num_classes = probabilities.shape[1]
        if expected is not None and num_classes != expected:
            raise ValueError(
                f"Expected probabilities of the {expected} classes of data set '{self._name}', but "
                f"got {num_classes}; set MODEL.IMAGE_CLASSIFIER.NUM_CLASSES to {expected} or "
                "evaluate on the data set the model was trained for."
            )
        if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
            raise ValueError(
                f"Expected labels in [0, {num_classes - 1}] in data set '{self._name}', but got "
                f"values from {labels.min()} to {labels.max()}; correct its list, or "
                "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES."
            )
        if not np.isfinite(probabilities).all():
            raise ValueError(
                "Expected finite probabilities, but the model gave nan or infinity: its weights "
                "have diverged. Lower SOLVER.BASE_LR, or evaluate an earlier checkpoint."
            )

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Evaluate what was taken in; a collective call if distributed.

        Returns:
            {"classification": metrics in percent}. Empty on other processes than the main one and
            without any prediction.
        """
        collected = [(self._num_classes, self._parts)]
        if self._distributed:
            wait_for_all()
            collected = comm.gather(collected[0], dst=0)
            if not comm.is_main_process():
                return OrderedDict()
        parts = [part for _, own in collected for part in own]
        if not parts:
            logger.warning("No image was processed; there is nothing to evaluate.")
            return OrderedDict()
        predictions = ClassifierPredictions.concatenate(parts)
        num_classes = next(known for known, _ in collected if known)  # a rank may have no image
        groups, spans = {}, {}
        if self._statistics is not None:
            groups = dict(reversed(self._statistics.groups.items()))  # many first, as published
            spans = group_spans(self._statistics.image_counts, groups)
        self.result = evaluate_classification(predictions, num_classes, groups)
        self.group_sizes = self.result.group_sizes
        self._write_files(predictions, self.result)
        rows = {self._name: self.result.metrics}
        table = format_classification_table(rows, self.group_sizes, spans)
        logger.info("Evaluation results:\n%s", table)
        return OrderedDict({TASK: self.result.metrics})

    def _write_files(
        self, predictions: ClassifierPredictions, result: ClassificationResult
    ) -> None:
        if self._output_dir is None:
            return
        self.evaluation = uuid.uuid4().hex
        with appearing_together(self._output_dir, self.evaluation) as folder:
            self._write_files_to(folder, predictions, result)

    def _write_files_to(
        self, folder: Path, predictions: ClassifierPredictions, result: ClassificationResult
    ) -> None:
        names = self._class_names or [str(i) for i in range(len(result.confusion))]
        rows = classification_rows(result, names, self._statistics)
        write_per_class_csv(folder / f"per_class_{TASK}.csv", rows)
        write_per_class_json(folder / f"per_class_{TASK}.json", rows, task=TASK)
        _write_confusion(folder / f"confusion_{TASK}.csv", result.confusion, names)
        calibration = {name: group.to_dict() for name, group in result.calibration.items()}
        record = {"schema_version": SCHEMA_VERSION, "task": TASK, "groups": calibration}
        text = json.dumps(to_json(record, "calibration")) + "\n"
        (folder / f"calibration_{TASK}.json").write_text(text, encoding="utf-8")
        groups = tuple(row["group"] or "" for row in rows)
        stored = StoredPredictions(predictions, tuple(names), groups)
        write_predictions(folder, stored)


def _write_confusion(path: Path, confusion: np.ndarray, names: Sequence[str]) -> None:
    """Only what occurred, since thousands of classes would make a mostly empty square."""
    with csv_file(path) as writer:
        writer.writerow(["label", "predicted", "images"])
        for i, j in np.argwhere(confusion).tolist():
            writer.writerow([names[i], names[j], int(confusion[i, j])])
