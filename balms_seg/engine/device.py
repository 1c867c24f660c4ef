"""Where a command of one process runs its model: on a GPU, or on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def choose_device(cfg: CfgNode, *, num_gpus: int, falls_back: bool = False) -> None:
    """Set MODEL.DEVICE to the CPU where no GPU is asked for; stop where the GPU is not there.

    Args:
        cfg: configuration, not frozen.
        num_gpus: of the command line.
        falls_back: the CPU will do where there is no GPU.

    Raises:
        RuntimeError: MODEL.DEVICE is a GPU on a machine without one.
    """
    has_none = torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available()
    if num_gpus == 0 or (has_none and falls_back):
        cfg.MODEL.DEVICE = "cpu"
    elif has_none:
        raise RuntimeError(describe_missing_gpu(num_gpus))


def describe_missing_gpu(num_gpus: int, *, also: str = "") -> str:
    """What to do where a GPU is asked for on a machine without one.

    Args:
        num_gpus: of the command line.
        also: another way out, between commas.
    """
    return (
        f"--num-gpus is {num_gpus} but CUDA is not available; use --num-gpus 0 for the CPU, {also}"
        "or check the driver and the torch build."
    )
