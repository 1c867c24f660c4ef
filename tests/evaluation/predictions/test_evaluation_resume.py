"""An evaluation that was interrupted goes on where it stopped, with the same weights only."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from made_up_data import small_config, write_data_sets

from balms_seg.data.instances.registration import register_from_config
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.evaluation.predictions.resumed_evaluation import (
    RemainingImages,
    prediction_fingerprint,
    weights_fingerprint,
)


def test_fingerprint_follows_weights_and_settings() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    first = prediction_fingerprint(model, "a")
    assert prediction_fingerprint(model, "a") == first
    assert prediction_fingerprint(model, "b") != first
    assert prediction_fingerprint(model[0], "a") != first
    with torch.no_grad():
        model[0].bias[1] += 1e-6
    assert prediction_fingerprint(model, "a") != first


def test_weights_are_the_same_whatever_is_counted_beside_them() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    first = weights_fingerprint(model)
    model[1].running_mean += 1
    assert weights_fingerprint(model) == first
    assert weights_fingerprint(torch.nn.ModuleDict({"module": model})) == first  # as DDP holds it
    with torch.no_grad():
        model[0].bias[1] += 1e-6
    assert weights_fingerprint(model) != first
    assert weights_fingerprint(torch.nn.Identity()) is None


def test_remaining_images_keep_their_order() -> None:
    batches = [[{"image_id": 1}, {"image_id": 2}], [{"image_id": 3}], [{"image_id": 4}]]
    left = list(RemainingImages(batches, {2, 3}))
    assert left == [[{"image_id": 1}], [{"image_id": 4}]]


class StopAfter(torch.nn.Module):
    """Counts images and fails when it has seen so many."""

    def __init__(self, model: torch.nn.Module, limit: int) -> None:
        super().__init__()
        self.model, self.limit, self.seen = model, limit, 0

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        if self.seen >= self.limit:
            raise InterruptedError
        self.seen += len(batch)
        return self.model(batch)


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    overrides = {"OUTPUT_DIR": str(tmp_path / "out"), "SEED": 1}
    cfg = small_config({**write_data_sets(tmp_path / "data"), **overrides})
    register_from_config(cfg)
    return cfg


@pytest.mark.slow
def test_a_second_run_predicts_what_the_first_left_over(cfg: CfgNode) -> None:
    model = LongTailedTrainer.build_model(cfg)
    expected = LongTailedTrainer.test(cfg, StopAfter(model, 10))
    with pytest.raises(InterruptedError):
        LongTailedTrainer.test(cfg, StopAfter(model, 2))
    second = StopAfter(model, 10)
    results = LongTailedTrainer.test(cfg, second)
    assert second.seen == 1
    assert str(results) == str(expected)
    third = StopAfter(model, 10)
    assert str(LongTailedTrainer.test(cfg, third)) == str(expected)
    assert third.seen == 3  # what has been evaluated is not taken up again


@pytest.mark.slow
@pytest.mark.parametrize("change", ["weights", "settings", "switch"])
def test_other_weights_or_settings_start_anew(cfg: CfgNode, change: str) -> None:
    model = LongTailedTrainer.build_model(cfg)
    with pytest.raises(InterruptedError):
        LongTailedTrainer.test(cfg, StopAfter(model, 2))
    if change == "weights":
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)
    cfg.defrost()
    if change == "settings":
        cfg.INPUT.MIN_SIZE_TEST += 1
    cfg.TEST.LONG_TAILED.RESUME = change != "switch"
    second = StopAfter(model, 10)
    LongTailedTrainer.test(cfg, second)
    assert second.seen == 3
