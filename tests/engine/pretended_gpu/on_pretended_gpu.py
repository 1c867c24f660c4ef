"""Runs a Python script on the pretended device: on_pretended_gpu.py GUARD SCRIPT [WORD ...]."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from pretended_cuda import pretended_cuda

if __name__ == "__main__":
    guard, *sys.argv = sys.argv[1:]
    with pretended_cuda(Path(guard)):
        runpy.run_path(sys.argv[0], run_name="__main__")
