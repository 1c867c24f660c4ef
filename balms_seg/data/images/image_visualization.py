"""A sheet of the images that a classifier is trained on, each with its class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balms_seg.data.images.contact_sheet import Tile, draw_sheet
from balms_seg.data.images.image_files import read_image
from balms_seg.data.instances.builtin import read_once
from balms_seg.data.loading.train_loader import build_train_loader
from balms_seg.data.training_set import get_training_dicts, training_classes

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def draw_training_images(
    cfg: CfgNode, output_dir: Path, *, num_images: int, source: str
) -> list[Path]:
    """Write one png with images of DATASETS.TRAIN.

    Args:
        cfg: configuration of an image classifier whose sets are registered.
        output_dir: an existing folder.
        num_images: how many; "annotation" gives no more than there are.
        source: "annotation": the images in order; "dataloader": as sampled, augmented and mixed.

    Returns:
        The file written.

    Raises:
        ValueError: the training set cannot be used.
        OSError: an image cannot be read.
    """
    with read_once():
        tiles = _annotated(cfg) if source == "annotation" else _loaded(cfg)
        sheet = draw_sheet(list(islice(tiles, num_images)))
    path = output_dir / f"{source}.png"
    sheet.save(path)
    return [path]


def _annotated(cfg: CfgNode) -> Iterator[Tile]:
    records, classes = get_training_dicts(cfg), training_classes(cfg)
    for record in records:
        pixels = read_image(record["file_name"], pixel_range=cfg.INPUT.PIXEL_RANGE)
        yield Tile(pixels, [classes[record["label"]]])


def _loaded(cfg: CfgNode) -> Iterator[Tile]:
    loader, classes = build_train_loader(cfg), training_classes(cfg)
    for batch in loader:
        images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
        for index, label in enumerate(batch.labels.tolist()):
            text = classes[label]
            if batch.label_mix is not None:
                second, share = (values[index].item() for values in batch.label_mix)
                text = f"{share:.2f} {text}, {classes[int(second)]}"
            yield Tile(images[index].astype(np.uint8), [text])
