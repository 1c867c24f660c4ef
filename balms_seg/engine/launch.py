"""Start a job: in this process, in spawned ones, or as a member of a torchrun job."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from detectron2.engine import launch as spawn
from detectron2.utils import comm

from balms_seg.engine.device import describe_missing_gpu
from balms_seg.stop_signals import heeded_signals

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
        planned = "add --dry-run to plan the run without one, "
        raise RuntimeError(describe_missing_gpu(args.num_gpus, also=planned))
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        return _join(main, args)
    if args.num_gpus == 0:
        if args.num_machines > 1:
            raise RuntimeError("--num-machines above 1 without GPUs: start the job with torchrun.")
        return main(args)
    with _signals_forwarded_to_children():
        return spawn(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
            timeout=_timeout(args),
        )


@contextmanager
def _signals_forwarded_to_children() -> Iterator[None]:
    """A signal to the process that spawned the ranks is one to each of them; it waits for them."""

    def forward(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:  # it has started
                os.kill(child.pid, number)

    before = {number: signal.signal(number, forward) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _timeout(args: Namespace) -> timedelta:
    """As long as detectron2's own launcher has it, unless a flag says otherwise."""
    return timedelta(minutes=getattr(args, "timeout_minutes", 30))


def _join(main: Callable[[Namespace], Any], args: Namespace) -> Any:
    on_gpu = args.num_gpus > 0
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _init_process_group("nccl" if on_gpu else "gloo", _timeout(args))
    _create_local_group(_ranks_per_machine())
    try:
        return main(args)
    finally:
        dist.destroy_process_group()


def _init_process_group(backend: str, timeout: timedelta) -> None:
    """Meet the other ranks of this attempt.

    After `torchrun --max-restarts` started the ranks anew, its store still holds the addresses of
    those that died, and gloo waits for them: every attempt gets keys of its own.
    """
    store, rank, world_size = next(iter(dist.rendezvous("env://", timeout=timeout)))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt_{attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def _ranks_per_machine() -> int:
    """From the launcher, or else from the local ranks of all: a machine's start at 0."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    local_ranks: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(local_ranks, int(os.environ["LOCAL_RANK"]))
    per_machine = local_ranks.index(0, 1) if 0 in local_ranks[1:] else len(local_ranks)
    expected = [rank % per_machine for rank in range(len(local_ranks))]
    if local_ranks != expected or len(local_ranks) % per_machine:
        raise RuntimeError(
            f"Expected LOCAL_RANK to count the processes of each machine, as many on every one, "
            f"but in order of RANK they are {local_ranks}; set LOCAL_WORLD_SIZE as well, or start "
            "the job with torchrun."
        )
    return per_machine


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
