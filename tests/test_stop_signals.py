"""What a process does on signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from balms_seg.stop_signals import (
    RESUME_EXIT_CODE,
    SIGNALS,
    StoppedBySignal,
    StopSignals,
    held_back,
    leave_signals_to_parent,
)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python runs handlers between instructions


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_process_with_the_code_that_says_resume(number: int) -> None:
    with StopSignals().installed(), pytest.raises(StoppedBySignal) as stopped:
        send(number)
    assert stopped.value.code == RESUME_EXIT_CODE == 75
    assert stopped.value.name == signal.Signals(number).name


def test_a_deferred_signal_waits_until_it_is_asked_for() -> None:
    signals = StopSignals()
    with signals.installed(), signals.deferred():
        signals.stop_if_heard()
        send(signal.SIGTERM)
        assert signals.heard == "SIGTERM"
        with pytest.raises(StoppedBySignal):
            signals.stop_if_heard()
        with pytest.raises(StoppedBySignal), signals.at_once():
            pytest.fail("a signal that was noted before stops at once")


def test_within_at_once_a_signal_does_not_wait() -> None:
    signals = StopSignals()
    with signals.installed(), signals.deferred(), pytest.raises(StoppedBySignal):  # noqa: SIM117
        with signals.at_once():
            send(signal.SIGUSR1)


def test_what_was_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals = StopSignals()
        with signals.installed():
            send(signal.SIGHUP)
        assert signals.heard is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_signals_do_what_they_did() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals().installed():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def status_of_child(function: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_second_signal_stops_on_the_spot() -> None:
    def twice() -> None:
        signals = StopSignals()
        with signals.installed(), signals.deferred():
            send(signal.SIGTERM)
            signals._heard_at -= 2  # seconds ago
            send(signal.SIGTERM)

    assert status_of_child(twice) == 128 + signal.SIGTERM


def test_the_same_wish_heard_twice_is_one() -> None:
    """From the scheduler, and again from the launcher."""
    signals = StopSignals()
    with signals.installed(), signals.deferred():
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert signals.heard == "SIGTERM"


class Numbers(Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, os.getpid()])


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_data_workers_leave_signals_to_their_parent(start_method: str) -> None:
    loader = DataLoader(
        Numbers(),
        num_workers=2,
        worker_init_fn=leave_signals_to_parent,
        multiprocessing_context=start_method,
        persistent_workers=True,
    )
    with held_back(start_method) if start_method == "spawn" else nullcontext():
        iterator = iter(loader)  # evaluations' loaders, which fork, are not held back
    seen = [next(iterator)[0].tolist() for _ in range(4)]
    workers = {pid for _, pid in seen}
    assert len(workers) == 2
    for number in SIGNALS:  # from another process than the parent, as from a scheduler
        status_of_child(lambda number=number: [os.kill(pid, number) for pid in workers])
    seen += [batch[0].tolist() for batch in iterator]
    assert [index for index, _ in seen] == list(range(64))
    assert {pid for _, pid in seen} == workers
    for process in loader._iterator._workers:
        process.terminate()  # the parent's own SIGTERM
        process.join(10)
        assert process.exitcode == 0
