"""What training loaders share: global batches on an index stream, and a state that resumes them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from balms_seg.sampling import GlobalBatchSampler, IndexStream

logger = logging.getLogger(__name__)


class KeyedLoader(ABC):
    """This rank's share of global batches; `state_dict` is small and the same on all ranks.

    Args:
        stream: index stream over the data set.
        batch_size: images of a global batch, over all ranks.
        seed: the run's seed.
        groups: (N,) int group of each image; a batch stays within one. None: no groups.

    Attributes:
        follows_trainer: a first batch that is asked for in a later iteration of a training is that
            iteration's; False: always the first of the stream.

    Raises:
        ValueError: `batch_size` cannot be shared out equally among the ranks.
    """

    follows_trainer = True

    def __init__(
        self,
        stream: IndexStream,
        batch_size: int,
        *,
        seed: int,
        groups: np.ndarray | None = None,
    ) -> None:
        self._seed = int(seed)
        self._batches = GlobalBatchSampler(
            stream,
            batch_size,
            groups=groups,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """This rank's batches, without end."""

    @property
    def seed(self) -> int:
        """The run's data seed; that of the saved run after `load_state_dict`."""
        return self._seed

    @property
    def stream(self) -> IndexStream:
        """The index stream, at the draw point: ahead of training when there are workers."""
        return self._batches.stream

    def follow_trainer(self) -> None:
        """Pass over what was trained on by a run that goes on without `load_state_dict`.

        detectron2's trainers resume the iteration and no loader, so the images of a run's beginning
        would come again. To be called before the first batch is drawn.
        """
        if not self.follows_trainer or self.stream.position:
            return
        iteration = _iteration_of_training()
        if iteration:
            logger.info("The images of the first %d iterations are passed over.", iteration)
            self._batches.pass_over(iteration)

    def state_dict(self) -> dict[str, Any]:
        """What makes the next batch come out the same: seed, stream, batches drawn ahead.

        Identical on all ranks that consumed equally many batches; independent of their number.
        """
        return {"seed": self.seed, **self._batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the last one consumed; call iter() again afterwards.

        Raises:
            ValueError: the state belongs to another data set, sampler or batch size.
        """
        self._batches.load_state_dict(state)
        if state["seed"] != self.seed:
            logger.warning(
                "Resuming with the saved run's data seed %d instead of %d.",
                state["seed"],
                self.seed,
            )
            self._seed = int(state["seed"])


def _iteration_of_training() -> int:
    try:
        return get_event_storage().iter
    except AssertionError:  # there is none: nothing is trained
        return 0
