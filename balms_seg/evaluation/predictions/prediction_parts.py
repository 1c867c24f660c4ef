"""Predictions on disk while inference runs: one file a process, one line an image.

Name and first line of a file say which weights, settings and data set it belongs to, so that
evaluations of several write beside each other; of one and the same, a single process writes each
file. An interrupted inference leaves its files behind; what they hold need not be predicted again.
A line that is cut off or broken is named and passed over, and its image predicted anew; of a file
whose first line is broken, all of them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balms_seg.durable_files import open_alone

logger = logging.getLogger(__name__)

_VERSION = 1
_FORGOTTEN_SECONDS = 7 * 24 * 3600  # after which nobody takes up what an evaluation left


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

    def with_category_ids(self, category_ids: Mapping[int, Any]) -> list[dict[str, Any]]:
        """The detections with the ids of the json.

        Args:
            category_ids: category id per contiguous class id.

        Raises:
            ValueError: a predicted class is none of them.
        """
        unknown = {d["category_id"] for d in self.detections} - category_ids.keys()
        if unknown:
            raise ValueError(
                f"Expected predicted classes in [0, {len(category_ids)}), but got {min(unknown)} "
                f"in image {self.image_id}; set MODEL.ROI_HEADS.NUM_CLASSES to "
                f"{len(category_ids)} or evaluate on the data set the model was trained for."
            )
        return [{**d, "category_id": category_ids[d["category_id"]]} for d in self.detections]


class PartWriter:
    """Appends to one file; what it has taken in no longer takes memory."""

    def __init__(self, path: str | Path, fingerprint: str, *, keep: bool = False) -> None:
        """Open the file.

        Args:
            path: its folder is made where missing.
            fingerprint: of weights, settings and data set.
            keep: go on after what the file holds if it has the same fingerprint, otherwise and
                without `keep` truncate it.

        Raises:
            RuntimeError: another process writes it; it is left as it is.
        """
        self.path = Path(path)
        self._file = open_alone(
            self.path,
            "Another process evaluates the same weights in the same OUTPUT_DIR and writes "
            f"{self.path}; wait for it, or give this evaluation another OUTPUT_DIR.",
        )
        length = _whole_length(self.path, fingerprint) if keep else 0
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


def part_path(folder: str | Path, fingerprint: str, rank: int) -> Path:
    """Where a process writes its part."""
    return Path(folder) / f"predictions_{fingerprint}_{rank}.jsonl"


def parts_in(folder: str | Path, fingerprint: str) -> list[Path]:
    """The parts of an evaluation, also those of processes that an earlier run of it had."""
    return sorted(Path(folder).glob(f"predictions_{fingerprint}_*.jsonl"))


def remove_forgotten(folder: str | Path) -> None:
    """Remove parts of evaluations that were interrupted long ago and never taken up."""
    for path in Path(folder).glob("predictions_*.jsonl"):
        with suppress(FileNotFoundError):  # its own evaluation may finish just now
            if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                path.unlink()


def is_part_of(path: Path, fingerprint: str) -> bool:
    """Whether a part belongs to these weights, settings and data set."""
    return _header(path).get("fingerprint") == fingerprint


def finished_images(paths: Iterable[Path], fingerprint: str) -> set[Any]:
    """Ids of the images that parts with this fingerprint hold."""
    found: set[Any] = set()
    for path in paths:
        if is_part_of(path, fingerprint):
            found.update(one.image_id for one in _read_part(path))
        elif path.is_file() and path.stat().st_size:
            logger.warning(
                "The first line of %s is broken, or of another version: what it holds is predicted "
                "again.",
                path,
            )
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
        for number, line in enumerate(file, start=2):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("it is cut off")
                yield _image_of(json.loads(line))
            except (ValueError, RecursionError) as error:
                logger.warning(
                    "Line %d of %s is broken (%s): its image is predicted again.",
                    number,
                    path,
                    error,
                )


def _image_of(record: Any) -> ImagePredictions:
    """An image's predictions; ValueError where they are none."""
    try:
        image = ImagePredictions(**record)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(image.detections, list) or not isinstance(image.image_id, int | str):
        raise ValueError("it holds no detections of an image")
    return image


def _header(path: Path) -> dict[str, Any]:
    """First line of a part; {} where there is none that this version could have written."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        try:
            header = json.loads(file.readline())
        except (ValueError, RecursionError):
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
