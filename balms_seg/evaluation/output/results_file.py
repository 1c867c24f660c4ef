"""`results.json`: the versioned record of one evaluation."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json

CHECKPOINT_ENTRY = "checkpoint"  # of an evaluation alone: what trained the weights
CONFIGURED_SEED = "configured_seed"  # there, of weights that name no seed: that of the config.yaml
SCHEMA_VERSION = 1


def write_results(
    path: str | Path,
    *,
    metrics: Mapping[str, Any],
    group_sizes: Mapping[str, Any] | None = None,
    config: str | Mapping[str, Any] | None = None,
    commit: str | None = None,
    seed: int | None = None,
    versions: Mapping[str, str] | None = None,
    time_seconds: float | None = None,
    iteration: int | None = None,
    **extra: Any,
) -> None:
    """Write the record of one evaluation; an older file stays whole until the new one is.

    Numbers are written in full; nan becomes null.

    Args:
        path: file to write; its folder is made where missing.
        metrics: metrics in percent, nested by task and, for several, by data set.
        group_sizes: classes per frequency group.
        config: the resolved config, as yaml text or a mapping.
        commit: of the code that ran.
        seed: that the run used.
        versions: per package.
        time_seconds: wall-clock time of the run.
        iteration: of the evaluated weights.
        **extra: further entries.

    Raises:
        TypeError: a value has no place in a json.
        ValueError: a number is infinite, or an extra entry is called schema_version.
    """
    if "schema_version" in extra:
        raise ValueError("Expected no entry schema_version: the writer sets it.")
    record = {
        "schema_version": SCHEMA_VERSION,
        "metrics": metrics,
        "group_sizes": group_sizes,
        "config": config,
        "commit": commit,
        "seed": seed,
        "versions": versions,
        "time_seconds": time_seconds,
        "iteration": iteration,
        **extra,
    }
    text = json.dumps(to_json(record, "results"), indent=2, allow_nan=False) + "\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the rights an ordinary new file gets.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def add_to_results(path: str | Path, **entries: Any) -> None:
    """Add entries to a file of `write_results`."""
    record = read_results(path)
    del record["schema_version"]
    write_results(path, **{**record, **entries})


def read_results(path: str | Path) -> dict[str, Any]:
    """Read what `write_results` wrote; null within the metrics becomes nan again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, not a results.json, or of another version.
    """
    try:
        record = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error} Evaluate again with --eval-only to write it.") from error
    if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
        raise ValueError(f"Expected an object with 'metrics' in {path}, but it has none.")
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"Expected schema_version {SCHEMA_VERSION} in {path}, but got {version!r}; read it "
            "with the release that wrote it, or evaluate again."
        )
    return {**record, "metrics": _with_nan(record["metrics"])}


def to_json(value: Any, where: str) -> Any:
    """Turn numpy and torch values into what json has; nan becomes null.

    Args:
        value: numbers, text, sequences and mappings of such.
        where: what to call it in errors.

    Raises:
        TypeError: something else is among them.
        ValueError: a number is infinite.
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(entry, f"{where}.{key}") for key, entry in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Sequence):
        return [to_json(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return to_json(value.tolist(), where)
    if not isinstance(value, float):
        raise TypeError(
            f"Expected numbers, text, lists and mappings, but {where} is a {type(value).__name__}."
        )
    if math.isinf(value):
        raise ValueError(f"Expected finite numbers or nan, but {where} is {value}.")
    return None if math.isnan(value) else float(value)


def _with_nan(metrics: Any) -> Any:
    if isinstance(metrics, dict):
        return {key: _with_nan(value) for key, value in metrics.items()}
    return float("nan") if metrics is None else metrics
