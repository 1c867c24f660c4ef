"""Where the parts of `gpu_check.py` run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from balms_seg.experiments.machine import describe_hardware

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """Where the parts run.

    Attributes:
        kind: "gpu", "cpu", or "pretended", a GPU that computes on the CPU.
        python: what runs a Python script.
        num_devices: GPUs.
    """

    kind: str
    python: tuple[str, ...] = (sys.executable,)
    num_devices: int = 0

    @classmethod
    def found(cls, *, cpu: bool) -> Place:
        """This machine.

        Raises:
            SystemExit: it has no GPU, and --cpu was not given.
        """
        if cpu:
            return cls("cpu")
        if not torch.cuda.is_available():
            raise SystemExit(
                "gpu_check: expected a GPU, but torch finds none; give --cpu to see the parts run "
                "in small, or check the driver and the torch build."
            )
        return cls("gpu", num_devices=torch.cuda.device_count())

    @property
    def device(self) -> str:
        """As torch calls it."""
        return "cpu" if self.kind == "cpu" else "cuda"

    @property
    def is_measured(self) -> bool:
        """Whether times and memory say something; elsewhere all is small."""
        return self.kind == "gpu"

    def limited(self, seconds: float) -> float:
        """The time of a part; where nothing is measured, others may use the processor."""
        return seconds if self.is_measured else 600

    def describe(self) -> dict[str, Any]:
        """What is needed to repeat a measurement."""
        commit = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        found = subprocess.run(commit, capture_output=True, text=True, check=False)
        return {
            "commit": found.stdout.strip() or "unknown",
            "torch": torch.__version__,
            "hardware": describe_hardware(num_gpus=int(self.kind == "gpu")),
            "device": self.kind,
        }
