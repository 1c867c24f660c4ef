"""Sums over the processes of a job, and what one of them does for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor, nn

Result = TypeVar("Result")


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, out of place and equal on all of them."""
    if comm.get_world_size() == 1:
        return tensor
    # NCCL takes tensors of its own device only; the class parameters live on the CPU.
    total = tensor.detach().clone()
    total = total.cuda() if dist.get_backend() == "nccl" else total
    dist.all_reduce(total)
    return total.to(tensor.device)


def on_main_process(function: Callable[[], Result]) -> Result:
    """What a function returns in the main process, on all ranks; so is the error it raises."""
    outcome: tuple[Result | None, Exception | None] = (None, None)
    if comm.is_main_process():
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
    result, error = comm.all_gather(outcome)[0]
    if error is not None:
        raise error
    return result


def wait_for_all() -> None:
    """Wait until every rank gets here, however long the main one evaluates.

    Other collective calls end in an error after the job's timeout, which is meant for ranks that
    hang; a rank that dies ends this one as well.
    """
    if comm.get_world_size() > 1:
        dist.barrier(_patient_group(dist.group.WORLD))


@lru_cache
def _patient_group(world: Any) -> Any:
    return dist.new_group(backend="gloo", timeout=timedelta(days=7))


@contextmanager
def same_statistics(model: nn.Module) -> Iterator[None]:
    """Give all ranks the main one's buffers for a while.

    Under data parallelism, batch normalisation gathers statistics of each rank's own images.
    """
    if comm.get_world_size() == 1:
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
