"""Evaluation of instances by LVIS's rules and of image classifiers, tables and results.json.

Only the evaluators need detectron2.
"""

from balms_seg.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FREQUENCY_GROUPS": "lvis.ground_truth",
        "ClassificationEvaluator": "images.classification_evaluator",
        "GroundTruth": "lvis.ground_truth",
        "LVISResult": "lvis.lvis_ap",
        "LongTailedLVISEvaluator": "lvis_evaluator",
        "build_evaluator": "evaluator_choice",
        "evaluate_lvis": "lvis.lvis_ap",
        "format_lvis_table": "output.result_table",
        "load_ground_truth": "lvis.ground_truth",
        "read_detections": "predictions.detection_file",
        "read_results": "output.results_file",
        "write_per_class_csv": "output.per_class",
        "write_results": "output.results_file",
    },
)
