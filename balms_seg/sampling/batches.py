"""Global batches on an index stream, and each rank's share of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from balms_seg.sampling.streams import Block, IndexStream


class Draw(NamedTuple):
    """One element of a batch.

    Attributes:
        image: data set index.
        position: position in the global stream.
        probability: probability the index had when it was drawn; nan where the sampler gives none.
    """

    image: int
    position: int
    probability: float


class GlobalBatchSampler:
    """Forms global batches on an index stream and yields one rank's share of each.

    Every rank holds an equal copy and draws whole batches, so batches depend neither on the number
    of ranks nor on data workers. Batches drawn ahead by a data loader stay `pending` until
    `mark_consumed`; a new iteration repeats them first.

    Args:
        stream: where indices come from.
        batch_size: elements of a global batch.
        groups: (N,) int group of each image, from 0; a batch holds images of one group only. None
            puts consecutive draws together.
        rank: this process; it gets elements rank, rank + world_size, ... of each batch.
        world_size: number of processes.

    Raises:
        ValueError: the batch cannot be shared out equally, or `groups` has another length than the
            data set.
    """

    def __init__(
        self,
        stream: IndexStream,
        batch_size: int,
        *,
        groups: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_batch_size(batch_size, world_size)
        if groups is not None and len(groups) != stream.size:
            raise ValueError(f"Expected groups of {stream.size} images, but got {len(groups)}.")
        self.stream = stream
        self.batch_size = batch_size
        self._groups = groups
        self._rank = rank
        self._world_size = world_size
        num_groups = 1 if groups is None else int(groups.max()) + 1
        self.num_groups = num_groups
        self._buckets: list[list[Draw]] = [[] for _ in range(num_groups)]
        self._pending: deque[list[Draw]] = deque()
        self._waiting: deque[Draw] = deque()  # drawn by a run with another batch size
        self._iteration = 0

    def __iter__(self) -> Iterator[list[Draw]]:
        """This rank's share of the pending batches, then of new ones, without end."""
        self._iteration += 1
        iteration = self._iteration
        for batch in list(self._pending):
            yield self._share(batch)
            self._check_current(iteration)
        while True:
            batch = self._draw_batch()
            self._pending.append(batch)
            yield self._share(batch)
            self._check_current(iteration)

    def mark_consumed(self) -> None:
        """Forget the oldest pending batch: training has it."""
        self.stream.mark_consumed(len(self._pending.popleft()))

    def pass_over(self, num_batches: int) -> None:
        """Take so many new batches as consumed; running iterations end."""
        for _ in range(num_batches):
            self._pending.append(self._draw_batch())
            self.mark_consumed()
        self._iteration += 1

    def state_dict(self) -> dict[str, Any]:
        """The stream at the draw point, the filling groups, and the batches not yet consumed."""
        return {
            "batch_size": self.batch_size,
            "stream": self.stream.state_dict(),
            "buckets": [_pack(bucket) for bucket in self._buckets],
            "pending": [_pack(batch) for batch in self._pending],
            "waiting": _pack(self._waiting),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the last one consumed; running iterations end.

        With another batch size, new batches are formed from the first image on that was not
        consumed.

        Raises:
            ValueError: the state has another grouping or stream.
        """
        if len(state["buckets"]) != len(self._buckets):
            raise ValueError(
                f"Expected a saved loader with {len(self._buckets)} image groups, but got "
                f"{len(state['buckets'])}; resume with the saved run's "
                "DATALOADER.ASPECT_RATIO_GROUPING."
            )
        self.stream.load_state_dict(state["stream"])
        buckets = [_unpack(bucket) for bucket in state["buckets"]]
        pending = [_unpack(batch) for batch in state["pending"]]
        waiting = _unpack(state["waiting"])
        if state["batch_size"] != self.batch_size:
            drawn = [draw for draws in (*buckets, *pending, waiting) for draw in draws]
            waiting = sorted(drawn, key=attrgetter("position"))
            buckets, pending = [[] for _ in buckets], []
        self._buckets, self._pending, self._waiting = buckets, deque(pending), deque(waiting)
        self._iteration += 1

    def _draw_batch(self) -> list[Draw]:
        while True:
            bucket = self._buckets[0]
            count = self.batch_size - len(bucket) if self._groups is None else 1
            for draw in self._take(count):
                group = 0 if self._groups is None else int(self._groups[draw.image])
                bucket = self._buckets[group]
                bucket.append(draw)
            if len(bucket) == self.batch_size:
                batch = list(bucket)
                bucket.clear()
                return batch

    def _take(self, count: int) -> list[Draw]:
        """The next draws: those that wait, then new ones."""
        taken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        count -= len(taken)
        if count == 0:
            return taken
        position, block = self.stream.position, self.stream.draw(count)
        probabilities = (
            [float("nan")] * count if block.probabilities is None else block.probabilities.tolist()
        )
        images = block.indices.tolist()
        positions = range(position, position + count)
        return taken + [Draw(*row) for row in zip(images, positions, probabilities, strict=True)]

    def _share(self, batch: list[Draw]) -> list[Draw]:
        return batch[self._rank :: self._world_size]

    def _check_current(self, iteration: int) -> None:
        if iteration != self._iteration:
            raise RuntimeError(
                "This iteration ended when the loader was iterated anew or its state was loaded; "
                "call iter() on the loader again."
            )


def positions_of(batch: Sequence[dict]) -> list[int]:
    """Stream positions of the elements of a batch of the training loader.

    Of dicts, or of a batch with a `draws` method, which is spared making them.
    """
    if hasattr(batch, "draws"):
        return batch.draws().positions.tolist()
    return [output["stream_position"] for output in batch]


def draws_of(batch: Sequence[dict]) -> Block:
    """The draws behind a batch of the training loader, in its order; batches as `positions_of`.

    Raises:
        KeyError: "dataset_index", "draw_probability" or "stream_position" is not known.
    """
    keys = ("dataset_index", "draw_probability", "stream_position")
    if hasattr(batch, "draws"):
        draws = batch.draws()
        missing = [] if draws.probabilities is not None else ["draw_probability"]
    else:
        missing = [key for key in keys if any(key not in output for output in batch)]
    if missing:
        raise KeyError(
            f"Expected every element of the batch to carry {missing[0]!r}; load the data with "
            "balms_seg.data.build_train_loader and DATALOADER.SAMPLER_TRAIN "
            "MetaRepeatFactorTrainingSampler."
        )
    if hasattr(batch, "draws"):
        return draws
    indices, probabilities, positions = ([output[key] for output in batch] for key in keys)
    return Block(
        np.array(indices, dtype=np.int64),
        np.array(probabilities, dtype=np.float64),
        np.array(positions, dtype=np.int64),
    )


def check_batch_size(batch_size: int, world_size: int) -> None:
    """Raise ValueError unless a batch can be shared out equally among the ranks."""
    if batch_size <= 0 or batch_size % world_size:
        raise ValueError(
            f"Expected SOLVER.IMS_PER_BATCH to be a positive multiple of the number of processes "
            f"({world_size}), but got {batch_size}; change it or the number of GPUs."
        )


def _pack(draws: Sequence[Draw]) -> dict[str, torch.Tensor]:
    """Tensors, so that a checkpoint loads without unpickling classes."""
    return {
        "images": torch.tensor([draw.image for draw in draws], dtype=torch.int64),
        "positions": torch.tensor([draw.position for draw in draws], dtype=torch.int64),
        "probabilities": torch.tensor([draw.probability for draw in draws], dtype=torch.float64),
    }


def _unpack(packed: dict[str, torch.Tensor]) -> list[Draw]:
    columns = (packed[name].tolist() for name in ("images", "positions", "probabilities"))
    return [Draw(*row) for row in zip(*columns, strict=True)]
