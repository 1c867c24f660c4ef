"""Seeded, resumable streams of data set indices, drawn block by block.

An index stream is the one global sequence of images that training consumes, whatever the number of
ranks or data workers. A stream is made of blocks (an epoch, for most samplers); a block is a pure
function of the generator's state at its start, so a checkpoint holds that state and an offset.
"""

from __future__ import annotations

import copy
import itertools
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive draws of a stream.

    Attributes:
        indices: (n,) int64 data set indices.
        probabilities: (n,) float64 probability each index had when it was drawn, or None for
            samplers whose draws carry no weight.
        positions: (n,) int64 positions in the stream, where they are known.
    """

    indices: np.ndarray
    probabilities: np.ndarray | None = None
    positions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def slice(self, start: int, stop: int) -> Block:
        """The draws [start, stop) of this block."""
        probabilities, positions = (
            None if column is None else column[start:stop]
            for column in (self.probabilities, self.positions)
        )
        return Block(self.indices[start:stop], probabilities, positions)


def _rank_and_world_size() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class IndexStream(Sampler[int]):
    """An infinite stream of data set indices; subclasses say how one block is drawn.

    `draw` advances the global stream and is what the training loader calls. Iteration serves
    detectron2's own loaders: it yields this rank's share (every world-size-th index, as
    detectron2's samplers do) from the current position on, of a copy, so that it does not move
    the stream.

    Args:
        size: number of images in the data set.
        seed: seed of the stream; the same on all ranks.

    Raises:
        TypeError: `size` is not an int.
        ValueError: `size` is not positive.
    """

    # How many indices may be drawn ahead of training, for streams to which that matters.
    max_drawn_ahead: int | None = None

    def __init__(self, size: int, *, seed: int) -> None:
        if not isinstance(size, int):
            raise TypeError(f"Expected size to be an int, but got {type(size).__name__}.")
        if size <= 0:
            raise ValueError(
                f"Expected a data set with at least one image to draw from, but got size {size}."
            )
        self.size = size
        self.seed = int(seed)
        self._rank, self._world_size = _rank_and_world_size()
        self._position = 0
        self._consumed = 0
        self._offset = 0
        self._block: Block | None = None
        self._block_number = 0
        self._state = torch.Generator().manual_seed(self.seed).get_state()
        self._next_state = self._state

    @classmethod
    @abstractmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> IndexStream:
        """Build the stream that a configuration asks for, over `dataset_dicts`."""

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) float64 expected draws of each image; only their ratios matter."""
        logger.warning(
            "Sampler %s does not say how often it draws each image (expected_repeats): the class "
            "prior is that of drawing all equally often.",
            cls.__name__,
        )
        return np.ones(len(dataset_dicts))

    @abstractmethod
    def draw_block(self, generator: torch.Generator) -> Block:
        """Draw the next block, using no randomness but `generator`; must not be empty for ever."""

    @property
    def position(self) -> int:
        """Number of indices drawn so far."""
        return self._position

    @property
    def consumed(self) -> int:
        """Number of indices that training has had, as told by `mark_consumed`."""
        return self._consumed

    def mark_consumed(self, count: int) -> None:
        """Say that training got `count` more indices; moves nothing."""
        self._consumed += count

    def draw(self, count: int) -> Block:
        """Take the next `count` indices of the global stream."""
        parts: list[Block] = []
        missing = count
        while missing > 0:
            block = self._current_block()
            part = block.slice(self._offset, self._offset + missing)
            self._offset += len(part)
            missing -= len(part)
            parts.append(part)
        drawn = parts[0] if len(parts) == 1 else _concatenate(parts)
        positions = np.arange(self._position, self._position + count)
        self._position += count
        return replace(drawn, positions=positions)

    def __iter__(self) -> Iterator[int]:
        stream = copy.copy(self)  # blocks and states are replaced, never changed in place
        skip = (self._rank - self._position) % self._world_size
        yield from itertools.islice(stream._remaining(), skip, None, self._world_size)

    def state_dict(self) -> dict[str, Any]:
        """The stream's position, of constant size; all ranks hold the same."""
        return {
            "identity": self._identity(),
            "position": self._position,
            "consumed": self._consumed,
            "block_number": self._block_number,
            "offset": self._offset,
            "generator": self._state.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where the stream that gave `state` stood.

        Raises:
            ValueError: `state` belongs to another sampler, data set or sampler setting.
        """
        expected = self._identity()
        if state["identity"] != expected:
            raise ValueError(
                f"Expected the state of a stream {expected}, but got one of {state['identity']}; "
                "resume with the training set and DATALOADER settings of the saved run, or start "
                "a new run from its weights."
            )
        self._position = int(state["position"])
        self._consumed = int(state["consumed"])
        self._block_number = int(state["block_number"])
        self._offset = int(state["offset"])
        self._state = state["generator"].clone()
        self._next_state = self._state
        self._block = None

    def _identity(self) -> dict[str, Any]:
        return {"sampler": type(self).__name__, "size": self.size}

    def _remaining(self) -> Iterator[int]:
        while True:
            block = self._current_block()
            rest = block.indices[self._offset :].tolist()
            self._offset += len(rest)
            yield from rest

    def _current_block(self) -> Block:
        """The block that holds the next index; draws one where the last is used up."""
        while self._block is None or self._offset >= len(self._block):
            if self._block is not None:
                self._state, self._offset = self._next_state, 0
                self._block_number += 1
            generator = torch.Generator()
            generator.set_state(self._state)
            self._block = self.draw_block(generator)
            self._next_state = generator.get_state()
        return self._block


def _concatenate(parts: list[Block]) -> Block:
    if not parts:
        return Block(np.zeros(0, dtype=np.int64))
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Block(
        np.concatenate([part.indices for part in parts]),
        np.concatenate(probabilities) if len(probabilities) == len(parts) else None,
    )
