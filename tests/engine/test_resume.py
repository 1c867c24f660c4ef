"""A resumed run repeats an uninterrupted one; a run that fails keeps its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.layers import FrozenBatchNorm2d
from runs import assert_same_tensors, build_trainer, read_checkpoint, run_training

from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.step_errors import step_errors_explained
from balms_seg.evaluation import read_results

# A schedule whose rate changes in every iteration, and augmentation that is random.
SIX_ITERATIONS = {
    "SOLVER.MAX_ITER": 6,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "INPUT.RANDOM_FLIP": "horizontal",
}


@dataclass
class History:
    """Per iteration: stream positions, pixel sums and learning rates."""

    positions: list[list[int]] = field(default_factory=list)
    pixels: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def watch(self, trainer: LongTailedTrainer) -> None:
        trainer.model.register_forward_pre_hook(self._before_forward)
        history = self

        class Rates(HookBase):
            def before_step(self) -> None:
                history.rates.append(self.trainer.optimizer.param_groups[0]["lr"])

        trainer.register_hooks([Rates()])

    def _before_forward(self, module: torch.nn.Module, args: tuple) -> None:
        if module.training:
            weights = torch.arange(64.0)
            self.positions.append([sample["stream_position"] for sample in args[0]])
            self.pixels.append([(sample["image"] * weights).sum().item() for sample in args[0]])

    def __add__(self, other: History) -> History:
        return History(
            self.positions + other.positions, self.pixels + other.pixels, self.rates + other.rates
        )


def run_watched(
    settings: dict, output: Path, *flags: str, prepare: Callable | None = None
) -> tuple[LongTailedTrainer, History]:
    trainer, history = build_trainer(settings, output, *flags), History()
    history.watch(trainer)
    if prepare:
        prepare(trainer)
    train(trainer, resume="--resume" in flags)
    return trainer, history


class PowerCut(HookBase):
    """Ends the run before an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            raise InterruptedError("power cut")


def run_until(iteration: int, settings: dict, output: Path) -> History:
    trainer, history = build_trainer(settings, output), History()
    history.watch(trainer)
    trainer.register_hooks([PowerCut(iteration)])
    with pytest.raises(InterruptedError, match="power cut"):
        train(trainer)
    history.rates = history.rates[:iteration]
    return history


SGD = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.02}


@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param(SGD, marks=pytest.mark.slow),
        pytest.param({"DATALOADER.NUM_WORKERS": 2}, marks=pytest.mark.slow),
        pytest.param({"SOLVER.AMP.ENABLED": True}, marks=pytest.mark.slow),
    ],
    ids=["default", "sgd", "two_workers", "mixed_precision"],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
    more: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SIX_ITERATIONS, **more}
    _, straight = run_watched(settings, tmp_path / "straight")
    first = run_until(4, settings, tmp_path / "halves")  # one further than the checkpoint
    _, second = run_watched(settings, tmp_path / "halves", "--resume")

    first_three = History(first.positions[:3], first.pixels[:3], first.rates[:3])
    assert first_three + second == straight
    assert straight.positions == [[2 * i, 2 * i + 1] for i in range(6)]
    assert len(set(straight.rates)) == 6
    one, other = (
        read_checkpoint(tmp_path / name / "model_final.pth") for name in ("straight", "halves")
    )
    assert_same_tensors(one["model"], other["model"])
    assert one["trainer"]["hooks"] == other["trainer"]["hooks"]
    for one_state, other_state in zip(
        one["trainer"]["_trainer"]["optimizer"]["state"].values(),
        other["trainer"]["_trainer"]["optimizer"]["state"].values(),
        strict=True,
    ):
        assert_same_tensors(one_state, other_state)
    metrics = [read_results(tmp_path / name / "results.json") for name in ("straight", "halves")]
    assert str(metrics[0]["metrics"]) == str(metrics[1]["metrics"])
    assert metrics[1]["iteration"] == 6


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_weights(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SIX_ITERATIONS, "SOLVER.MAX_ITER": 3}
    models = [
        run_training({**settings, "DATALOADER.NUM_WORKERS": workers}, tmp_path / str(workers)).model
        for workers in (0, 2)
    ]
    assert_same_tensors(models[0].state_dict(), models[1].state_dict())


def test_a_run_cut_off_before_its_final_checkpoint_gets_one(
    data: dict[str, object], tmp_path: Path
) -> None:
    """All iterations were done and saved, the last of them by the period."""
    settings = {**data, **SIX_ITERATIONS, "SOLVER.EMA_DECAY": 0.5, "DATASETS.TEST": ()}
    run_training(settings, tmp_path)
    final = tmp_path / "model_final.pth"
    expected = read_checkpoint(final)
    for leftover in (None, tmp_path / "model_0000002.pth"):  # none, or of a run of three iterations
        final.unlink()
        if leftover is not None:
            leftover.rename(final)
        (tmp_path / "last_checkpoint").write_text("model_0000005.pth")
        assert run_training(settings, tmp_path, "--resume").start_iter == 6
        found = read_checkpoint(final)
        for key in ("model", "raw_model"):
            assert_same_tensors(expected[key], found[key])
        assert found["iteration"] == expected["iteration"]
        assert found["trainer"]["iteration"] == expected["trainer"]["iteration"]
        assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_resuming_without_a_checkpoint_starts_from_the_beginning(
    data: dict[str, object], tmp_path: Path
) -> None:
    one = run_training(data, tmp_path / "one")
    other = run_training(data, tmp_path / "other", "--resume")
    assert other.start_iter == 0
    assert_same_tensors(one.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize("max_iter", [2, 1])
def test_resuming_a_finished_run_evaluates_it_and_says_so(
    max_iter: int, data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    finished = run_training(data, tmp_path)
    before = read_results(tmp_path / "results.json")
    (tmp_path / "results.json").unlink()
    resumed, history = run_watched({**data, "SOLVER.MAX_ITER": max_iter}, tmp_path, "--resume")
    assert history.positions == []
    assert f"has done 2 of SOLVER.MAX_ITER {max_iter}" in log.text
    after = read_results(tmp_path / "results.json")
    assert str(after["metrics"]) == str(before["metrics"])
    assert after["iteration"] == before["iteration"] == 2
    assert_same_tensors(finished.model.state_dict(), resumed.model.state_dict())


def test_a_checkpoint_without_a_stream_position_goes_on_with_the_next_images(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    run_training(data, tmp_path)
    path = tmp_path / "model_final.pth"
    checkpoint = read_checkpoint(path)
    for key in ("data_loader", "seed"):
        del checkpoint["trainer"][key]
    torch.save(checkpoint, path)
    _, history = run_watched({**data, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume")
    assert "has no stream position" in log.text
    assert history.positions == [[4, 5]]


def break_loss(trainer: LongTailedTrainer, iteration: int, value: float) -> None:
    """Make the classification loss not finite in one iteration."""
    method = trainer.model.roi_heads.box_predictor.method
    loss = method.training_loss

    def broken(*args: object) -> torch.Tensor:
        return loss(*args) * (value if trainer.iter == iteration else 1.0)

    method.training_loss = broken


def test_frozen_norms_without_weights_are_warned_of_and_blamed(
    data: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = build_trainer({**data, "MODEL.RESNETS.NORM": "FrozenBN"}, tmp_path)
    assert "MODEL.RESNETS.NORM is FrozenBN, which without pretrained weights" in caplog.text
    step = trainer._trainer
    trainer.checkpointer.save("model_0000000", iteration=0)  # which leads nowhere, too
    blamed = (
        r"FrozenBN without pretrained weights normalises nothing.*Start anew, with --overwrite\.$"
    )
    with (
        pytest.raises(FloatingPointError, match=blamed),
        step_errors_explained(trainer.cfg, trainer.model),
    ):
        raise step._stopped("Broken.")
    next(m for m in trainer.model.modules() if isinstance(m, FrozenBatchNorm2d)).bias += 1
    with (  # as weights would fill it
        pytest.raises(FloatingPointError, match=r"lower SOLVER\.BASE_LR.*--resume goes on"),
        step_errors_explained(trainer.cfg, trainer.model),
    ):
        raise step._stopped("Broken.")


@pytest.mark.parametrize(
    "value", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)]
)
def test_a_loss_that_is_not_finite_stops_the_run_and_loses_nothing(
    value: float,
    data: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {**data, "SOLVER.MAX_ITER": 3, "SOLVER.CHECKPOINT_PERIOD": 1}
    straight = run_training(settings, tmp_path / "straight")
    output = tmp_path / "broken"
    trainer = build_trainer(settings, output)
    break_loss(trainer, 2, value)
    with pytest.raises(FloatingPointError) as error:
        train(trainer)

    assert "Traceback" in (output / "log.txt").read_text()
    terminal = capsys.readouterr().out
    assert "Starting training from iteration 0" in terminal
    assert "Traceback" not in terminal  # whoever catches the error tells it
    message = str(error.value)
    assert "iteration 2" in message
    assert "loss_cls is not finite" in message
    assert "SOLVER.BASE_LR" in message
    assert f"--resume goes on after iteration 1, from {output / 'model_0000001.pth'}." in message
    assert (output / "last_checkpoint").read_text() == "model_0000001.pth"
    checkpoint = read_checkpoint(output / "model_0000001.pth")
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, checkpoint["model"][name]), name
    # The last iteration failed, so there is nothing to evaluate and nothing final.
    assert not (output / "results.json").exists()
    assert not (output / "model_final.pth").exists()

    resumed = run_training(settings, output, "--resume")
    assert_same_tensors(resumed.model.state_dict(), straight.model.state_dict())


def test_a_learning_rate_that_is_absurd_is_named(data: dict[str, object], tmp_path: Path) -> None:
    settings = {
        **data,
        **SGD,
        "SOLVER.BASE_LR": 1e30,
        "SOLVER.CLIP_GRADIENTS.ENABLED": False,
        "SOLVER.MAX_ITER": 5,
    }
    with pytest.raises(
        FloatingPointError,
        match=r"iteration [1-4]: .*learning rate was [0-9.]+e\+.* holds no checkpoint yet",
    ):
        run_training(settings, tmp_path)
