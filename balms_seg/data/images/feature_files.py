"""Features of images in files: sets of a trunk that stays as it is, run once.

N images, D features, K classes. A file is either

- `.npz` with the arrays `features` (N, D) and `labels` (N,), numbers from 0 or names; further,
  where there are, `keys` (N,) (different names of the images; without them the rows' numbers) and
  `class_names` (K,); or
- `.npy`, (N, D), beside a list file whose lines name the rows' labels in order.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg.data.images.image_files import is_feature_file, split_features
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.list_files import read_list
from balms_seg.wording import agreeing, counted

MADE_FROM = "made_from"  # array of a file that this package wrote: what it would be made from


def read_feature_records(source: str, root: str) -> ImageRecords:
    """The records of a feature file; their addresses lead to rows of it.

    Args:
        source: a file, see the module.
        root: of a `.npy`, the list file with its labels; else "".

    Raises:
        FileNotFoundError: there is no such file, or no list file is named.
        ValueError: the file is not of that form.
    """
    if source.lower().endswith(".npy"):
        if not root:
            raise FileNotFoundError(
                f"{source} has no labels; name a list file as the root of the set, with a line "
                "'path label' for each of its rows, or save an .npz with features and labels."
            )
        found, rows = read_list(root, source), len(_features(source))
        if len(found.records) != rows:
            raise ValueError(
                f"Expected a line in {root} for each of the {counted(rows, 'row')} of {source}, "
                f"but it names {counted(len(found.records), 'image')}."
            )
        records = [{**r, "file_name": f"{source}/{i}"} for i, r in enumerate(found.records)]
        return found._replace(records=records)
    arrays = read_feature_file(source)
    labels, class_names, is_named = _labels(source, arrays)
    records = [
        {"file_name": f"{source}/{key}", "key": key, "label": label}
        for key, label in zip(_rows(source), labels, strict=True)
    ]
    return ImageRecords(records, class_names, is_named)


def holds_features(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records are of features, not of images.

    Raises:
        ValueError: they are of both.
    """
    kinds = {split_features(record["file_name"]) is not None for record in records}
    if len(kinds) > 1:
        raise ValueError(
            "Some of the sets are of images and some of features, but a run takes one kind; "
            "compute the features of all of them with balms-seg features."
        )
    return kinds == {True}


def load_features(records: Sequence[Mapping[str, Any]]) -> Tensor:
    """(N, D) float32 features on the CPU.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file lacks an image, files differ in D, or a value is not finite.
    """
    places: dict[str, list[tuple[int, str]]] = {}
    for place, record in enumerate(records):
        address = split_features(record["file_name"])
        assert address is not None
        places.setdefault(address[0], []).append((place, address[1]))
    widths = {path: _features(path).shape[1] for path in places}
    if len(set(widths.values())) > 1:
        raise ValueError(f"Expected as many features in every file, but got {widths}.")
    table = np.empty((len(records), *set(widths.values())), np.float32)
    for path, own in places.items():
        rows = _rows(path)
        absent = [key for _, key in own if key not in rows]
        if absent:
            raise ValueError(
                f"{path} lacks {len(absent)} of {counted(len(own), 'image')} of the set, such as "
                f"{absent[0]}; compute the features of the whole set."
            )
        table[[place for place, _ in own]] = _features(path)[[rows[key] for _, key in own]]
        wrong = ~np.isfinite(table[[place for place, _ in own]]).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"{int(wrong.sum())} of {counted(len(own), 'image')} "
                f"{agreeing(int(wrong.sum()), 'has', 'have')} features in {path} that are not "
                f"finite, such as {own[int(wrong.argmax())][1]}; compute them anew."
            )
    return torch.from_numpy(table)


def num_features(records: Sequence[Mapping[str, Any]]) -> int:
    """D, by the first of the records.

    Raises:
        ValueError: it is of an image.
    """
    address = split_features(records[0]["file_name"])
    if address is None:
        raise ValueError(
            "MODEL.IMAGE_CLASSIFIER.BACKBONE is features, but the data sets are of images; "
            "register files of features, as balms-seg features writes them."
        )
    return int(_features(address[0]).shape[1])


def read_feature_file(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` of features; of an `.npy`, which is mapped, its one as `features`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one, or holds Python objects.
    """
    try:
        if str(path).lower().endswith(".npy"):
            return {"features": np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected arrays of numbers or names in {path}, but it cannot be read ({error}); save "
            "it with numpy.savez or numpy.save."
        ) from error


def write_feature_file(
    path: str | Path,
    features: np.ndarray,
    records: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    made_from: str,
) -> None:
    """Write an `.npz` of features; an older one stays whole until the new one is.

    Args:
        path: ending in .npz.
        features: (N, D).
        records: of the N images.
        class_names: K names.
        made_from: what the file was computed from, to be compared.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(
            file,
            allow_pickle=False,
            features=features,
            labels=np.array([record["label"] for record in records], np.int64),
            keys=np.array([record["key"] for record in records]),
            class_names=np.array(class_names),
            **{MADE_FROM: np.array(made_from)},
        )
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _features(path: str) -> np.ndarray:
    return _arrays(path, os.stat(path).st_mtime_ns)["features"]


def _rows(path: str) -> dict[str, int]:
    """The row of each image."""
    return _row_numbers(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=8)
def _row_numbers(path: str, time: int) -> dict[str, int]:
    arrays = _arrays(path, time)
    number = len(arrays["features"])
    keys = [str(key) for key in arrays.get("keys", np.arange(number))]
    rows = {key: row for row, key in enumerate(keys)}
    if len(keys) != number or len(rows) < number:
        raise ValueError(
            f"Expected {number} different keys in {path}, one an image, but got {len(keys)} of "
            f"which {len(rows)} differ."
        )
    return rows


@lru_cache(maxsize=4)
def _arrays(path: str, time: int) -> dict[str, np.ndarray]:
    assert is_feature_file(path)
    arrays = read_feature_file(path)
    features = arrays.get("features")
    if features is None or features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        found = f"{features.dtype} {features.shape}" if features is not None else f"{list(arrays)}"
        raise ValueError(f"Expected features (N, D) as floats in {path}, but got {found}.")
    return arrays


def _labels(path: str, arrays: Mapping[str, np.ndarray]) -> tuple[list[int], tuple[str, ...], bool]:
    """Label of each row, the classes, and whether these are names."""
    number = len(_features(path))
    labels = arrays.get("labels")
    if labels is None or labels.shape != (number,) or labels.dtype.kind not in "iuU":
        found = "none" if labels is None else f"{labels.dtype} {labels.shape}"
        raise ValueError(
            f"Expected {number} labels in {path}, numbers from 0 or names, but got {found}."
        )
    given = arrays.get("class_names")
    if labels.dtype.kind == "U":
        names = sorted(set(labels.tolist())) if given is None else [str(name) for name in given]
        number_of = {name: place for place, name in enumerate(names)}
        unknown = sorted(set(labels.tolist()) - set(names))
        if unknown:
            raise ValueError(f"class_names in {path} lacks the label {unknown[0]!r}.")
        return [number_of[label] for label in labels.tolist()], tuple(names), True
    names = (
        [str(i) for i in range(int(labels.max()) + 1)] if given is None else list(map(str, given))
    )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"Expected labels from 0 to {len(names) - 1} in {path}, but got {labels.min()} to "
            f"{labels.max()}."
        )
    return labels.tolist(), tuple(names), given is not None
