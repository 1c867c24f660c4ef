"""What is changed with --resume holds from there on, and one line says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from image_runs import build_image_trainer
from image_sets import write_image_sets
from made_up_data import small_config
from runs import build_trainer

from balms_seg.engine import train
from balms_seg.engine.optimizer import settings_kept
from balms_seg.engine.resume_checks import describe_changes, prepare_to_resume

SGD = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.01,
    "SOLVER.BIAS_LR_FACTOR": 2.0,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": (1,),
    "SOLVER.GAMMA": 0.1,
    "SOLVER.MAX_ITER": 2,
    "DATASETS.TEST": (),
}
CHANGED = {
    "SOLVER.BASE_LR": 1e-7,
    "SOLVER.MOMENTUM": 0.5,
    "SOLVER.WEIGHT_DECAY": 0.25,
    "SOLVER.GAMMA": 0.5,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.STEPS": (3,),
}
ADAM = {"SOLVER.OPTIMIZER": "AdamW", "SOLVER.CLIP_GRADIENTS.ENABLED": True}


class Groups(HookBase):
    """Settings of the optimiser's groups in each iteration."""

    def __init__(self) -> None:
        self.seen: list[set[tuple[float, float, float]]] = []

    def before_step(self) -> None:
        groups = self.trainer.optimizer.param_groups
        self.seen.append(
            {(g["lr"], g["weight_decay"], g.get("momentum", 0.0)) for g in groups if g["params"]}
        )


@pytest.mark.parametrize(
    "kind",
    [
        "one_of_two_processes",
        "classifier",  # of images, alone
        pytest.param("boxes", marks=pytest.mark.slow),
        pytest.param("images", marks=pytest.mark.slow),
    ],
)
def test_rates_decay_momentum_and_schedule_of_a_resumed_run_are_its_own(
    kind: str, data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """Of every group of parameters; as a run from the start has them with these settings."""
    build = build_image_trainer if kind in ("images", "classifier") else build_trainer
    sets = write_image_sets(tmp_path) if build is build_image_trainer else data
    own = {
        "one_of_two_processes": {"SOLVER.REFERENCE_WORLD_SIZE": 2, "SOLVER.IMS_PER_BATCH": 4},
        "classifier": {"MODEL.TRAIN_ONLY": ["classifier"]},
    }.get(kind, {})
    before = {**sets, **SGD, **own}
    fresh, resumed = Groups(), Groups()
    trainer = build({**before, **CHANGED}, tmp_path / "fresh")
    trainer.register_hooks([fresh])
    train(trainer)
    train(build(before, tmp_path / "run"))
    log.clear()
    trainer = build({**before, **CHANGED}, tmp_path / "run", "--resume")
    trainer.register_hooks([resumed])
    train(trainer, resume=True)
    done = 4 if kind == "one_of_two_processes" else 2
    assert trainer.start_iter == done
    assert resumed.seen == fresh.seen[done:]
    assert len({rate for groups in resumed.seen for rate, _, _ in groups}) >= 2
    (line,) = (each for each in log.messages if "from here on" in each)
    for told in ("BASE_LR 0.02 -> 1e-07", "MOMENTUM 0.9 -> 0.5", "STEPS [1] -> [3]"):
        assert f"SOLVER.{told}" in line


def test_a_state_brings_moments_and_no_settings() -> None:
    weights = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]

    def optimizer(rate: float, momentum: float) -> torch.optim.SGD:
        groups = [{"params": weights[:1]}, {"params": weights[1:], "lr": 2 * rate}]
        return torch.optim.SGD(groups, lr=rate, momentum=momentum)

    old, new = optimizer(0.1, 0.9), optimizer(0.001, 0.5)
    sum(weight.sum() for weight in weights).backward()
    old.step()
    with settings_kept(new):
        new.load_state_dict(old.state_dict())
    assert [group["lr"] for group in new.param_groups] == [0.001, 0.002]
    assert [group["initial_lr"] for group in new.param_groups] == [0.001, 0.002]
    assert {group["momentum"] for group in new.param_groups} == {0.5}
    assert torch.equal(new.state[weights[1]]["momentum_buffer"], torch.ones(3))


def test_what_has_changed_is_told_in_a_line_and_nothing_else_is(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    train(build_trainer({**data, **ADAM, "DATASETS.TEST": ()}, tmp_path))
    cfg = small_config({**data, **ADAM, "DATASETS.TEST": (), "OUTPUT_DIR": str(tmp_path)})
    saved = prepare_to_resume(cfg)
    cfg.SEED, cfg.OUTPUT_DIR, cfg.MODEL.DEVICE = 9, "elsewhere", "cuda"
    assert describe_changes(cfg, saved) == ""
    assert describe_changes(cfg, {}) == ""
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.125
    cfg.META.LR = 0.5
    cfg.MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS = [0.5] * 1203
    told = describe_changes(cfg, saved)
    assert told.startswith("With --resume, from here on: ")
    assert "META.LR 0.01 -> 0.5" in told
    assert f"CLIP_VALUE {saved['SOLVER']['CLIP_GRADIENTS']['CLIP_VALUE']} -> 0.125" in told
    assert told.count("->") == 3
    assert len(told) < 300


@pytest.mark.parametrize(("schedule", "told"), [("MultiStep", True), ("Cosine", False)])
def test_steps_are_told_of_where_the_schedule_has_any(schedule: str, told: bool) -> None:
    cfg = small_config({"SOLVER.LR_SCHEDULER_NAME": f"Warmup{schedule}LR"})
    saved = {"SOLVER": {"STEPS": [1, 2]}}
    assert ("SOLVER.STEPS" in describe_changes(cfg, saved)) == told
