"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from balms_seg.durable_files import clear_leftovers, write_whole


def test_a_file_is_written_with_the_folders_entry(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", lambda file: file.write(b"one"))
    write_whole(tmp_path / "x", lambda file: file.write(b"two"))
    assert (tmp_path / "x").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x", fail)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_named_with_the_path_and_the_free_space(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            raise RuntimeError("unexpected pos")  # as torch.save wraps it

    with pytest.raises(OSError, match=r"Disk full: .*model\.pth .* MiB are free in "):
        write_whole(tmp_path / "model.pth", fail)
    assert list(tmp_path.iterdir()) == []


def run_child(code: str, *arguments: object) -> int:
    """Run code in a fresh process, as torch cannot compute in a fork; its exit status."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, check=False, timeout=240).returncode


SAVE_BEYOND_A_LIMIT = """
import resource, signal, sys
from pathlib import Path
import torch
from balms_seg.durable_files import write_whole

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_whole(folder / "model.pth", lambda file: torch.save(torch.zeros(10**6), file))
except OSError as error:
    (folder / "error").write_text(str(error))
"""

DIE_WHILE_WRITING = """
import os, signal, sys
from balms_seg.durable_files import write_whole

def die(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_whole(sys.argv[1], die)
"""


def test_torch_save_beyond_the_limit_is_a_full_disk(tmp_path: Path) -> None:
    """In a process of its own, with a limit on the size of files in place of a small disk."""
    assert run_child(SAVE_BEYOND_A_LIMIT, tmp_path) == 0
    assert (tmp_path / "error").read_text().startswith("Disk full: ")
    assert [path.name for path in tmp_path.iterdir()] == ["error"]


def test_a_kill_while_writing_leaves_the_old_file_and_a_leftover(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "x.pth")

    assert run_child(DIE_WHILE_WRITING, tmp_path / "x.pth") == -signal.SIGKILL
    assert torch.load(tmp_path / "x.pth") == {"a": 1}
    assert clear_leftovers(tmp_path) == [tmp_path / "x.pth.partial"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]
