"""What predictions depend on, and a loader without the images that have been predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn


def prediction_fingerprint(model: Any, settings: str) -> str:
    """A text that is the same where the same predictions are to be expected.

    Args:
        model: its class and its weights count.
        settings: everything else: configuration, data set.
    """
    state = model.state_dict() if hasattr(model, "state_dict") else {}
    return _digest(f"{type(model).__name__}\n{settings}", state)


def weights_fingerprint(model: Any) -> str | None:
    """A text that is the same for models of the same parameters; None where there are none.

    Buffers do not count, as training counts and calibrations may be others for the same weights.
    """
    named = model.named_parameters() if isinstance(model, nn.Module) else ()
    values = {name.removeprefix("module."): value for name, value in named}  # of DDP
    return _digest("", values) if values else None


def _digest(start: str, values: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for name in sorted(values):
        value = values[name]
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


class RemainingImages:
    """A loader of images without those that are done; batches that are done are left out."""

    def __init__(self, loader: Iterable[list[dict[str, Any]]], done: set[Any]) -> None:
        self._loader = loader
        self._done = done

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self._loader:
            left = [image for image in batch if image["image_id"] not in self._done]
            if left:
                yield left

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]
