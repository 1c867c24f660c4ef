"""What the event storage remembers of each scalar, in memory that does not grow with the run."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from detectron2.engine import HookBase
from fvcore.common.history_buffer import HistoryBuffer

# The longest window that detectron2's writers smooth over: the remaining time, over 1,000 values.
WINDOW = 1000


class BoundedHistory(HookBase):
    """Keeps the newest values only; detectron2's storage keeps a million of each scalar.

    That is 2 KB an iteration with the losses of a detector. Averages over the whole run do not need
    the values.
    """

    def before_train(self) -> None:
        """Before any value is put in."""
        self.trainer.storage._history = defaultdict(partial(HistoryBuffer, max_length=WINDOW))
