"""Chooses the evaluator of a registered data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cache

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from balms_seg.class_statistics import ClassStatistics
from balms_seg.evaluation.images.classification_evaluator import ClassificationEvaluator
from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS
from balms_seg.evaluation.lvis_evaluator import LongTailedLVISEvaluator
from balms_seg.evaluation.registered_set import RegisteredSet
from balms_seg.registered_names import require_registered

logger = logging.getLogger(__name__)

INSTANCE_EVALUATOR_TYPES = ("lvis", "long_tailed", "coco")
IMAGE_EVALUATOR_TYPE = "image_classification"
_OF_COCO = (100, 0.05)  # DETECTIONS_PER_IMAGE and SCORE_THRESH_TEST, detectron2's defaults
_HIGHEST_THRESHOLD = 0.01  # of SCORE_THRESH_TEST; detectron2's own 0.05 drops most rare classes


def build_evaluator(
    cfg: CfgNode,
    dataset_name: str,
    output_dir: str | None = None,
    *,
    statistics: ClassStatistics | None = None,
    class_names: Sequence[str] | None = None,
) -> DatasetEvaluator:
    """Build the evaluator that a data set's `evaluator_type` asks for.

    Args:
        cfg: MODEL.MASK_ON decides whether masks are evaluated, TEST.LONG_TAILED the rest.
        dataset_name: a registered data set.
        output_dir: where the evaluator writes; None for `evaluation_folder`.
        statistics: of the training set, for counts and groups; None where it is unknown.
        class_names: of whole images, the model's classes in its order; None for the set's own.

    Raises:
        KeyError: the data set is not registered.
        ValueError: no evaluator belongs to the data set's type.
    """
    output_dir = evaluation_folder(cfg, dataset_name) if output_dir is None else output_dir
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if evaluator_type == IMAGE_EVALUATOR_TYPE:
        return ClassificationEvaluator(
            dataset_name, statistics, output_dir, class_names=class_names
        )
    if evaluator_type is None:
        require_registered(dataset_name)
    if evaluator_type not in INSTANCE_EVALUATOR_TYPES:
        raise ValueError(
            f"Expected data set '{dataset_name}' to have an evaluator_type among "
            f"{(*INSTANCE_EVALUATOR_TYPES, IMAGE_EVALUATOR_TYPE)}, but got {evaluator_type!r}; "
            "register it with register_long_tailed_instances or correct DATASETS.TEST."
        )
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    evaluator = _instance_evaluator(cfg, dataset_name, tasks, output_dir, statistics)
    _warn_of_lost_detections(cfg, dataset_name, evaluator.most_in_an_image)
    return evaluator


def _instance_evaluator(
    cfg: CfgNode,
    dataset_name: str,
    tasks: tuple[str, ...],
    output_dir: str,
    statistics: ClassStatistics | None,
) -> LongTailedLVISEvaluator:
    options = cfg.TEST.get("LONG_TAILED")
    if options is None:  # a configuration without this package's keys
        return LongTailedLVISEvaluator(
            dataset_name, tasks, output_dir=output_dir, statistics=statistics
        )
    return LongTailedLVISEvaluator(
        dataset_name,
        tasks,
        output_dir=output_dir,
        statistics=statistics,
        max_detections=options.MAX_DETECTIONS,
        backend=options.BACKEND,
        group_bounds=tuple(options.GROUP_BOUNDS) or None,
        ap_fixed=options.AP_FIXED,
        boundary=options.BOUNDARY,
        error_kinds=options.ERROR_KINDS,
        resume=options.RESUME,
        settings="\n".join(cfg[node].dump() for node in ("MODEL", "INPUT", "TEST")),
    )


def _warn_of_lost_detections(cfg: CfgNode, dataset_name: str, most_in_an_image: int) -> None:
    """Say where the model leaves out detections that the evaluation would have counted."""
    options, kept = cfg.TEST.get("LONG_TAILED"), cfg.TEST.DETECTIONS_PER_IMAGE
    most = LVIS_MAX_DETECTIONS if options is None else options.MAX_DETECTIONS
    lowest = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
    if options is not None and options.AP_FIXED and kept <= most:
        logger.warning(
            "AP-fixed asks for more detections an image than the cap that it does without: raise "
            "TEST.DETECTIONS_PER_IMAGE above %d, to 1000 for example, and lower "
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST.",
            kept,
        )
    if kept < min(most, most_in_an_image) or lowest > _HIGHEST_THRESHOLD:
        _warn_of_few_detections(dataset_name, kept, lowest, most)


@cache  # once a process: a trainer builds its evaluator anew each time it evaluates
def _warn_of_few_detections(dataset_name: str, kept: int, lowest: float, most: int) -> None:
    logger.warning(
        "TEST.DETECTIONS_PER_IMAGE is %d and MODEL.ROI_HEADS.SCORE_THRESH_TEST is %g%s; on %s the "
        "best %d detections of an image count, however low they score. Those of rare classes score "
        "low: few or none are found. Set them to %d and 0.0001, as LVIS does; runs of one setting "
        "compare as they are.",
        *(kept, lowest, ", as is usual for COCO" if (kept, lowest) == _OF_COCO else ""),
        *(dataset_name, most, most),
    )


def evaluation_problems(cfg: CfgNode, dataset_name: str) -> Iterator[str]:
    """Why a registered set of instances cannot be evaluated on: its ground truth is built.

    Args:
        cfg: MODEL.MASK_ON decides whether its masks have to be whole.
        dataset_name: of the set.
    """
    try:
        truth = RegisteredSet.read(MetadataCatalog.get(dataset_name)).ground_truth
        if cfg.MODEL.MASK_ON and len(truth.images):
            truth.for_task("segm")
    except (ValueError, OSError) as error:
        yield str(error)


def evaluation_folder(cfg: CfgNode, dataset_name: str) -> str:
    """`inference` in OUTPUT_DIR, and there a folder of the set's name if there are several."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    return os.path.join(folder, dataset_name) if len(cfg.DATASETS.TEST) > 1 else folder
