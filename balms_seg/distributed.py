"""Sums over the processes of a job, what one of them does for all, and how each of them ends."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

from balms_seg.stop_signals import RESUME_EXIT_CODE, StoppedBySignal

Result = TypeVar("Result")


def world_size() -> int:
    """Processes of the job; 1 where it is not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, out of place and equal on all of them."""
    if world_size() == 1:
        return tensor
    # NCCL takes tensors of its own device only; the class parameters live on the CPU.
    total = tensor.detach().clone()
    total = total.cuda() if dist.get_backend() == "nccl" else total
    dist.all_reduce(total)
    return total.to(tensor.device)


def on_main_process(function: Callable[[], Result]) -> Result:
    """What a function returns in the main process, on all ranks; so is the error it raises."""
    is_main = world_size() == 1 or dist.get_rank() == 0
    outcome: list[Any] = [(None, None)]
    if is_main:
        try:
            outcome[0] = function(), None
        except Exception as error:
            outcome[0] = None, error
    if world_size() > 1:
        dist.broadcast_object_list(outcome, src=0)
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result


def wait_for_all() -> None:
    """Wait until every rank gets here, however long the main one evaluates.

    Other collective calls end in an error after the job's timeout, which is meant for ranks that
    hang; a rank that dies ends this one as well.
    """
    if world_size() > 1:
        dist.barrier(_patient_group(dist.group.WORLD))


@lru_cache
def _patient_group(world: Any) -> Any:
    return dist.new_group(backend="gloo", timeout=timedelta(days=7))


@contextmanager
def same_statistics(model: nn.Module) -> Iterator[None]:
    """Give all ranks the main one's buffers for a while.

    Under data parallelism, batch normalisation gathers statistics of each rank's own images.
    """
    if world_size() == 1:
        yield
        return
    buffers = [buffer for buffer in model.buffers() if buffer.numel() > 0]
    own = [buffer.clone() for buffer in buffers]
    for buffer in buffers:
        dist.broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, value in zip(buffers, own, strict=True):
            buffer.copy_(value)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End a rank, where there are several, as soon as its job is done or told to stop.

    Python would take its interpreter down first. A thread of gloo that still holds a tensor needs
    the interpreter to release it, and ends the process by SIGABRT if it asks too late: "terminate
    called without an active exception", in ten lines without this package as well. A job that is
    done, or is to go on later, would then count as one that failed.
    """
    code = 0
    try:
        yield
    except StoppedBySignal:
        if world_size() == 1:
            raise
        code = RESUME_EXIT_CODE
    if world_size() > 1:
        dist.destroy_process_group()
        atexit._run_exitfuncs()  # ends data workers, closes logs
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
