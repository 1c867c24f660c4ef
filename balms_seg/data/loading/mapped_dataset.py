"""The map-style data set that data workers run: one keyed draw in, one mapped dict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from detectron2.data import DatasetFromList
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import Dataset

from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.loading.image_errors import UnreadableImageError, naming_image
from balms_seg.sampling import Draw, keyed_rng, position_seed

MAX_ATTEMPTS = 20


class MappedElement(NamedTuple):
    """A mapped dict and the images that the mapper dropped before it.

    Attributes:
        output: what the model gets.
        dropped: data set indices for which the mapper returned None.
        seed: the run's, which travels with every draw.
    """

    output: dict
    dropped: tuple[int, ...]
    seed: int


class KeyedMapDataset(Dataset):
    """Maps (seed, draw) to a model input, with random numbers keyed by seed and stream position.

    Stateless, so every worker gives the same answer at any time.

    Args:
        dataset_dicts: data set dicts; a list is kept serialised, so that workers share the memory.
        mapper: data set dict -> model input, or None to drop the image. Its random numbers must
            come from numpy's, Python's or torch's global generators.
    """

    def __init__(
        self, dataset_dicts: Sequence[dict], mapper: Callable[[dict], dict | None]
    ) -> None:
        self._records: Sequence[dict] | DatasetFromList = dataset_dicts
        if not isinstance(dataset_dicts, DatasetDicts):
            self._records = DatasetFromList(list(dataset_dicts), copy=False, serialize=True)
        self._mapper = PicklableWrapper(mapper)  # so that a lambda reaches spawned workers

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: tuple[int, Draw]) -> MappedElement:
        """Map one draw.

        The output gains "stream_position" and "dataset_index" (of the image that was drawn), and
        "draw_probability" where the sampler gave one. An image that the mapper drops is replaced
        by one drawn uniformly, keyed by seed, position and attempt.

        Raises:
            OSError: an image file cannot be read; names it.
            RuntimeError: the mapper dropped every one of several replacements.
        """
        seed, draw = key
        dropped: list[int] = []
        index = draw.image
        for attempt in range(MAX_ATTEMPTS):
            with keyed_rng(seed, draw.position, f"map/{attempt}"):
                output = self._map(index, draw)
            if output is not None:
                output["stream_position"] = draw.position
                output["dataset_index"] = draw.image
                if draw.probability == draw.probability:  # not nan
                    output["draw_probability"] = draw.probability
                return MappedElement(output, tuple(dropped), seed)
            dropped.append(index)
            index = position_seed(seed, draw.position, f"replacement/{attempt}") % len(self)
        names = sorted({self.describe(index) for index in dropped})
        raise RuntimeError(
            f"The mapper returned None for {len(dropped)} images in a row: {', '.join(names)}. "
            "Remove the images it cannot use from the data set, or mend the mapper."
        )

    def describe(self, index: int) -> str:
        """The file name of an image, or its index where the dict has none."""
        return str(self._records[index].get("file_name", f"image {index}"))

    def _map(self, index: int, draw: Draw) -> dict | None:
        try:
            with naming_image(self.describe(index)):
                return self._mapper(self._records[index])
        except UnreadableImageError:
            raise
        except Exception as error:
            error.add_note(
                f"while mapping {self.describe(index)} (data set index {index}) at stream "
                f"position {draw.position}"
            )
            raise
