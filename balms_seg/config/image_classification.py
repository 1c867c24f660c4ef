"""Which values of the MODEL.IMAGE_CLASSIFIER keys mean nothing, or contradict other keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.job import classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode

CLASSIFIERS = ("auto", "linear", "cosine")


def image_problems(cfg: CfgNode) -> list[str]:
    """One line for each key to change; none for a detector."""
    from balms_seg.methods import IMAGE_METHODS
    from balms_seg.methods.image_base import CB_LOSSES, FBL_ALPHAS

    if not classifies_images(cfg):
        return []
    where, node = "MODEL.IMAGE_CLASSIFIER", cfg.MODEL.IMAGE_CLASSIFIER
    allowed = {
        "METHOD": tuple(IMAGE_METHODS),
        "CLASSIFIER": CLASSIFIERS,
        "CB_LOSS": CB_LOSSES,
        "FBL_ALPHA": FBL_ALPHAS,
    }
    problems = [
        f"{where}.{key} is {node[key]!r}; expected one of {', '.join(values)}."
        for key, values in allowed.items()
        if node[key] not in values
    ]
    ranges = {
        "COSINE_SCALE": (node.COSINE_SCALE > 0, "a number above 0"),
        "FOCAL_GAMMA": (node.FOCAL_GAMMA >= 0, "0 or more"),
        "CB_BETA": (0 <= node.CB_BETA < 1, "a number in [0, 1)"),
        "LDAM_MAX_MARGIN": (node.LDAM_MAX_MARGIN >= 0, "0 or more"),
        "DRW_START": (0 <= node.DRW_START <= 1, "a share of the run in [0, 1]"),
        "FBL_LAMBDA": (node.FBL_LAMBDA >= 0, "0 or more"),
        "FBL_RAMP": (0 <= node.FBL_RAMP <= 1, "a share of the run in [0, 1]"),
    }
    problems += [
        f"{where}.{key} is {node[key]}; expected {expected}."
        for key, (is_right, expected) in ranges.items()
        if not is_right
    ]
    if node.METHOD in ("ldam", "ldam_drw") and node.CLASSIFIER == "linear":
        problems.append(
            f"{where}.CLASSIFIER is linear, but the margins of {where}.METHOD {node.METHOD} are of "
            "cosines; set it to auto."
        )
    return problems
