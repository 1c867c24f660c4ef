"""Sums over the processes of a job, and what one of them does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor

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
