"""Keys that another trainer would leave unread are named, and those that it reads are not."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode, get_cfg

from balms_seg import add_balms_config
from balms_seg.data.loading.unread_keys import every_key_is_read, warn_of_unread_keys


def config(*overrides: object) -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["SOLVER.EPOCHS", 2, "SOLVER.OPTIMIZER", "AdamW"], "OPTIMIZER AdamW, SOLVER.EPOCHS 2."),
        (["MODEL.TRAIN_ONLY", ["roi_heads"]], "MODEL.TRAIN_ONLY ['roi_heads']."),
        (["META.LEARN", "weights"], "META.LEARN weights."),
        (["MODEL.ROI_HEADS.NAME", "BALMSROIHeads"], "BALMSROIHeads learn no weights"),
        (
            ["DATALOADER.SAMPLER_TRAIN", "MetaRepeatFactorTrainingSampler"],
            "MetaRepeatFactorTrainingSampler learns nothing",
        ),
    ],
)
def test_what_is_set_and_not_read_is_named(
    overrides: list, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(*overrides)
    with every_key_is_read():
        warn_of_unread_keys(cfg)
    assert not caplog.records
    warn_of_unread_keys(cfg)
    assert named in caplog.text


@pytest.mark.parametrize(
    "cfg",
    [
        config(),
        config("META.LEARN", "none", "MODEL.ROI_HEADS.NAME", "BALMSROIHeads"),
        get_cfg(),
    ],
    ids=["defaults", "static control", "plain detectron2"],
)
def test_nothing_is_said_where_nothing_is_lost(
    cfg: CfgNode, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unread_keys(cfg)
    assert not caplog.records
