"""Ranks that tests spawn, which meet in a gloo group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from balms_seg.distributed import ending_at_once


@contextmanager
def gloo_rank(rank: int, folder: str | Path, *, ranks: int = 2, **options: Any) -> Iterator[None]:
    """Meet the other ranks through a file in a folder, and end as a training's ranks do.

    Where nothing was raised, the process ends with the context: Python's own way down may meet a
    thread of gloo, and end in SIGABRT.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks, **options
    )
    with ending_at_once():
        yield
