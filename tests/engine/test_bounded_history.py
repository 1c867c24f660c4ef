"""Scalars are remembered in bounded memory, and the writers see what they saw before."""

from __future__ import annotations

from types import SimpleNamespace

from detectron2.utils.events import EventStorage

from balms_seg.engine.bounded_history import WINDOW, BoundedHistory


def test_the_newest_values_are_kept_and_averages_are_of_all() -> None:
    bounded, plain = EventStorage(), EventStorage()
    hook = BoundedHistory()
    hook.trainer = SimpleNamespace(storage=bounded)
    hook.before_train()
    for value in range(3 * WINDOW):
        for storage in (bounded, plain):
            storage.put_scalar("loss", value % 17)
            storage.step()
    one, other = bounded.history("loss"), plain.history("loss")
    assert len(one.values()) == WINDOW
    assert one.median(WINDOW) == other.median(WINDOW)
    assert one.avg(20) == other.avg(20)
    assert one.global_avg() == other.global_avg()
    assert bounded.latest() == plain.latest()
