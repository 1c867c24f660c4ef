"""Sums over the processes of a job."""

from __future__ import annotations

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, out of place and equal on all of them."""
    if comm.get_world_size() == 1:
        return tensor
    # NCCL takes tensors of its own device only; the class parameters live on the CPU.
    total = tensor.detach().clone()
    total = total.cuda() if dist.get_backend() == "nccl" else total
    dist.all_reduce(total)
    return total.to(tensor.device)
