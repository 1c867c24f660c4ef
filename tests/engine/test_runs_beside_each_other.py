"""What evaluations that start in one OUTPUT_DIR do to each other, and to a training there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import run_evaluation, run_training

from balms_seg.evaluation import LongTailedLVISEvaluator, read_results

Settings = dict[str, object]


@pytest.fixture
def settings(data: Settings, tmp_path: Path) -> Settings:
    """Of a run that has ended, without having evaluated."""
    run_training({**data, "DATASETS.TEST": ()}, tmp_path)
    return data


def during_the_first_image(patch: pytest.MonkeyPatch, function: Callable[[], object]) -> None:
    """Call a function while the next evaluation is at its first image."""
    process, calls = LongTailedLVISEvaluator.process, []

    def processed(*args: object) -> None:
        process(*args)
        if not calls:
            calls.append(1)
            function()

    patch.setattr(LongTailedLVISEvaluator, "process", processed)


def test_an_evaluation_does_not_end_a_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both evaluate the same weights; the training comes second."""
    found = []

    def train_on() -> None:
        run_training(settings, tmp_path, "--resume")
        found.append(read_results(tmp_path / "results.json"))

    during_the_first_image(monkeypatch, train_on)
    metrics = run_evaluation(settings, tmp_path, "--resume")
    last = read_results(tmp_path / "results.json")
    assert str(last["metrics"]) == str(found[0]["metrics"])
    assert metrics["bbox"]
    assert last["evaluations"] != found[0]["evaluations"]
    assert not list((tmp_path / "inference").glob("parts"))


def test_of_two_evaluations_of_the_same_weights_the_second_stops(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate_too() -> None:
        with pytest.raises(RuntimeError, match="Another process evaluates the same weights"):
            run_evaluation(settings, tmp_path, "--resume")

    during_the_first_image(monkeypatch, evaluate_too)
    assert run_evaluation(settings, tmp_path, "--resume")
    assert (tmp_path / "inference" / "evaluation.json").is_file()
