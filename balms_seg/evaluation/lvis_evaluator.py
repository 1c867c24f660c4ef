"""The detectron2 evaluator for long-tailed instance segmentation."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from balms_seg.class_statistics.annotation_counts import read_annotation_json

from .analysis import TaskAnalysis, analyse_task
from .evaluation_files import write_task_files
from .ground_truth import GroundTruth, load_ground_truth
from .lvis_ap import LVISResult
from .table import format_lvis_table
from .training_counts import TrainingCounts

logger = logging.getLogger(__name__)

_TASKS = ("bbox", "segm")


class LongTailedLVISEvaluator(DatasetEvaluator):
    """Box and mask AP by LVIS's rules, with APr, APc, APf and results per class.

    After `evaluate`, `group_sizes` holds the classes of each frequency group and `class_results`
    the `LVISResult` per task (main process only).
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_detections: int = 300,
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
                tools/compare.py reads.
            max_detections: kept per image.

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
        self._metadata = MetadataCatalog.get(dataset_name)
        json_file = self._metadata.get("json_file")
        if json_file is None:
            raise ValueError(
                f"Expected the metadata of data set '{dataset_name}' to name its json_file, but "
                "it does not; register the set with register_long_tailed_instances."
            )
        self._ground_truth: GroundTruth | None = None
        if not distributed or comm.is_main_process():
            content = read_annotation_json(PathManager.get_local_path(json_file))
            self._training = TrainingCounts.from_entries(
                self._metadata.get("class_image_count") or content["categories"]
            )
            self._class_ids = _contiguous_ids(self._metadata, content)
            self._ground_truth = load_ground_truth(
                content,
                class_frequency=_by_category(
                    self._metadata.get("class_frequency"), self._class_ids
                ),
            )
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: dict[Any, list[dict[str, Any]]] = {}
        self._has_masks = False
        self.group_sizes: dict[str, dict[str, int]] = {}
        self.class_results: dict[str, LVISResult] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take in the predictions for a batch of images.

        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances" in the coordinates of the original image.
        """
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            self._has_masks = self._has_masks or instances.has("pred_masks")
            image_id = image["image_id"]
            self._predictions[image_id] = instances_to_coco_json(instances, image_id)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Evaluate what was taken in; a collective call if distributed.

        Returns:
            Metrics in percent per task, nan for empty groups. Empty on other processes than the
            main one, without any prediction, and where the json has no annotations.
        """
        predictions, has_masks = self._gather()
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        if self._ground_truth is None:
            return results
        if not predictions:
            logger.warning("No image was processed; there is nothing to evaluate.")
            return results
        missing = set(self._ground_truth.image_ids) - predictions.keys()
        if missing:
            logger.warning(
                "%d of %d images of the ground truth were not processed; their objects count as "
                "missed.",
                len(missing),
                self._ground_truth.num_images,
            )
        detections = self._in_dataset_ids(itertools.chain.from_iterable(predictions.values()))
        self._write_detections(detections)
        if len(self._ground_truth.classes) == 0:
            logger.info("The ground truth has no annotations; only the detections are written.")
            return results
        for task in self._tasks or (_TASKS if has_masks else _TASKS[:1]):
            analysis = analyse_task(
                self._ground_truth, detections, task, max_detections=self._max_detections
            )
            result = analysis.result
            results[task] = {name: 100 * value for name, value in result.metrics.items()}
            self.class_results[task] = result
            self.group_sizes = result.group_sizes
            self._write_files(task, analysis)
        logger.info("Evaluation results:\n%s", format_lvis_table(results, self.group_sizes))
        return results

    def _gather(self) -> tuple[dict[Any, list[dict[str, Any]]], bool]:
        if not self._distributed:
            return self._predictions, self._has_masks
        comm.synchronize()
        shares = comm.gather((self._predictions, self._has_masks), dst=0)
        merged: dict[Any, list[dict[str, Any]]] = {}
        for predictions, _ in shares:
            merged.update(predictions)
        return merged, any(has_masks for _, has_masks in shares)

    def _in_dataset_ids(self, detections: Any) -> list[dict[str, Any]]:
        category_ids = {class_id: category for category, class_id in self._class_ids.items()}
        converted = []
        for detection in detections:
            class_id = detection["category_id"]
            if class_id not in category_ids:
                raise ValueError(
                    f"Expected predicted classes in [0, {len(category_ids)}), but got {class_id} "
                    f"in image {detection['image_id']}; set MODEL.ROI_HEADS.NUM_CLASSES to "
                    f"{len(category_ids)} or evaluate on the data set the model was trained for."
                )
            converted.append({**detection, "category_id": category_ids[class_id]})
        return converted

    def _write_detections(self, detections: list[dict[str, Any]]) -> None:
        if self._output_dir is None:
            return
        PathManager.mkdirs(self._output_dir)
        path = os.path.join(self._output_dir, "lvis_instances_results.json")
        with PathManager.open(path, "w") as file:
            file.write(json.dumps(detections))
        logger.info("Wrote %d detections to %s", len(detections), path)

    def _write_files(self, task: str, analysis: TaskAnalysis) -> None:
        if self._output_dir is None:
            return
        write_task_files(
            self._output_dir,
            task,
            analysis,
            class_ids=self._class_ids,
            class_names=self._metadata.get("thing_classes"),
            training=self._training,
        )


def _contiguous_ids(metadata: Any, content: Mapping[str, Any]) -> dict[int, int]:
    """Contiguous class id per category id of the json."""
    in_json = sorted(category["id"] for category in content.get("categories", ()))
    class_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if class_ids is None:
        return {category_id: class_id for class_id, category_id in enumerate(in_json)}
    absent = sorted(set(class_ids) - set(in_json))
    if absent:
        raise ValueError(
            f"Expected the categories of data set '{metadata.name}' in its json, but "
            f"{len(absent)} are missing, the first ids {absent[:5]}; evaluate on a json with the "
            "classes the data set was registered with."
        )
    return dict(class_ids)


def _by_category(
    class_frequency: Sequence[str | None] | None, class_ids: Mapping[int, int]
) -> dict[int, str]:
    """Known frequency letters per category id of the json."""
    if class_frequency is None:
        return {}
    if len(class_frequency) != len(class_ids):
        raise ValueError(
            f"Expected {len(class_ids)} entries in class_frequency, one per class, but got "
            f"{len(class_frequency)}; take them from a training set with the same classes."
        )
    letters = {category_id: class_frequency[i] for category_id, i in class_ids.items()}
    return {category_id: letter for category_id, letter in letters.items() if letter}
