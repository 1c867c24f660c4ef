"""What a run writes its losses and pictures to."""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)
from PIL import Image


def run_writers(output_dir: str, max_iter: int) -> list[EventWriter]:
    """Terminal, metrics.json, and tensorboard's files or, without it, pictures as png.

    Args:
        output_dir: made where missing.
        max_iter: of the run, for the time left.
    """
    os.makedirs(output_dir, exist_ok=True)
    writers = [CommonMetricPrinter(max_iter), JSONWriter(f"{output_dir}/metrics.json")]
    if importlib.util.find_spec("tensorboard"):
        return [*writers, TensorboardXWriter(output_dir)]
    return [*writers, PictureWriter(f"{output_dir}/training_pictures")]


class PictureWriter(EventWriter):
    """Writes the pictures in EventStorage (VIS_PERIOD) to png files, and takes them out of memory.

    Args:
        directory: made with the first picture; a file is called ITERATION_NUMBER_NAME.png.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def write(self) -> None:
        """Write what has come since the last call."""
        storage = get_event_storage()
        numbers: Counter[int] = Counter()
        for name, picture, iteration in storage._vis_data:
            self._directory.mkdir(parents=True, exist_ok=True)
            pixels = torch.as_tensor(picture).detach().cpu().numpy()
            if pixels.dtype != np.uint8:  # then from 0 to 1
                pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
            words = "_".join(re.findall(r"\w+", name.lower()))
            path = self._directory / f"{iteration:07d}_{numbers[iteration]}_{words}.png"
            numbers[iteration] += 1
            Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
        storage.clear_images()
