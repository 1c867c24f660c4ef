"""Pictures of training data, with the frequency group of each instance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.data.images.image_visualization import draw_training_images
from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.training_set import TrainingSet, are_labelled
from balms_seg.decoding import decode_image
from balms_seg.progress import with_progress

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.utils.visualizer import VisImage

    from balms_seg.class_statistics import ClassStatistics

GROUP_COLOURS = tuple(tuple(value / 255 for value in color) for color in GROUP_COLORS)
# Smaller images are enlarged to this longer side (px), so that labels can be read.
_MIN_SIDE_PX = 640


class _Sample(NamedTuple):
    """An image and its instances, as they are drawn."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    boxes: Any
    masks: Any
    classes: list[int]


def draw_training_data(
    cfg: CfgNode,
    training_set: TrainingSet,
    output_dir: Path,
    *,
    num_images: int,
    source: str = "dataloader",
) -> list[Path]:
    """Draw training images with boxes, masks, class names and frequency groups.

    Of whole images with one label each: one sheet of images, each with its class.

    Args:
        cfg: configuration with this package's keys.
        training_set: of the configuration.
        output_dir: where the pictures go; made if it does not exist.
        num_images: how many; "annotation" gives no more than there are.
        source: "annotation" draws the images in order, as annotated, crowd regions included;
            "dataloader" what the training loader gives: sampled, augmented, repeated.

    Returns:
        The files written.

    Raises:
        ValueError: the source is unknown.
        OSError: a file cannot be read or written.
    """
    sources = {"annotation": _annotated_samples, "dataloader": _loaded_samples}
    if source not in sources:
        raise ValueError(f"Expected a source among {', '.join(sources)}, but got {source!r}.")
    output_dir.mkdir(parents=True, exist_ok=True)
    if are_labelled(training_set.dicts):
        return draw_training_images(
            cfg, training_set, output_dir, num_images=num_images, source=source
        )
    paths = []
    samples = islice(sources[source](cfg, training_set), num_images)
    shown = with_progress(samples, label="drawing", unit="image", total=num_images)
    for index, sample in enumerate(shown):
        paths.append(output_dir / f"{index:05d}_{sample.name}.jpg")
        draw_sample(sample, training_set.statistics).save(str(paths[-1]))
    return paths


def draw_sample(sample: _Sample, statistics: ClassStatistics) -> VisImage:
    """One image with its instances, coloured by frequency group."""
    from detectron2.utils.visualizer import Visualizer

    groups = [int(statistics.group_ids[class_id]) for class_id in sample.classes]
    labels = [
        f"{statistics.class_names[class_id]} ({statistics.group_names[group]})"
        for class_id, group in zip(sample.classes, groups, strict=True)
    ]
    scale = max(1.0, _MIN_SIDE_PX / max(sample.image.shape[:2]))
    return Visualizer(sample.image, scale=scale).overlay_instances(
        boxes=sample.boxes,
        masks=sample.masks,
        labels=labels,
        assigned_colors=[GROUP_COLOURS[group] for group in groups],
    )


def _annotated_samples(cfg: CfgNode, training_set: TrainingSet) -> Iterator[_Sample]:
    from detectron2.structures import BoxMode

    for record in training_set.dicts:
        annotations = record["annotations"]
        boxes = [
            BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            for annotation in annotations
        ]
        has_masks = annotations and all("segmentation" in a for a in annotations)
        yield _Sample(
            Path(record["file_name"]).stem,
            decode_image(record["file_name"], pixel_range=cfg.INPUT.PIXEL_RANGE),
            np.array(boxes).reshape(-1, 4),
            [annotation["segmentation"] for annotation in annotations] if has_masks else None,
            [annotation["category_id"] for annotation in annotations],
        )


def _loaded_samples(cfg: CfgNode, training_set: TrainingSet) -> Iterator[_Sample]:
    from detectron2.data.detection_utils import convert_image_to_rgb

    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    for batch in build_train_loader(cfg, dataset_dicts=training_set.dicts):
        for element in batch:
            instances = element["instances"]
            image = element["image"].permute(1, 2, 0).numpy()
            yield _Sample(
                Path(element["file_name"]).stem,
                convert_image_to_rgb(image, cfg.INPUT.FORMAT),
                instances.gt_boxes,
                instances.get("gt_masks") if instances.has("gt_masks") else None,
                instances.gt_classes.tolist(),
            )
