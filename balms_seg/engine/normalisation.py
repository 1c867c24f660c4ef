"""Layers of normalisation keep their parameters' names, whatever their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from balms_seg.engine.class_checks import CLASSES_KEY

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_PLACES = ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD")  # MODEL.X.NORM
# Of the same numbers: a model trained with one of them is evaluated with another.
_BATCH = {"BN", "SyncBN", "FrozenBN", "nnSyncBN", "naiveSyncBN"}


def require_same_normalisation(cfg: CfgNode, record: Mapping[str, Any]) -> None:
    """Stop where a checkpoint was trained with layers of another normalisation than the model's.

    GN's scales and shifts load into FrozenBN without a word, and the outputs are others.

    Args:
        cfg: of the model.
        record: plain values of the checkpoint; nothing is checked of another program's.

    Raises:
        ValueError: it was.
    """
    if not record.keys() >= {CLASSES_KEY, "config"}:
        return  # another program's, whose "config" may be anything
    trained = yaml.safe_load(record["config"])["MODEL"]
    for place in _PLACES:
        key, ours = f"MODEL.{place}.NORM", cfg.MODEL[place].NORM
        theirs = trained.get(place, {}).get("NORM", ours)
        if theirs != ours and not {theirs, ours} <= _BATCH:
            raise ValueError(
                f"The checkpoint was trained with {key} {theirs!r}, but the configuration has "
                f"{ours!r}: give the keys that it was trained with again, or the config.yaml of "
                "its run as --config-file."
            )
