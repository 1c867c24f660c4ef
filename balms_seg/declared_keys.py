"""Whether a configuration knows this package's keys."""

from __future__ import annotations

from typing import Any


def require_our_keys(cfg: Any) -> None:
    """Stop where `add_balms_config` was forgotten, before a key of ours is read.

    Args:
        cfg: a detectron2 configuration.

    Raises:
        ValueError: it declares no classification methods, which nobody else does.
    """
    if "METHODS" not in cfg.MODEL:
        raise ValueError(
            "Expected a configuration with balms_seg's keys, but this one has none: call "
            "balms_seg.add_balms_config(cfg) right after get_cfg(), before files and keys are "
            "merged."
        )
