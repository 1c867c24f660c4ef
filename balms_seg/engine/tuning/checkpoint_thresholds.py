"""Thresholds of classes, chosen after training, in the checkpoint that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from balms_seg.data.training_set import describe_difference
from balms_seg.durable_files import write_whole
from balms_seg.engine.checkpoints import checksum
from balms_seg.engine.checkpoints.read_file import read_checkpoint
from balms_seg.engine.class_checks import CLASSES_KEY, loaded_classes


def keep_thresholds(path: Path, class_names: Sequence[str], thresholds: Sequence[float]) -> None:
    """Write thresholds into a checkpoint, whose weights stay as they are.

    Args:
        path: of the checkpoint.
        class_names: K, those that the thresholds are of.
        thresholds: K.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it does not name its classes, or others.
    """
    content = read_checkpoint(path)
    classes = loaded_classes(content)
    if classes is None:
        raise ValueError(
            f"{path} does not name its classes, as checkpoints of this package do; give "
            "thresholds.yaml to balms-seg predict --thresholds instead."
        )
    difference = describe_difference(list(classes.names), list(class_names))
    if difference:
        raise ValueError(
            f"The classes of {path} and those that the thresholds are of differ: {difference} "
            "Choose them on a run of this checkpoint."
        )
    content[CLASSES_KEY] = replace(classes, thresholds=tuple(thresholds)).to_plain()
    content[checksum.KEY] = checksum.checksum(content)
    write_whole(path, partial(torch.save, content))
