"""What commands replace is said before they start, and readers of their output may leave early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.commands.outputs import output_path, readers_may_leave


def test_what_is_replaced_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, folder = tmp_path / "old.csv", tmp_path / "new"
    assert output_path(str(file)) == file
    folder.mkdir()
    assert output_path(str(folder)) == folder
    assert not caplog.messages
    file.write_text("")
    output_path(str(file))
    output_path(str(tmp_path))
    assert caplog.messages == [
        f"{file} is there already, and is replaced.",
        f"{tmp_path} is not empty; files of the same names are replaced there.",
    ]


def test_commands_say_what_they_replace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.png").write_bytes(b"")
    table = tmp_path / "classes.csv"
    words = [str(tmp_path / "photos"), "--csv", str(table)]
    run_command("statistics", words)
    assert "replaced" not in caplog.text
    run_command("statistics", words)
    assert f"{table} is there already, and is replaced." in caplog.messages


@pytest.mark.parametrize("size", [1, 1 << 20])  # one fails when it is flushed, one when printed
def test_nobody_reading_ends_a_command_without_a_word(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = os.fdopen(writing, "w")
    monkeypatch.setattr("sys.stdout", output)
    with pytest.raises(SystemExit) as end, readers_may_leave():
        print("x" * size)
    assert end.value.code == 141
    output.close()  # as Python does at its end


def test_a_pipe_that_breaks_elsewhere_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr("sys.stdout", output)
        with pytest.raises(BrokenPipeError, match="to a worker"), readers_may_leave():
            raise BrokenPipeError("to a worker")
