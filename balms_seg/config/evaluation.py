"""What is measured, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_keys(cfg: CfgNode) -> None:
    """Declare the TEST.LONG_TAILED keys."""
    from detectron2.config import CfgNode

    from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS

    test = cfg.TEST.LONG_TAILED = CfgNode()
    # What computes AP and AR: numpy (ours) | lvis (lvis-api, the same numbers, slowly).
    test.BACKEND = "numpy"
    # Detections of an image that count, by score; LVIS's 300.
    test.MAX_DETECTIONS = LVIS_MAX_DETECTIONS
    # Largest number of training images of a rare and of a common class: [10, 100]. Empty: the
    # json's own groups, and LVIS's bounds for classes without. For whole images, of the groups few
    # and medium: [19, 100] where empty.
    test.GROUP_BOUNDS = []
    # Where GROUP_BOUNDS is empty, choose them so that each group has about a third of the classes.
    cfg.TEST.FIT_GROUP_BOUNDS = False
    # Also AP-fixed and AP-pool: 10,000 detections a class, no cap an image. Needs a larger
    # TEST.DETECTIONS_PER_IMAGE.
    test.AP_FIXED = False
    # Also boundary AP of the masks, which takes several times as long as mask AP.
    test.BOUNDARY = False
    # Count false positives by kind and find the class that each is most confused with.
    test.ERROR_KINDS = True
    # Take up the predictions of an interrupted evaluation of the same weights and settings.
    test.RESUME = True

    # Metric whose best checkpoint is kept as model_best.pth, such as segm/AP. Empty: none.
    cfg.TEST.BEST_METRIC = ""


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Values of the TEST.LONG_TAILED keys that mean nothing."""
    from balms_seg.evaluation.lvis.lvis_ap import BACKENDS

    options, found = cfg.TEST.LONG_TAILED, []
    if options.BACKEND not in BACKENDS:
        found.append(
            f"TEST.LONG_TAILED.BACKEND is {options.BACKEND!r}; expected one of "
            f"{', '.join(BACKENDS)}."
        )
    if options.MAX_DETECTIONS < 1:
        found.append(
            f"TEST.LONG_TAILED.MAX_DETECTIONS is {options.MAX_DETECTIONS}; expected at least 1."
        )
    bounds = list(cfg.TEST.LONG_TAILED.GROUP_BOUNDS)
    if bounds and (len(bounds) != 2 or not 0 < bounds[0] < bounds[1]):
        found.append(
            f"TEST.LONG_TAILED.GROUP_BOUNDS is {bounds}; expected two ascending numbers "
            "above 0 of training images, such as [10, 100], or an empty list."
        )
    if options.BOUNDARY and not cfg.MODEL.MASK_ON:
        found.append(
            "TEST.LONG_TAILED.BOUNDARY needs masks; set it to False or MODEL.MASK_ON to True."
        )
    return found
