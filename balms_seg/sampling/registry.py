"""Training samplers by name, as `DATALOADER.SAMPLER_TRAIN` gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from balms_seg.sampling.streams import IndexStream

StreamType = TypeVar("StreamType", bound=type[IndexStream])


class SamplerRegistry:
    """Maps names to `IndexStream` classes; used like detectron2's registries."""

    def __init__(self) -> None:
        self._classes: dict[str, type[IndexStream]] = {}

    def register(self) -> Callable[[StreamType], StreamType]:
        """Class decorator that registers an `IndexStream` under its class name."""

        def decorate(stream_class: StreamType) -> StreamType:
            name = stream_class.__name__
            if name in self._classes:
                raise ValueError(f"A sampler named {name!r} is registered already; rename one.")
            self._classes[name] = stream_class
            return stream_class

        return decorate

    def get(self, name: str) -> type[IndexStream]:
        """The class registered as `name`.

        Raises:
            ValueError: there is none.
        """
        if name not in self._classes:
            raise ValueError(
                f"Expected DATALOADER.SAMPLER_TRAIN to be one of {sorted(self._classes)}, but got "
                f"{name!r}; another sampler is registered with @SAMPLER_REGISTRY.register()."
            )
        return self._classes[name]


SAMPLER_REGISTRY = SamplerRegistry()


def build_index_stream(
    cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
) -> IndexStream:
    """The stream that `DATALOADER.SAMPLER_TRAIN` names, over `dataset_dicts`.

    Raises:
        ValueError: no such sampler, or the data set does not fit it.
    """
    stream_class = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER_TRAIN)
    return stream_class.from_config(cfg, dataset_dicts, num_classes=num_classes, seed=seed)


def expected_repeats(cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int) -> np.ndarray:
    """How often the configured sampler draws each image, relative to the others.

    Returns:
        (N,) float64; weights that turn counts of the data set into counts of what is trained on.

    Raises:
        ValueError: no such sampler, or the data set does not fit it.
    """
    stream_class = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER_TRAIN)
    return stream_class.expected_repeats(cfg, dataset_dicts, num_classes=num_classes)
