"""Start a job: in this process, in spawned ones, or as a member of a torchrun job."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from detectron2.engine import launch as spawn
from detectron2.utils import comm

if TYPE_CHECKING:
    from argparse import Namespace


def launch(main: Callable[[Namespace], Any], args: Namespace) -> Any:
    """Run `main(args)` on every rank.

    torchrun (or anything else that sets RANK, WORLD_SIZE, LOCAL_RANK and MASTER_ADDR) has already
    started the processes: they are joined. Otherwise detectron2's own flags decide.

    Args:
        main: the job.
        args: of `detectron2.engine.default_argument_parser`.

    Returns:
        What `main` returned, where this process ran it.

    Raises:
        RuntimeError: a GPU is asked for on a machine without one.
    """
    if args.num_gpus > 0 and not torch.cuda.is_available():
        raise RuntimeError(
            f"--num-gpus is {args.num_gpus} but CUDA is not available; use --num-gpus 0 for the "
            "CPU, or check the driver and the torch build."
        )
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        return _join(main, args)
    if args.num_gpus == 0:
        if args.num_machines > 1:
            raise RuntimeError("--num-machines above 1 without GPUs: start the job with torchrun.")
        return main(args)
    return spawn(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _join(main: Callable[[Namespace], Any], args: Namespace) -> Any:
    on_gpu = args.num_gpus > 0
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _create_local_group(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    try:
        return main(args)
    finally:
        dist.destroy_process_group()


def _create_local_group(ranks_per_machine: int) -> None:
    """Tell detectron2 which ranks share this machine."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(ranks_per_machine)
        return
    # detectron2 0.6 has no public way.
    for first in range(0, dist.get_world_size(), ranks_per_machine):
        ranks = list(range(first, first + ranks_per_machine))
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
