"""A sheet of the images that a classifier is trained on, each with its class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balms_seg.data.images.contact_sheet import Tile, draw_sheet
from balms_seg.data.images.image_files import read_image
from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.training_set import TrainingSet

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def draw_training_images(
    cfg: CfgNode, training_set: TrainingSet, output_dir: Path, *, num_images: int, source: str
) -> list[Path]:
    """Write one png with training images.

    Args:
        cfg: configuration of an image classifier.
        training_set: of the configuration.
        output_dir: an existing folder.
        num_images: how many; "annotation" gives no more than there are.
        source: "annotation": the images in order; "dataloader": as sampled, augmented and mixed.

    Returns:
        The file written.

    Raises:
        OSError: an image cannot be read.
    """
    make = _annotated if source == "annotation" else _loaded
    sheet = draw_sheet(list(islice(make(cfg, training_set), num_images)))
    path = output_dir / f"{source}.png"
    sheet.save(path)
    return [path]


def _annotated(cfg: CfgNode, training_set: TrainingSet) -> Iterator[Tile]:
    classes = training_set.class_names
    for record in training_set.dicts:
        pixels = read_image(record["file_name"], pixel_range=cfg.INPUT.PIXEL_RANGE)
        yield Tile(pixels, [classes[record["label"]]])


def _loaded(cfg: CfgNode, training_set: TrainingSet) -> Iterator[Tile]:
    loader = build_train_loader(cfg, dataset_dicts=training_set.dicts)
    classes = training_set.class_names
    for batch in loader:
        images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
        for index, label in enumerate(batch.labels.tolist()):
            text = classes[label]
            if batch.label_mix is not None:
                second, share = (values[index].item() for values in batch.label_mix)
                text = f"{share:.2f} {text}, {classes[int(second)]}"
            yield Tile(images[index].astype(np.uint8), [text])
