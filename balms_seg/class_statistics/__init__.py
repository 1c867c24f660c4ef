"""How often each class occurs in the training set; numpy only."""

from balms_seg.class_statistics.annotation_counts import flatten_annotations
from balms_seg.class_statistics.frequency_groups import CLASSIFICATION_GROUPS, LVIS_GROUPS
from balms_seg.class_statistics.statistics import ClassStatistics

__all__ = [
    "CLASSIFICATION_GROUPS",
    "LVIS_GROUPS",
    "ClassStatistics",
    "flatten_annotations",
]
