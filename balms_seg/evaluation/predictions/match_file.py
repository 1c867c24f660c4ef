"""Keeps the matches of one evaluation in a small file, for intervals and comparisons later."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balms_seg.annotations.class_limits import check_class_names
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.matching import Matches

FILE_VERSION = 2


@dataclass(frozen=True, eq=False)
class StoredMatches:
    """What AP over all areas depends on. Symbols: n detections, p rows, m annotations, T, K.

    Attributes:
        task: "bbox", "segm" or "boundary".
        fingerprint: of the evaluation set.
        num_images: I.
        class_names: (K,).
        frequency: (K,) "r", "c", "f" or "".
        images: (n,) image of each detection, sorted by class, then descending score.
        classes: (n,).
        scores: (n,) float32.
        counts_unmatched: (n,) bool, a false positive where unmatched.
        rows: (p,) detections that overlap an annotation.
        is_matched: (p, T) bool.
        is_ignored: (p, T) bool.
        annotation_images: (m,) image of each annotation that counts.
        annotation_classes: (m,).
    """

    task: str
    fingerprint: str
    num_images: int
    class_names: tuple[str, ...]
    frequency: tuple[str, ...]
    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    counts_unmatched: np.ndarray
    rows: np.ndarray
    is_matched: np.ndarray
    is_ignored: np.ndarray
    annotation_images: np.ndarray
    annotation_classes: np.ndarray


_ARRAYS = (
    *("images", "classes", "scores", "counts_unmatched", "rows", "is_matched", "is_ignored"),
    *("annotation_images", "annotation_classes"),
)


def reduce_matches(ground_truth: GroundTruth, matches: Matches, task: str) -> StoredMatches:
    """Take from the matches what AP over all areas depends on."""
    counts = ~ground_truth.is_ignored
    return StoredMatches(
        task=task,
        fingerprint=fingerprint(ground_truth),
        num_images=ground_truth.num_images,
        class_names=ground_truth.class_names,
        frequency=ground_truth.frequency,
        images=matches.detections.images.astype(np.int32),
        classes=matches.detections.classes.astype(np.int32),
        scores=matches.detections.scores.astype(np.float32),
        counts_unmatched=~matches.is_excused[:, 0],
        rows=matches.rows,
        is_matched=matches.is_matched[:, 0],
        is_ignored=matches.is_ignored[:, 0],
        annotation_images=ground_truth.images[counts].astype(np.int32),
        annotation_classes=ground_truth.classes[counts].astype(np.int32),
    )


def fingerprint(ground_truth: GroundTruth) -> str:
    """A text that two evaluation sets share if their images, classes and boxes are the same.

    Frequency groups are left out: they may come from elsewhere.
    """
    ids = [ground_truth.image_ids, ground_truth.category_ids]
    digest = hashlib.sha256(json.dumps(ids, default=str).encode())
    for part in ("images", "classes", "areas", "boxes", "is_verified", "is_not_exhaustive"):
        digest.update(np.ascontiguousarray(getattr(ground_truth, part)).tobytes())
    return digest.hexdigest()


def write_matches(path: str | Path, stored: StoredMatches) -> None:
    """Write a compressed npz; read it with `read_matches`."""
    header = {
        "version": FILE_VERSION,
        "task": stored.task,
        "fingerprint": stored.fingerprint,
        "num_images": stored.num_images,
        "class_names": stored.class_names,
        "frequency": stored.frequency,
    }
    arrays = {name: getattr(stored, name) for name in _ARRAYS}
    np.savez_compressed(path, header=np.array(json.dumps(header)), **arrays)


def read_matches(path: str | Path) -> StoredMatches:
    """Read what `write_matches` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, something else, or of another version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"Expected matches at {path}, but there is no such file.")
    try:
        with np.load(path, allow_pickle=False) as content:
            header = json.loads(str(content["header"]))
            arrays = {name: content[name] for name in _ARRAYS}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as matches ({error}); it is damaged or something else: "
            "evaluate again."
        ) from error
    if header.pop("version") != FILE_VERSION:
        raise ValueError(f"{path} was written by another version; evaluate again.")
    for name in ("class_names", "frequency"):
        header[name] = tuple(header[name])
    check_class_names(header["class_names"], str(path))
    return StoredMatches(**header, **arrays)
