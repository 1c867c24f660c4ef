"""Which annotations can be trained on, and what is said once of a file that has others.

Symbols: A annotations.
"""

from __future__ import annotations

import logging
from weakref import WeakSet

import numpy as np

from balms_seg.wording import counted

from .annotations import Annotations, Facts
from .errors import AnnotationError
from .mask_columns import MaskKind
from .suspicions import is_beyond_image
from .tables import LVIS_IMAGE_FIELDS

logger = logging.getLogger(__name__)

_DEFAULTS = {
    "frequency": "classes are grouped by their number of training images; where it is unknown they "
    "have no frequency group",
    "image_count": "counted from the annotations",
    "neg_category_ids": "every class without an annotation in an image counts as verified absent "
    "from it, so a detection of it is a false positive",
    "not_exhaustive_category_ids": "every instance of an annotated class counts as annotated, so "
    "an unmatched detection is a false positive",
}
_PLAIN_COCO = (  # instead of all four; no warning, as it is what such a file means
    "has none of LVIS's fields: classes are grouped by their number of training images (no group "
    "where it is unknown), and every image counts as annotated for all classes"
)
_NUM_DAMAGES_NAMED = 3
# The files of which everything was said.
_said: WeakSet[Facts] = WeakSet()


def has_box(annotations: Annotations) -> np.ndarray:
    """(A,) bool: the box has an area, some of it in the image.

    One that is absent, an error of `require_boxes`, counts as a box.
    """
    x, y, width, height = annotations.boxes.T
    sizes = annotations.image_table.sizes[annotations.images]
    is_in_image = (x < sizes[:, 1]) & (y < sizes[:, 0]) & (x + width > 0) & (y + height > 0)
    is_unknown = sizes.min(axis=1, initial=1) == 0
    return (width > 0) & (height > 0) & (is_in_image | is_unknown) | np.isnan(width)


def is_trained_on(annotations: Annotations, *, with_masks: bool) -> np.ndarray:
    """(A,) bool: an instance, crowd region or ignored region that training takes.

    Args:
        annotations: of a file.
        with_masks: whether masks are learned; one without extent is then left out, while a damaged
            one is an error of `require_whole_masks`.
    """
    taken = has_box(annotations)
    if with_masks:
        kinds = annotations.masks.kinds
        taken &= annotations.masks.is_usable | np.isin(kinds, (MaskKind.NONE, MaskKind.DAMAGED))
    return taken


def is_counted(annotations: Annotations, *, with_masks: bool) -> np.ndarray:
    """(A,) bool: the same, crowd and ignored regions left out."""
    taken = is_trained_on(annotations, with_masks=with_masks)
    return taken & ~annotations.is_crowd & ~annotations.is_ignored


def require_boxes(annotations: Annotations) -> None:
    """Raise AnnotationError, for the first of them, where annotations have no box and no mask."""
    without = np.flatnonzero(np.isnan(annotations.boxes[:, 0]))
    if len(without):
        place = int(without[0])
        others = f" {len(without) - 1} more have none." if len(without) > 1 else ""
        raise AnnotationError(
            f"{annotations.name_of(place)} in {annotations.facts.source} has neither a bbox nor a "
            f"whole mask to take it from; expected [x, y, width, height] in pixels.{others}"
        )


def require_whole_masks(annotations: Annotations) -> None:
    """Raise AnnotationError, with the number and the first of them, where masks are damaged."""
    damages = _damages(annotations)
    if damages:
        raise AnnotationError(
            f"{annotations.facts.source} has {damages}. Mend or remove them, or use boxes only "
            "(MODEL.MASK_ON False, --tasks bbox)."
        )


def _damages(annotations: Annotations) -> str:
    """How many masks are damaged, and what is wrong with the first; empty where none is."""
    number = int((annotations.masks.kinds == MaskKind.DAMAGED).sum())
    first = annotations.facts.damages[:_NUM_DAMAGES_NAMED]
    texts = [f"{annotations.name_of(place)} has {problem}" for place, problem in first]
    more = f" and {number - len(first)} more" if number > len(first) else ""
    return f"{counted(number, 'damaged mask')}: {'; '.join(texts)}{more}" if number else ""


def warn_once(annotations: Annotations) -> None:
    """Log, once a file and process, what stands in for absent fields and what is left out."""
    facts = annotations.facts
    if facts in _said:
        return
    _said.add(facts)
    if _is_plain_coco(annotations):
        logger.info("%s %s.", facts.source, _PLAIN_COCO)
    notes = [*_default_notes(annotations), *_left_out_notes(annotations)]
    texts = [f"has {'; '.join(notes)}"] if notes else []
    texts += [f"looks wrong, and is taken as it is: {one}" for one in facts.suspicions]
    if texts:
        logger.warning("%s %s.", facts.source, "; it ".join(texts))


def _num_without(annotations: Annotations) -> dict[str, tuple[int, int]]:
    """How many entries lack a field of LVIS's, and of how many."""
    table, categories = annotations.image_table, annotations.facts.categories
    return {
        "frequency": (sum("frequency" not in c for c in categories), len(categories)),
        "image_count": (sum("image_count" not in c for c in categories), len(categories)),
        LVIS_IMAGE_FIELDS[0]: (int((~table.has_negatives).sum()), len(table)),
        LVIS_IMAGE_FIELDS[1]: (int((~table.has_not_exhaustive).sum()), len(table)),
    }


def _is_plain_coco(annotations: Annotations) -> bool:
    """Whether no entry has a field of LVIS's; image_count alone makes none."""
    return all(
        number == total
        for name, (number, total) in _num_without(annotations).items()
        if name != "image_count"
    )


def _default_notes(annotations: Annotations) -> list[str]:
    if _is_plain_coco(annotations):
        return []
    num_without = _num_without(annotations)
    notes = []
    for name, (number, total) in num_without.items():
        kind = "images" if name in LVIS_IMAGE_FIELDS else "categories"
        some = "" if number == total else f" in {number} of {total} {kind}"
        if number:
            notes.append(f"no {name}{some} ({_DEFAULTS[name]})")
    if len(notes) == 1 and notes[0].startswith("no image_count"):
        notes.clear()  # says nothing that matters beside the other fields
    for name, number in annotations.facts.num_unknown_listed.items():
        unknown = counted(number, "id")
        notes.append(f"{unknown} in {name} not among the categories (passed over)")
    return notes


def _left_out_notes(annotations: Annotations) -> list[str]:
    masks = annotations.masks
    is_whole = has_box(annotations)
    sizes = annotations.image_table.sizes[annotations.images]
    x, y, width, height = annotations.boxes.T
    is_empty = (width <= 0) | (height <= 0)
    is_flat = (masks.kinds == MaskKind.DEGENERATE) | (
        (masks.kinds == MaskKind.POLYGONS) & ~masks.is_usable
    )
    left_out = "(not trained on, not counted)"
    of_crowds = "(iscrowd: not trained on, not counted)"
    if annotations.is_lvis_style:
        of_crowds = (
            "(iscrowd: not trained on, not counted, but evaluated as objects: as in lvis-api, "
            "which reads no iscrowd)"
        )
    found: list[tuple[str, str, np.ndarray]] = [
        ("crowd region", of_crowds, annotations.is_crowd),
        (
            "ignored region",
            "(ignore: no object, not counted; a proposal on one is neither foreground nor "
            "background)",
            annotations.is_ignored,
        ),
        ("instance", f"with an empty box {left_out}", is_empty),
        ("instance", f"with a box outside the image {left_out}", ~is_whole & ~is_empty),
        (
            "box",
            "ending beyond the image (clipped in training)",
            is_whole & is_beyond_image(annotations.boxes, sizes),
        ),
        (
            "instance",
            "whose polygons have no extent (where masks are used, not trained on and not counted)",
            is_flat,
        ),
        (
            "polygon",
            "without extent beside others (left out in training)",
            ~masks.has_extent & ~np.repeat(is_flat, np.diff(masks.polygon_offsets)),
        ),
    ]
    if annotations.is_lvis_style:
        without_area = (
            "without an area above 0 (not evaluated, as in lvis-api: detections of the same class "
            "do not count there either, unless the lists name it)"
        )
        found.append(("annotation", without_area, ~(annotations.areas > 0)))
    texts = [f"{counted(int(own.sum()), noun)} {rest}" for noun, rest, own in found if own.any()]
    if annotations.facts.num_sharing:
        texts.append(
            f"{counted(annotations.facts.num_sharing, 'image')} with the file of another image "
            "(what the other one holds is trained on as background)"
        )
    if annotations.facts.num_share_masks and not annotations.facts.suspicions:
        texts.append(
            f"{counted(annotations.facts.num_share_masks, 'instance')} whose polygons have "
            "coordinates of at most 1, as shares of the image have, unlike their boxes (taken as "
            "pixels where masks are used)"
        )
    damages = _damages(annotations)
    return [*texts, f"{damages} (an error where masks are used)"] if damages else texts
