"""detectron2's own classification losses, which go with its box predictor and not with a method.

Its main branch has them, version 0.6 does not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from balms_seg.methods import Method

logger = logging.getLogger(__name__)

#: Arguments and attributes of `FastRCNNOutputLayers`; the method of this package with such a loss.
OWN_LOSSES = {"use_fed_loss": "federated", "use_sigmoid_ce": "sigmoid"}


def refuse_own_losses(method: Method, arguments: Mapping[str, Any]) -> None:
    """Stop where one of these losses is asked for beside a method.

    Raises:
        ValueError: names the method, and the one that has such a loss.
    """
    for name, ours in OWN_LOSSES.items():
        if arguments.get(name):
            raise ValueError(
                f"Expected the loss of {type(method).__name__} alone, but {name} asks for "
                f"detectron2's own; set it (MODEL.ROI_BOX_HEAD.{name.upper()}) to False, or take "
                f"the method {ours!r}."
            )


def warn_of_lost_losses(old: nn.Module, method: Method) -> None:
    """Say that a predictor whose place a method takes had one of these losses."""
    lost = {name: ours for name, ours in OWN_LOSSES.items() if getattr(old, name, False)}
    if lost:
        logger.warning(
            "The box predictor had detectron2's %s, which is gone: it trains with the loss of %s "
            "now. With a loss like it there is %s.",
            " and ".join(lost),
            type(method).__name__,
            " and ".join(lost.values()),
        )
