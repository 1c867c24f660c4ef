import io
import sys

import pytest

from balms_seg.progress import with_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shows"), [(Terminal(), True), (io.StringIO(), False)])
def test_bar_has_rate_and_time_left_and_is_quiet_without_a_terminal(
    stream: io.StringIO, shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(with_progress(iter([1, 2, 3]), label="overlaps", unit="part", total=3)) == [1, 2, 3]
    assert ("overlaps" in stream.getvalue() and "part/s" in stream.getvalue()) == shows
    if not shows:
        assert stream.getvalue() == ""


def test_items_pass_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    items = [1, 2]
    assert with_progress(items, label="overlaps", unit="part") is items
