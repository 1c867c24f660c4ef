"""Chooses the evaluator of a registered data set."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from .lvis_evaluator import LongTailedLVISEvaluator

INSTANCE_EVALUATOR_TYPES = ("lvis", "long_tailed", "coco")


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_dir: str | None = None
) -> DatasetEvaluator:
    """Build the evaluator that a data set's `evaluator_type` asks for.

    Args:
        cfg: MODEL.MASK_ON decides whether masks are evaluated.
        dataset_name: a registered data set.
        output_dir: where the evaluator writes; None for the folder `inference` in OUTPUT_DIR, and
            there a folder of the set's name if DATASETS.TEST has several.

    Raises:
        ValueError: no evaluator belongs to the data set's type.
    """
    if output_dir is None:
        output_dir = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            output_dir = os.path.join(output_dir, dataset_name)
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if evaluator_type not in INSTANCE_EVALUATOR_TYPES:
        raise ValueError(
            f"Expected data set '{dataset_name}' to have an evaluator_type among "
            f"{INSTANCE_EVALUATOR_TYPES}, but got {evaluator_type!r}; register it with "
            "register_long_tailed_instances or correct DATASETS.TEST."
        )
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    return LongTailedLVISEvaluator(dataset_name, tasks, output_dir=output_dir)
