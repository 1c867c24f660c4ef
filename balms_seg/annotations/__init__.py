"""The reader of COCO- and LVIS-style json."""

from .annotations import Annotations, ImageTable, Masks
from .cache import num_bytes
from .content import annotation_content, image_content
from .errors import AnnotationError, FieldError, shortened
from .fields import canonical_id
from .image_files import ImageFolder, describe_alike
from .image_sizes import with_image_sizes
from .mask_columns import MaskKind
from .reader import annotations_of, open_annotations, read_annotations
from .suspicions import require_trust
from .tables import is_coco_2014_name
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
    "ImageFolder",
    "ImageTable",
    "MaskKind",
    "Masks",
    "annotation_content",
    "annotations_of",
    "canonical_id",
    "describe_alike",
    "image_content",
    "is_coco_2014_name",
    "is_counted",
    "is_trained_on",
    "num_bytes",
    "open_annotations",
    "read_annotations",
    "require_boxes",
    "require_trust",
    "require_whole_masks",
    "shortened",
    "warn_once",
    "with_image_sizes",
]
