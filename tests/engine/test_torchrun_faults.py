"""Ranks under torchrun that are killed, told to stop, or started by something that says less."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from runs import assert_same_tensors, command_line, read_checkpoint

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SETTINGS = {
    "DATASETS.TEST": (),
    "SOLVER.MAX_ITER": 12,
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "SEED": 5,
}

# Kills rank 1 in the eighth iteration of the first attempt; SIGTERM to one's own launcher likewise.
FAULT = """
import os, signal, sys
from balms_seg.commands.command_line import run_command
from balms_seg.engine.step import TrainingStep
step, count = TrainingStep.run_step, os.environ.get("TORCHELASTIC_RESTART_COUNT")
def run_step(self):
    if self.iter == 7 and count == "0" and os.environ["RANK"] == "1":
        if FAULT == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getppid(), signal.SIGTERM)
    step(self)
TrainingStep.run_step = run_step
run_command("train", sys.argv[1:])
"""

pytestmark = pytest.mark.slow


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN_NET.parents[1])}
    return subprocess.run(
        [sys.executable, *words], env={**env, **environment}, capture_output=True, text=True
    )


def script(folder: Path, fault: str) -> str:
    path = folder / f"{fault}.py"
    path.write_text(FAULT.replace("FAULT", repr(fault)))
    return str(path)


def assert_same_runs(one: Path, other: Path) -> None:
    assert_same_tensors(
        *(read_checkpoint(folder / "model_final.pth")["model"] for folder in (one, other))
    )


def test_a_killed_rank_is_restarted_and_the_run_ends_alike(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SETTINGS}
    whole = run(*TORCHRUN, str(TRAIN_NET), *command_line(settings, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr[-2000:]
    words = command_line(settings, tmp_path / "killed", "--resume")
    killed = run(*TORCHRUN, "--max-restarts=1", script(tmp_path, "kill"), *words)
    assert killed.returncode == 0, killed.stderr[-2000:]
    assert "Starting training from iteration 6" in killed.stdout
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def test_torchrun_told_to_stop_leaves_a_checkpoint_to_go_on_from(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SETTINGS}
    words = command_line(settings, tmp_path, "--resume")
    stopped = run(*TORCHRUN, script(tmp_path, "terminate"), *words)
    assert stopped.returncode != 0
    name = (tmp_path / "last_checkpoint").read_text()
    iteration = read_checkpoint(tmp_path / name)["iteration"]
    assert 7 <= iteration < 11, stopped.stderr[-2000:]
    resumed = run(*TORCHRUN, str(TRAIN_NET), *words)
    assert f"Starting training from iteration {iteration + 1}" in resumed.stdout


def start_ranks(program: Path, words: Sequence[str] = ()) -> list[subprocess.Popen]:
    """Two, as a launcher that sets the least there is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TRAIN_NET.parents[1]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    return [
        subprocess.Popen(
            [sys.executable, str(program), *words],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]


def test_ranks_without_local_world_size_stop_together_with_the_code(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **SETTINGS, "SOLVER.MAX_ITER": 100000}
    ranks = start_ranks(TRAIN_NET, command_line(settings, tmp_path))
    deadline = time.monotonic() + 300
    while not (tmp_path / "last_checkpoint").is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    ranks[1].send_signal(signal.SIGUSR1)
    assert [rank.wait(120) for rank in ranks] == [75, 75]
    name = (tmp_path / "last_checkpoint").read_text()
    assert f"model_{read_checkpoint(tmp_path / name)['iteration']:07d}.pth" == name


# A sum that ends while rank 0 has python's lock, for the last time before the interpreter goes.
LATE_SUM = """
import atexit, ctypes, os, time
rank = int(os.environ["RANK"])
if rank == 0:
    atexit.register(ctypes.PyDLL(None).usleep, 6_000_000)
import torch
from balms_seg.distributed import ending_at_once
from balms_seg.engine.launch import _init_process_group, timedelta
from balms_seg.stop_signals import StoppedBySignal
_init_process_group("gloo", timedelta(minutes=1))
with ending_at_once():
    time.sleep(3 * rank)
    torch.distributed.all_reduce(torch.ones(1), async_op=True)
    if IS_STOPPED:
        raise StoppedBySignal("SIGTERM")
"""


@pytest.mark.parametrize(("is_stopped", "code"), [(True, 75), (False, 0)])
def test_a_rank_ends_with_its_code_though_a_thread_holds_a_tensor(
    is_stopped: bool, code: int, tmp_path: Path
) -> None:
    program = tmp_path / "late_sum.py"
    program.write_text(LATE_SUM.replace("IS_STOPPED", str(is_stopped)))
    assert start_ranks(program)[0].wait(300) == code
