"""A run that is told to stop goes on later as if it had not been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from gloo_ranks import gloo_rank
from runs import (
    arguments,
    assert_same_tensors,
    build_trainer,
    read_checkpoint,
    run_evaluation,
    run_training,
)

from balms_seg.commands.train import run_on_this_rank
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.launch import _create_local_group
from balms_seg.evaluation import LongTailedLVISEvaluator, read_results
from balms_seg.stop_signals import RESUME_EXIT_CODE, stop_signals

SETTINGS = {"SOLVER.MAX_ITER": 6, "SOLVER.CHECKPOINT_PERIOD": 100, "SOLVER.EMA_DECAY": 0.5}


class Signal(HookBase):
    """Sends this process a signal within an iteration."""

    def __init__(self, number: int, iteration: int) -> None:
        self.number, self.iteration = number, iteration

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def stopped(trainer: LongTailedTrainer, *, resume: bool = False) -> None:
    with pytest.raises(SystemExit) as error:
        train(trainer, resume=resume)
    assert error.value.code == RESUME_EXIT_CODE
    assert stop_signals.heard is None


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGINT,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_after_the_iteration_and_it_resumes_alike(
    number: int, data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    settings = {**data, **SETTINGS, "DATASETS.TEST": ()}
    run_training(settings, tmp_path / "whole")
    trainer = build_trainer(settings, tmp_path / "stopped")
    trainer.register_hooks([Signal(number, 2)])
    stopped(trainer)
    assert log.messages[-1].startswith("Stopped by a signal after iteration 2")
    assert (tmp_path / "stopped" / "last_checkpoint").read_text() == "model_0000002.pth"
    resumed = run_training(settings, tmp_path / "stopped", "--resume")
    assert resumed.start_iter == 3
    one, other = (
        read_checkpoint(tmp_path / part / "model_final.pth") for part in ("whole", "stopped")
    )
    for key in ("model", "raw_model"):
        assert_same_tensors(one[key], other[key])


@pytest.mark.parametrize(("flags", "what"), [([], "trained"), (["--eval-only"], "evaluated")])
def test_a_signal_before_the_start_says_that_nothing_was_done(
    flags: list[str],
    what: str,
    data: dict[str, object],
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "weights.pth"
    weights.touch()
    args = arguments({**data, "MODEL.WEIGHTS": str(weights)}, tmp_path / "run", *flags)
    args.imports = []
    stop = staticmethod(lambda cfg: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(LongTailedTrainer, "build_model", stop)
    with pytest.raises(SystemExit) as error:
        run_on_this_rank(args)
    assert error.value.code == RESUME_EXIT_CODE
    told = [message for message in log.messages if message.startswith("Stopped by SIGTERM")]
    assert told == [
        f"Stopped by SIGTERM before the start: this run {what} nothing yet, and the same command "
        "starts it again."
    ]


def test_a_signal_in_the_last_iteration_leaves_a_run_complete_without_an_evaluation(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SETTINGS, "SOLVER.MAX_ITER": 2}
    complete = build_trainer({**settings, "DATASETS.TEST": ()}, tmp_path / "complete")
    complete.register_hooks([Signal(signal.SIGTERM, 1)])
    train(complete)
    assert (tmp_path / "complete" / "last_checkpoint").read_text() == "model_final.pth"
    assert stop_signals.heard is None
    unevaluated = build_trainer(settings, tmp_path / "unevaluated")
    unevaluated.register_hooks([Signal(signal.SIGTERM, 1)])
    stopped(unevaluated)


class Predicted:
    """Counts the images that evaluations predict, and sends a signal after so many."""

    def __init__(self, patch: pytest.MonkeyPatch, signal_after: int) -> None:
        self.number = 0
        process = LongTailedLVISEvaluator.process

        def counted(evaluator: LongTailedLVISEvaluator, inputs: list, outputs: list) -> None:
            process(evaluator, inputs, outputs)
            self.number += len(inputs)
            if self.number == signal_after:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(LongTailedLVISEvaluator, "process", counted)


@pytest.mark.parametrize("period", [0, 2])
def test_a_signal_in_an_evaluation_keeps_its_predictions(
    period: int,
    data: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """At the run's end, and in its midst, where the resumed run makes up for it."""
    settings = {**data, **SETTINGS, "SOLVER.MAX_ITER": 3, "TEST.EVAL_PERIOD": period}
    run_training(settings, tmp_path / "whole")
    predicted = Predicted(monkeypatch, signal_after=2)
    stopped(build_trainer(settings, tmp_path / "stopped"))
    assert predicted.number == 2
    parts = tmp_path / "stopped" / "inference" / "parts"
    assert f"kept in {parts}." in log.text
    assert log.text.count("goes on") == 1
    assert log.messages[-1].startswith(f"Stopped by a signal after iteration {(period or 3) - 1},")
    assert not (tmp_path / "stopped" / "results.json").exists()
    resumed = run_training(settings, tmp_path / "stopped", "--resume")
    assert resumed.start_iter == (period or 3)
    assert predicted.number == 3 * (2 if period else 1)  # of 3 images none twice
    results = [
        read_results(tmp_path / part / "results.json")["metrics"] for part in ("whole", "stopped")
    ]
    assert str(results[0]) == str(results[1])
    final = [read_checkpoint(tmp_path / p / "model_final.pth") for p in ("whole", "stopped")]
    assert_same_tensors(final[0]["raw_model"], final[1]["raw_model"])


def test_an_evaluation_that_was_finished_is_not_made_again(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**data, **SETTINGS, "TEST.EVAL_PERIOD": 3, "SOLVER.MAX_ITER": 4}
    predicted = Predicted(monkeypatch, signal_after=-1)
    run_training({**settings, "SOLVER.MAX_ITER": 3, "SOLVER.CHECKPOINT_PERIOD": 3}, tmp_path)
    assert predicted.number == 3
    run_training(settings, tmp_path, "--resume")
    assert predicted.number == 6  # the evaluation at the end alone


def test_evaluation_alone_goes_on_where_a_signal_ended_it(
    data: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path / "run")
    settings = {**data, "MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    predicted = Predicted(monkeypatch, signal_after=1)
    with stop_signals.installed(), pytest.raises(SystemExit) as error:
        run_evaluation(settings, tmp_path / "out")
    assert error.value.code == RESUME_EXIT_CODE
    assert "the same command goes on with the other images" in log.text
    run_evaluation(settings, tmp_path / "out")
    assert predicted.number == 3
    assert (tmp_path / "out" / "results.json").is_file()


def test_evaluation_stopped_before_its_first_image_names_no_folder(
    data: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path / "run")
    settings = {**data, "MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}

    def told_to_stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(LongTailedLVISEvaluator, "process", told_to_stop)
    with stop_signals.installed(), pytest.raises(SystemExit):
        run_evaluation(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "inference").exists()
    assert "No prediction is kept: the same command starts it anew." in log.text


def stop_one_rank(rank: int, settings: dict, folder: str) -> None:
    with gloo_rank(rank, folder):
        _create_local_group(2)
        trainer = build_trainer(settings, Path(folder) / "out")
        if rank == 1:
            trainer.register_hooks([Signal(signal.SIGTERM, 2)])
        try:
            train(trainer)
        except SystemExit as error:
            Path(folder, f"rank{rank}").write_text(f"{error.code} {trainer.iter}")


@pytest.mark.slow
def test_the_ranks_agree_on_the_iteration(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, **SETTINGS, "DATASETS.TEST": ()}
    torch.multiprocessing.spawn(stop_one_rank, (settings, str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        assert (tmp_path / f"rank{rank}").read_text() == f"{RESUME_EXIT_CODE} 2"
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_0000002.pth"
