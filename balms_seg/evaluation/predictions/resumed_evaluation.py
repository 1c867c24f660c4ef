"""What predictions depend on, and a loader without the images that have been predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch


def prediction_fingerprint(model: Any, settings: str) -> str:
    """A text that is the same where the same predictions are to be expected.

    Args:
        model: its class and its weights count.
        settings: everything else: configuration, data set.
    """
    digest = hashlib.blake2b(f"{type(model).__name__}\n{settings}".encode(), digest_size=16)
    state = model.state_dict() if hasattr(model, "state_dict") else {}
    for name in sorted(state):
        value = state[name]
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
