"""A checksum over what a checkpoint holds, kept in the checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

KEY = "checksum"

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def checksum(content: Mapping[str, Any]) -> str:
    """A text that changes with any value, name, shape or type in a checkpoint but its own entry.

    Args:
        content: nested mappings and sequences of tensors, arrays and plain values.

    Raises:
        TypeError: something else is among them, which would not load again.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add({key: value for key, value in content.items() if key != KEY}, digest, "checkpoint")
    return digest.hexdigest()


def _add(value: Any, digest: Any, where: str) -> None:
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        digest.update(f"tensor {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray | np.generic):
        digest.update(f"array {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}\n".encode())
        for key, item in value.items():
            _add(key, digest, where)
            _add(item, digest, f"{where}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        digest.update(f"sequence {len(value)}\n".encode())
        items = sorted(value) if isinstance(value, set | frozenset) else value
        for index, item in enumerate(items):
            _add(item, digest, f"{where}[{index}]")
    elif isinstance(value, _PLAIN):
        digest.update(f"{type(value).__name__} {value!r}\n".encode())
    else:
        raise TypeError(
            f"Expected tensors and plain values in a checkpoint, but {where} is a "
            f"{type(value).__name__}, which would not load again; let the state_dict of what wrote "
            "it return tensors, numbers, text, lists and dicts."
        )
