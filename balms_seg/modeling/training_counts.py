"""The training set's class counts, for whatever part of a model needs them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics

logger = logging.getLogger(__name__)


def statistics_if_available(cfg: CfgNode) -> ClassStatistics | None:
    """Statistics of DATASETS.TRAIN; None, with a warning, where it is not at hand."""
    from balms_seg.data import training_statistics

    if not cfg.DATASETS.TRAIN:
        return None
    try:
        return training_statistics(cfg)
    except (FileNotFoundError, KeyError) as error:
        logger.warning(
            "No class statistics: %s. The model can predict, but computing its loss will fail.",
            str(error).strip("'\""),
        )
        return None
