"""What may not differ between a run and the one that goes on from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import build_trainer

from balms_seg.engine import run_results
from balms_seg.engine.resume_checks import _changed_training
from balms_seg.engine.run_results import current_commit


@pytest.mark.parametrize(
    ("saved", "now", "message"),
    [
        (torch.optim.SGD, torch.optim.AdamW, "The optimiser was SGD."),
        (torch.optim.Adam, torch.optim.SGD, "The optimiser was of the Adam family."),
    ],
)
def test_an_optimiser_of_another_family_is_named(saved: type, now: type, message: str) -> None:
    weights = [torch.zeros(2, requires_grad=True)]
    entries = {"trainer": {"_trainer": {"optimizer": saved(weights, lr=0.1).state_dict()}}}
    assert _changed_training(now(weights, lr=0.1), entries) == [message]
    assert _changed_training(saved(weights, lr=0.1), entries) == []


def test_a_new_run_draws_a_seed_of_its_own(data: dict[str, object], tmp_path: Path) -> None:
    """Also where one that failed before its first iteration has left a config.yaml."""
    (tmp_path / "config.yaml").write_text("SEED: 5\n")
    assert build_trainer({**data, "SEED": -1}, tmp_path).cfg.SEED != 5


def test_the_commit_is_what_git_says_and_none_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(run_results, "__file__", str(tmp_path / "balms_seg" / "engine" / "a.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    git = tmp_path / "git"
    for status, expected in ((0, "abc-dirty"), (128, None)):
        git.write_text(f"#!/bin/sh\necho abc-dirty\nexit {status}\n")
        git.chmod(0o755)
        assert current_commit() == expected
