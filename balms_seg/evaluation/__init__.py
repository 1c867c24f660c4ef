"""Evaluation of instances by LVIS's rules and of image classifiers, tables and results.json.

Only the evaluators need detectron2.
"""

from typing import Any

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS, GroundTruth, load_ground_truth
from balms_seg.evaluation.lvis.lvis_ap import LVISResult, evaluate_lvis
from balms_seg.evaluation.output.per_class import write_per_class_csv
from balms_seg.evaluation.output.result_table import format_lvis_table
from balms_seg.evaluation.output.results_file import read_results, write_results
from balms_seg.evaluation.predictions.detection_file import read_detections

__all__ = [
    "FREQUENCY_GROUPS",
    "ClassificationEvaluator",
    "GroundTruth",
    "LVISResult",
    "LongTailedLVISEvaluator",
    "build_evaluator",
    "evaluate_lvis",
    "format_lvis_table",
    "load_ground_truth",
    "read_detections",
    "read_results",
    "write_per_class_csv",
    "write_results",
]


def __getattr__(name: str) -> Any:
    """Import what needs detectron2 when it is asked for."""
    if name == "LongTailedLVISEvaluator":
        from balms_seg.evaluation.lvis_evaluator import LongTailedLVISEvaluator

        return LongTailedLVISEvaluator
    if name == "ClassificationEvaluator":
        from balms_seg.evaluation.images.classification_evaluator import ClassificationEvaluator

        return ClassificationEvaluator
    if name == "build_evaluator":
        from balms_seg.evaluation.evaluator_choice import build_evaluator

        return build_evaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
