"""What annotations take of the machine's memory is said before a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from balms_seg.annotations import annotations_of, num_bytes
from balms_seg.data.preflight import memory_check
from balms_seg.data.preflight.memory_check import note_memory


@pytest.mark.parametrize(
    ("share", "worth_telling", "level"),
    [(0.4, 0, logging.INFO), (0.6, 1 << 30, logging.WARNING), (0.4, 1 << 30, None)],
)
def test_half_of_the_memory_is_much(
    share: float,
    worth_telling: int,
    level: int | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_check, "_WORTH_TELLING", worth_telling)
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}] * 50
    file = annotations_of(
        {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": boxes}
    )
    assert num_bytes(file) > 50 * 4 * 8
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemFree: 1 kB\nMemTotal: {num_bytes(file) / share / 1024:.0f} kB\n")
    with caplog.at_level(logging.INFO, "balms_seg"):
        note_memory([file, file], meminfo=meminfo)
    assert [record.levelno for record in caplog.records] == [level] * (level is not None)
    for record in caplog.records:
        assert "Annotations take 0.00 of the 0.0 GiB of this machine" in record.getMessage()


def test_a_system_that_does_not_say_gets_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note_memory([], meminfo=tmp_path / "none")
    assert not caplog.records
