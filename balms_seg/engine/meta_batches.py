"""Where the rows of a meta batch come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from detectron2.utils.events import EventStorage

from balms_seg.data.loader import TrainLoader
from balms_seg.modeling.box_rows import BoxRows

RowsOf = Callable[[list[dict], int], BoxRows]  # of a batch and the seed that keys its randomness


class MetaBatches(Protocol):
    """A source of class-balanced rows."""

    def next_rows(self, iteration: int, rows_of: RowsOf) -> BoxRows:
        """This rank's part of the next meta batch; may be empty."""

    def add(self, batch: list[dict], rows: BoxRows) -> None:
        """Take note of a training batch that was used."""

    def state_dict(self) -> dict[str, Any]:
        """What makes the next meta batch come out the same."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class LoadedBatches:
    """Images of a class-balanced loader, through the same trunk as the training batches."""

    def __init__(self, loader: TrainLoader) -> None:
        """Use a loader with a seed of its own."""
        self.loader = loader
        self._iterator = iter(loader)
        self.state_dict = loader.state_dict
        self.load_state_dict = loader.load_state_dict

    def next_rows(self, iteration: int, rows_of: RowsOf) -> BoxRows:
        """The rows of the loader's next batch."""
        with EventStorage():  # its proposal counts are not those of training
            return rows_of(next(self._iterator), self.loader.seed)

    def add(self, batch: list[dict], rows: BoxRows) -> None:
        """Nothing to note."""
