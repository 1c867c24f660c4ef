"""Reads checkpoint files: nothing in them is run, and damage is told from what is foreign."""

from __future__ import annotations

import _codecs
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from balms_seg.engine.checkpoints import checksum
from balms_seg.engine.checkpoints.array_pickle import as_checkpoint, read_array_pickle

logger = logging.getLogger(__name__)

# Older checkpoints, the authors' among them, hold numpy values; torch refuses those unless told.
_NUMPY_GLOBALS: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
    *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct")
        for core in ("core", "_core")
    ),
    _codecs.encode,  # bytes of arrays pickled under protocol 2
]
_REFUSED_GLOBAL = re.compile(r"(?:GLOBAL|function|class|instantiate|type) ([\w.]+)")


class DamagedCheckpointError(RuntimeError):
    """A checkpoint is cut short, or its content is not what was written."""


class RefusedCheckpointError(RuntimeError):
    """A checkpoint is whole, and asks for more than tensors and plain values."""


def read_checkpoint(
    path: str | os.PathLike[str], load: Callable[[str], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Read a checkpoint and verify its checksum, where it has one.

    Args:
        path: a .pth file, or a .pkl file of the model zoo.
        load: what reads the .pth file under torch's restrictions; torch.load where None.

    Returns:
        Its content with the weights under "model", named as the model names them: without what
        torch.compile and data parallelism put before names.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: it cannot be read, or its checksum is another.
        RefusedCheckpointError: it would run code, or holds objects; names them.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Expected a checkpoint at {path}, but there is no such file.")
    try:
        if path.endswith(".pkl"):
            return _unwrapped(as_checkpoint(read_array_pickle(path)))
        _check_archive(path)
        with safe_values():
            content = (load or _load)(path)
    except RefusedCheckpointError:
        raise
    except Exception as error:  # torch, zipfile and pickle raise a dozen kinds
        raise _explained(path, error) from error
    heuristics = content.pop("matching_heuristics", None)  # added by detectron2 on reading
    expected = content.pop(checksum.KEY, None)
    if expected is not None and checksum.checksum(content) != expected:
        raise DamagedCheckpointError(
            f"Checkpoint {path} is damaged: its content has another checksum than was written "
            "into it. Use an earlier one."
        )
    if heuristics is not None:
        content["matching_heuristics"] = heuristics
    return _unwrapped(content)


def read_entries(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """A checkpoint's content with tensors that are only mapped; None where it cannot be read.

    For its plain values: nothing is verified.
    """
    try:
        with safe_values():
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # as in read_checkpoint
        return None
    return content if isinstance(content, dict) else None


def safe_values() -> AbstractContextManager[None]:
    """While it holds, torch.load takes numpy values besides tensors."""
    return torch.serialization.safe_globals(_NUMPY_GLOBALS)


def _load(path: str) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: str) -> None:
    """Raise where parts are compressed, and where that with names and plain values is damaged.

    torch does not notice such damage, and under another name a checksum would not be looked at.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise RefusedCheckpointError(
                    f"Checkpoint {path} is compressed, which torch.save never does: it could "
                    "unpack to any size. Unpack it and save it again."
                )
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    archive.read(name)


def _unwrapped(content: dict[str, Any]) -> dict[str, Any]:
    """With the weights under "model", whatever other trainers call them."""
    weights = content.get("model", content)
    if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):
        weights = weights["state_dict"]
    if not isinstance(weights, Mapping):
        raise RefusedCheckpointError(
            f'Expected a dict of tensors under "model", but got a {type(weights).__name__}.'
        )
    rest = content if "model" in content else {}
    return {**rest, "model": {_own_name(name): value for name, value in weights.items()}}


def _own_name(name: str) -> str:
    name = name.replace("_orig_mod.", "")  # torch.compile, of the whole or of parts
    return name.removeprefix("module.")


def _explained(path: str, error: Exception) -> RuntimeError:
    refused = _refused_names(path, error)
    if refused:
        return RefusedCheckpointError(
            f"Checkpoint {path} asks for {', '.join(refused)}; only tensors, arrays and plain "
            "values are read, since anything else could run code. If you trust its origin, save "
            "its weights alone, where it loads: content = torch.load(PATH, weights_only=False); "
            "torch.save({'model': content['model']}, NEW_PATH), and use that."
        )
    if isinstance(error, pickle.UnpicklingError) and path.endswith(".pkl"):
        return RefusedCheckpointError(f"{path} is not read: {error}.")
    size = Path(path).stat().st_size
    return DamagedCheckpointError(
        f"Checkpoint {path} ({size} bytes) cannot be read: {_first_line(error)} It is damaged or "
        "was cut short; use an earlier one."
    )


def _refused_names(path: str, error: Exception) -> list[str]:
    """What torch's restricted unpickler refused, by name."""
    if not isinstance(error, pickle.UnpicklingError) or path.endswith(".pkl"):
        return []
    if "Weights only load failed" not in str(error):
        return []
    try:
        with safe_values():
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # older formats, and files that are damaged as well
        names = []
    found = _REFUSED_GLOBAL.findall(str(error))
    return sorted(names) or found[:1]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
