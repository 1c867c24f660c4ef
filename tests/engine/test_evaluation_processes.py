"""Evaluations in processes of another kind: several ranks, and python -O."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from gloo_ranks import gloo_rank
from runs import command_line, run_evaluation, run_training
from torch import nn

from balms_seg.distributed import same_statistics, wait_for_all
from balms_seg.evaluation import read_results

ROOT = Path(__file__).resolve().parents[2]


def normalise_on_rank(rank: int, folder: str) -> None:
    with gloo_rank(rank, folder):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        with torch.no_grad():
            model[0].running_mean.fill_(rank + 1)
            model[0].num_batches_tracked.fill_(10 * rank)
        before = {name: value.clone() for name, value in model.named_buffers()}
        with same_statistics(model):
            within = {name: value.clone() for name, value in model.named_buffers()}
        after = {name: value.clone() for name, value in model.named_buffers()}
        torch.save({"before": before, "within": within, "after": after}, f"{folder}/{rank}.pth")


@pytest.mark.slow
def test_in_an_evaluation_all_ranks_normalise_with_the_main_ones_statistics(
    tmp_path: Path,
) -> None:
    torch.multiprocessing.spawn(normalise_on_rank, (str(tmp_path),), nprocs=2)
    main, other = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))
    for name, value in main["before"].items():
        assert not torch.equal(other["before"][name], value) or name.endswith("var")
        for within in (main["within"], other["within"]):
            assert torch.equal(within[name], value)
        for rank in (main, other):  # training goes on with a rank's own
            assert torch.equal(rank["after"][name], rank["before"][name])


def wait_on_rank(rank: int, folder: str) -> None:
    with gloo_rank(rank, folder, timeout=timedelta(seconds=3)):
        wait_for_all()  # before an evaluation, all are there
        if rank == 0:
            time.sleep(8)
        wait_for_all()
        Path(folder, f"waited_{rank}").touch()


@pytest.mark.slow
def test_ranks_wait_for_the_main_one_beyond_the_timeout(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(wait_on_rank, (str(tmp_path),), nprocs=2)
    assert len(list(tmp_path.glob("waited_*"))) == 2


@pytest.mark.slow
def test_python_without_assertions_keeps_its_evaluations(
    data: dict[str, object], tmp_path: Path
) -> None:
    """detectron2 says by an AssertionError that no training runs; under -O it cannot."""
    run_training({**data, "DATASETS.TEST": ()}, tmp_path / "run")
    settings = {**data, "MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    words = command_line(settings, tmp_path / "optimised", "--eval-only")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-O", "-m", "balms_seg", "train", *words], check=True, env=environment
    )
    expected = run_evaluation(settings, tmp_path / "plain")
    (found,) = read_results(tmp_path / "optimised" / "results.json")["metrics"].values()
    assert str(found) == str(dict(expected))
