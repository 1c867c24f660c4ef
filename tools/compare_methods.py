#!/usr/bin/env python
"""`balms-seg compare-methods` from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.commands.command_line import run_command

if __name__ == "__main__":
    run_command("compare-methods")
