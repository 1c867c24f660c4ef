"""What this machine has room for, and what it is."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


def runs_side_by_side(gpus: Sequence[str], gpu_memory_mb: int | None = None) -> int:
    """One a core, or one a GPU, or as many as the memory of the fullest GPU and the cores hold.

    Args:
        gpus: as `visible_gpus` gives them; empty: on the CPU.
        gpu_memory_mb: of a run; None: it has a GPU for itself.

    Raises:
        RuntimeError: there is no telling how much memory is free.
    """
    if not gpus:
        return num_cores()
    if gpu_memory_mb is None:
        return len(gpus)
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    query.append(f"--id={','.join(gpus)}")
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        free_mb = min(map(int, found.stdout.split()))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise RuntimeError("nvidia-smi tells no GPU's free memory; give --jobs N.") from error
    return max(len(gpus), min(num_cores(), len(gpus) * (free_mb // gpu_memory_mb)))


def places(num_jobs: int, gpus: list[str] | None = None) -> list[dict[str, str]]:
    """Environments of runs side by side: one thread each, and in turn one of the GPUs."""
    one_thread = {"OMP_NUM_THREADS": "1"}
    if not gpus:
        return [one_thread] * num_jobs
    return [
        {**one_thread, "CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} for job in range(num_jobs)
    ]


def describe_hardware(num_gpus: int = 0) -> str:
    """What this machine computes with, in words: so many GPUs, or its cores."""
    if num_gpus:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        number = "one" if num_gpus == 1 else str(num_gpus)
        try:
            found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            return f"{number} {found.stdout.splitlines()[0].strip()}"
        except (OSError, subprocess.SubprocessError, IndexError):
            return f"{number} GPU of unknown name"
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(
            line.split(":")[1].strip() for line in text.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {num_cores()} cores, one thread a run"
