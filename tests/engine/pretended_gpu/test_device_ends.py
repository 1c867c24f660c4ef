"""A pretended device is gone after its context: later tests find the machine as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRY = """
import sys
from pathlib import Path
import torch
from pretended_cuda import pretended_cuda
before, has_gpu = torch.__config__.show(), torch.cuda.is_available()
with pretended_cuda(Path(sys.argv[1])):
    on_device = torch.ones(2, device="cuda", requires_grad=True)
    on_device.sum().backward()
    assert on_device.grad.device.type == "cuda"
assert torch.__config__.show() == before  # asks the CUDA library where torch knows a device
assert torch.cuda.is_available() == has_gpu
weight = torch.ones(2, requires_grad=True)
weight.sum().backward()
assert weight.grad.tolist() == [1, 1]
"""


def test_nothing_of_the_device_stays_behind(guard: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TRY, str(guard)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
