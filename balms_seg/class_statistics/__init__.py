"""How often each class occurs in the training set; numpy only."""

from balms_seg.annotations.annotation_counts import flatten_annotations
from balms_seg.class_statistics.cache import cached_statistics, cached_statistics_from_json
from balms_seg.class_statistics.frequency_groups import CLASSIFICATION_GROUPS, LVIS_GROUPS
from balms_seg.class_statistics.statistics import ClassStatistics

__all__ = [
    "CLASSIFICATION_GROUPS",
    "LVIS_GROUPS",
    "ClassStatistics",
    "cached_statistics",
    "cached_statistics_from_json",
    "flatten_annotations",
]
