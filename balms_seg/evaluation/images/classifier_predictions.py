"""What a classifier said of each image, and the files that keep it.

n: images, K: classes, T: the most probable classes that are kept, at most 5.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from balms_seg.csv_files import csv_file

TOP_K = 5

SCHEMA_VERSION = 2
NPZ_FILE = "predictions_classification.npz"
CSV_FILE = "predictions_classification.csv"


@dataclass(frozen=True, eq=False)
class ClassifierPredictions:
    """What a classifier said of each image.

    Attributes:
        samples: (n,) int64 position of the image in its data set.
        keys: (n,) text, the image's identity: its path within the set.
        labels: (n,) int64 in [0, K).
        label_scores: (n,) float64 probability of the label.
        top_classes: (n, T) int64 the most probable classes; of equally probable ones the first.
        top_scores: (n, T) float64 their probabilities, descending.
    """

    samples: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    label_scores: np.ndarray
    top_classes: np.ndarray
    top_scores: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(n,) the most probable class."""
        return self.top_classes[:, 0]

    @property
    def confidences(self) -> np.ndarray:
        """(n,) its probability."""
        return self.top_scores[:, 0]

    @property
    def is_right(self) -> np.ndarray:
        """(n,) bool whether the label is the most probable class."""
        return self.predicted == self.labels

    @property
    def in_top5(self) -> np.ndarray:
        """(n,) bool whether the label is among the five most probable classes."""
        return (self.top_classes == self.labels[:, None]).any(axis=1)

    @classmethod
    def from_probabilities(
        cls,
        probabilities: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        keys: Sequence[str],
    ) -> ClassifierPredictions:
        """Judge probabilities.

        Args:
            probabilities: (n, K).
            labels: (n,) in [0, K).
            samples: (n,).
            keys: n names.
        """
        classes = top_classes(probabilities)
        rows = np.arange(len(labels))
        return cls(
            samples=np.asarray(samples),
            keys=np.array(keys, dtype=np.str_),
            labels=np.asarray(labels),
            label_scores=probabilities[rows, labels].astype(np.float64),
            top_classes=classes,
            top_scores=np.take_along_axis(probabilities, classes, axis=1).astype(np.float64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[ClassifierPredictions]) -> ClassifierPredictions:
        """All parts' images in the order of their data set, whoever predicted them.

        Raises:
            ValueError: an image was predicted twice.
        """
        names = [field.name for field in fields(cls)]
        whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        order = np.argsort(whole["samples"], kind="stable")
        ordered = cls(**{name: values[order] for name, values in whole.items()})
        twice = ordered.samples[1:][np.diff(ordered.samples) == 0]
        if twice.size:
            raise ValueError(
                f"Expected each image to be predicted once, but {twice.size} came again, the first "
                f"at position {twice[0]} of the data set; give the test loader a sampler without "
                "repetition."
            )
        return ordered


@dataclass(frozen=True, eq=False)
class StoredPredictions:
    """Predictions with the names that their numbers stand for.

    Attributes:
        predictions: of n images.
        class_names: K names.
        groups: K frequency groups, "" where unknown.
    """

    predictions: ClassifierPredictions
    class_names: tuple[str, ...]
    groups: tuple[str, ...]


def top_classes(probabilities: np.ndarray, number: int = TOP_K) -> np.ndarray:
    """(n, T) the most probable of (n, K) classes, in order; of equally probable ones the first."""
    number = min(number, probabilities.shape[1])
    rest = np.array(probabilities, copy=True)
    found = np.zeros((len(rest), number), np.int64)
    rows = np.arange(len(rest))
    for place in range(number):  # a sort would order all K, thousands where five are kept
        found[:, place] = rest.argmax(axis=1)
        rest[rows, found[:, place]] = -np.inf
    return found


def write_predictions(folder: Path, stored: StoredPredictions) -> None:
    """Write predictions_classification.npz, and for people a csv."""
    arrays = vars(stored.predictions)
    np.savez_compressed(
        folder / NPZ_FILE,
        schema_version=SCHEMA_VERSION,
        class_names=np.array(stored.class_names, dtype=np.str_),
        groups=np.array(stored.groups, dtype=np.str_),
        **arrays,
    )
    predictions, names = stored.predictions, np.array(stored.class_names)
    write_ranked_csv(
        folder / CSV_FILE,
        predictions.keys.tolist(),
        names[predictions.top_classes].tolist(),
        predictions.top_scores.tolist(),
        labels=names[predictions.labels].tolist(),
    )


def write_ranked_csv(
    path: Path,
    keys: Sequence[str],
    names: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    *,
    labels: Sequence[str] | None = None,
) -> None:
    """Write a line an image: path, label where known, and class and score by rank.

    Args:
        path: file to write.
        keys: n names of images.
        names: the T most probable classes of each.
        scores: their probabilities.
        labels: n names of classes.
    """
    ranks = range(1, len(names[0]) + 1 if names else 1)
    head = [column for rank in ranks for column in (f"class{rank}", f"score{rank}")]
    with csv_file(path) as writer:
        writer.writerow(["path", *([] if labels is None else ["label"]), *head])
        for place, key in enumerate(keys):
            label = [] if labels is None else [labels[place]]
            ranked = zip(names[place], scores[place], strict=True)
            cells = [cell for name, score in ranked for cell in (name, f"{score:.6f}")]
            writer.writerow([key, *label, *cells])


def read_predictions(path: Path) -> StoredPredictions:
    """Read what `write_predictions` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or was written before images had names.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); evaluate again.") from error
    names = [field.name for field in fields(ClassifierPredictions)]
    if int(arrays.get("schema_version", 1)) != SCHEMA_VERSION or not {*names} <= {*arrays}:
        raise ValueError(
            f"{path} was written by another version, which did not name the images; evaluate again "
            "with --eval-only."
        )
    return StoredPredictions(
        ClassifierPredictions(**{name: arrays[name] for name in names}),
        tuple(arrays["class_names"].tolist()),
        tuple(arrays["groups"].tolist()),
    )
