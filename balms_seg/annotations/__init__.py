"""The reader of COCO- and LVIS-style json."""

from .annotations import Annotations, ImageTable, Masks
from .errors import AnnotationError, FieldError, shortened
from .fields import canonical_id
from .image_sizes import with_image_sizes
from .mask_columns import MaskKind
from .reader import annotations_of, open_annotations, read_annotations
from .usability import (
    is_counted,
    is_trained_on,
    require_boxes,
    require_whole_masks,
    warn_once,
)

__all__ = [
    "AnnotationError",
    "Annotations",
    "FieldError",
    "ImageTable",
    "MaskKind",
    "Masks",
    "annotations_of",
    "canonical_id",
    "is_counted",
    "is_trained_on",
    "open_annotations",
    "read_annotations",
    "require_boxes",
    "require_whole_masks",
    "shortened",
    "warn_once",
    "with_image_sizes",
]
