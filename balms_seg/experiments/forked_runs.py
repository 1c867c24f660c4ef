"""Runs in forks of this process, which has imported what they need: for runs of seconds."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from balms_seg.stop_signals import stop_signals


@dataclass
class Fork:
    """A process, for `balms_seg.experiments.processes.wait_for`."""

    pid: int
    returncode: int | None = None


def prepare_forks() -> None:
    """Do once what every run would do again."""
    import omegaconf  # noqa: F401
    import torch
    from detectron2.engine import defaults

    import balms_seg.engine.trainer  # noqa: F401

    if importlib.util.find_spec("tensorboard"):
        import torch.utils.tensorboard  # noqa: F401
    torch.set_num_threads(1)
    environment = defaults.collect_env_info()  # asks compilers, which takes longer than a run
    defaults.collect_env_info = lambda: environment


def start_fork(
    command: Sequence[str], log: IO[str], environment: Mapping[str, str], folder: Path
) -> Fork:
    """As `start_process`, for `python -m MODULE ...`, without starting Python anew."""
    pid = os.fork()
    if pid == 0:
        os.environ.update(environment)
        _run_module(command[2:], log.fileno(), folder)
    return Fork(pid)


def _run_module(arguments: Sequence[str], log: int, folder: Path) -> None:
    """Run a module and end this process, past what its parent's threads would do at the end."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1, closefd=False)
    status = 1
    try:
        os.chdir(folder)
        sys.argv = list(arguments)
        with stop_signals.at_once():  # the parent, whose state this is, lets them wait
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)
