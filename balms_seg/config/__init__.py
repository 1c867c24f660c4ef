"""Every configuration key of this package, and the checks that need no data.

One file a subject: it declares its keys, each with its meaning, beside the check of their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config import (
    box_classifier,
    copy_paste,
    data_sets,
    evaluation,
    image_classification,
    image_input,
    mask_head,
    meta_learning,
    methods,
    solver,
    stages,
)
from balms_seg.config.replaced_keys import check_known_keys
from balms_seg.declared_keys import require_our_keys
from balms_seg.job import classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["add_balms_config", "check_config", "check_known_keys"]

SUBJECTS = (
    data_sets,
    image_classification,
    image_input,
    copy_paste,
    methods,
    box_classifier,
    mask_head,
    stages,
    meta_learning,
    solver,
    evaluation,
)


def add_balms_config(cfg: CfgNode) -> None:
    """Declare this package's keys with their defaults, in place.

    Registers the ROI heads, backbones and proposal generators that the keys name, too.

    Args:
        cfg: a detectron2 configuration, as `detectron2.config.get_cfg()` returns it.
    """
    import balms_seg.modeling  # noqa: F401  registers them

    for subject in SUBJECTS:
        subject.add_keys(cfg)


def check_config(cfg: CfgNode) -> None:
    """Stop on settings that contradict each other, before any data is read.

    Args:
        cfg: a resolved configuration with this package's keys.

    Raises:
        ValueError: names every key to change, one line each.
    """
    require_our_keys(cfg)
    of_images = classifies_images(cfg)  # the one place: the subjects are told
    problems = [
        problem for subject in SUBJECTS for problem in subject.problems(cfg, of_images=of_images)
    ]
    if problems:
        raise ValueError("The configuration contradicts itself:\n  " + "\n  ".join(problems))
