"""Predictions on disk while inference runs: one file a process, one line an image.

A file starts with a line that says which weights, settings and data set it belongs to. An
interrupted inference leaves its files behind; what they hold need not be predicted again. A line
that was cut off is passed over, and its image predicted anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions for one image.

    Attributes:
        image_id: as in the json.
        has_masks: whether the model predicts masks, also where there is no detection.
        detections: in the LVIS results format, with contiguous class ids.
    """

    image_id: Any
    has_masks: bool
    detections: list[dict[str, Any]]


class PartWriter:
    """Appends to one file; what it has taken in no longer takes memory."""

    def __init__(self, path: str | Path, fingerprint: str, *, keep: bool = False) -> None:
        """Open the file.

        Args:
            path: its folder is made where missing.
            fingerprint: of weights, settings and data set.
            keep: go on after what the file holds if it has the same fingerprint, otherwise and
                without `keep` truncate it.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        length = _whole_length(self.path, fingerprint) if keep else 0
        self._file = self.path.open("r+b" if length else "wb")
        self._file.seek(length)
        self._file.truncate()
        if not length:
            self._write_line({"version": _VERSION, "fingerprint": fingerprint})

    def write(self, predictions: ImagePredictions) -> None:
        """Add one image."""
        self._write_line(vars(predictions))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _write_line(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()  # an image is seconds of work: none shall be lost with the process


def part_path(folder: str | Path, rank: int) -> Path:
    """Where a process writes its part."""
    return Path(folder) / f"predictions_{rank}.jsonl"


def parts_in(folder: str | Path) -> list[Path]:
    """All parts in a folder, also those of processes that an earlier run had."""
    return sorted(Path(folder).glob("predictions_*.jsonl"))


def is_part_of(path: Path, fingerprint: str) -> bool:
    """Whether a part belongs to these weights, settings and data set."""
    return _header(path).get("fingerprint") == fingerprint


def finished_images(paths: Iterable[Path], fingerprint: str) -> set[Any]:
    """Ids of the images that parts with this fingerprint hold."""
    found: set[Any] = set()
    for path in paths:
        if is_part_of(path, fingerprint):
            found.update(one.image_id for one in _read_part(path))
    return found


def read_parts(paths: Sequence[Path], fingerprint: str) -> Iterator[ImagePredictions]:
    """Read image by image; of an image that several parts hold, the first counts.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part belongs to other weights, settings or another data set.
    """
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        raise FileNotFoundError(
            f"Expected the predictions of every process, but {', '.join(absent)} cannot be read "
            "here; OUTPUT_DIR has to be a folder that all machines share."
        )
    for path in paths:
        if not is_part_of(path, fingerprint):
            raise ValueError(
                f"Expected {path} to hold predictions of this evaluation, but its first line names "
                "another one; does a second evaluation write to the same OUTPUT_DIR?"
            )
    seen = set()
    for path in paths:
        for predictions in _read_part(path):
            if predictions.image_id not in seen:
                seen.add(predictions.image_id)
                yield predictions


def _read_part(path: Path) -> Iterator[ImagePredictions]:
    with path.open("rb") as file:
        file.readline()
        for line in file:
            if not line.endswith(b"\n"):
                logger.warning("%s ends within a line; its last image is left out.", path)
                return
            yield ImagePredictions(**json.loads(line))


def _header(path: Path) -> dict[str, Any]:
    """First line of a part; {} where there is none that this version could have written."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        try:
            header = json.loads(file.readline())
        except ValueError:
            return {}
    is_ours = isinstance(header, dict) and header.get("version") == _VERSION
    return header if is_ours else {}


def _whole_length(path: Path, fingerprint: str) -> int:
    """Bytes of a part up to its last whole line; 0 where it has another fingerprint."""
    if not is_part_of(path, fingerprint):
        return 0
    length = 0
    with path.open("rb") as file:
        for line in file:
            length += len(line) if line.endswith(b"\n") else 0
    return length
