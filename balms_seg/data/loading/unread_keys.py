"""Keys that only this package's trainer reads, in a training loop of somebody else's.

A loader is the one thing of ours that is built in such a loop with the whole configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

logger = logging.getLogger(__name__)

# With their values in detectron2's loop, which has nothing of the kind.
_OF_OUR_TRAINER: dict[str, object] = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.AMP.DTYPE": "float16",
    "SOLVER.EMA_DECAY": 0.0,
    "SOLVER.EPOCHS": 0,
    "SOLVER.WARMUP_SHARE": 0.0,
    "SOLVER.REFERENCE_IMS_PER_BATCH": 0,
    "MODEL.TRAIN_ONLY": [],
    "MODEL.INIT_CLASSIFIER": "keep",
    "MODEL.INITIAL_BIAS": "method",
    "TEST.FIT_GROUP_BOUNDS": False,
    "TEST.BEST_METRIC": "",
}
_reads_every_key: ContextVar[bool] = ContextVar("reads_every_key", default=False)


@contextmanager
def every_key_is_read() -> Iterator[None]:
    """Loaders that are built within belong to this package's trainer."""
    token = _reads_every_key.set(True)
    try:
        yield
    finally:
        _reads_every_key.reset(token)


def warn_of_unread_keys(cfg: Any) -> None:
    """Name the keys that are set and that no one reads, outside `every_key_is_read`."""
    if _reads_every_key.get() or "META" not in cfg:  # plain detectron2 has none of them
        return
    unread = [
        f"{key} {value}"
        for key, value in ((key, _value(cfg, key)) for key in _OF_OUR_TRAINER)
        if value != _OF_OUR_TRAINER[key]
    ]
    learns = cfg.META.LEARN
    if learns in ("weights", "rates"):
        unread.append(f"META.LEARN {learns}")
    elif learns == "auto" and cfg.DATALOADER.SAMPLER_TRAIN == "MetaRepeatFactorTrainingSampler":
        unread.append("META.* (so that MetaRepeatFactorTrainingSampler learns nothing)")
    elif learns == "auto" and cfg.MODEL.ROI_HEADS.NAME == "BALMSROIHeads":
        unread.append("META.* (so that BALMSROIHeads learn no weights)")
    if unread:
        logger.warning(
            "Only balms_seg.engine.LongTailedTrainer and balms-seg train read %s. If another "
            "trainer trains, it goes without: take one of them, or clear what is set.",
            ", ".join(unread),
        )


def _value(cfg: Any, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return list(cfg) if isinstance(cfg, tuple) else cfg
