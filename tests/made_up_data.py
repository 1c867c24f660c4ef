"""A made-up long-tailed data set and a model that trains on it in seconds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from PIL import Image

from balms_seg import ClassStatistics
from balms_seg.engine import load_config
from balms_seg.model_zoo import get_config_file

NUM_CLASSES = 3
IMAGE_SIZE_PX = 64
COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220))
TRAIN_CLASSES = ((0, 1), (0, 2), (0,), (0, 1), (0,), (0,))  # of each image; class 2 in one image
VAL_CLASSES = ((0, 1), (1, 2), (2,))

_numbers = itertools.count()

# The toy model, smaller still.
SMALL = {
    "MODEL.SMALL_RESNET.WIDTHS": [6, 8, 10],
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "MODEL.ROI_HEADS.NUM_CLASSES": NUM_CLASSES,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 4,
    "INPUT.MIN_SIZE_TRAIN": (IMAGE_SIZE_PX,),
    "INPUT.MAX_SIZE_TRAIN": IMAGE_SIZE_PX,
    "INPUT.MIN_SIZE_TEST": IMAGE_SIZE_PX,
    "INPUT.MAX_SIZE_TEST": IMAGE_SIZE_PX,
    "DATALOADER.REPEAT_THRESHOLD": 0.7,
    "SOLVER.AMP.ENABLED": False,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 2,
    "TEST.DETECTIONS_PER_IMAGE": 5,
}


def words(overrides: dict[str, object]) -> list[str]:
    """Overrides as they stand on the command line."""
    return [word for key, value in overrides.items() for word in (key, str(value))]


def write_annotated_images(
    folder: Path, classes: tuple[tuple[int, ...], ...], frequency: str | None = "rcf"
) -> None:
    """Write `folder`.json, LVIS-style, and its images: one rectangle of each class."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(classes))
    images, annotations = [], []
    for image_id, present in enumerate(classes, start=1):
        pixels = rng.integers(90, 130, (IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3), dtype=np.uint8)
        for class_id in present:
            left, top = (int(v) for v in rng.integers(2, 30, 2))
            width, height = (int(v) for v in rng.integers(16, 30, 2))
            right, bottom = left + width, top + height
            pixels[top:bottom, left:right] = COLOURS[class_id]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        images.append(
            {
                "id": image_id,
                "file_name": f"{image_id}.png",
                "height": IMAGE_SIZE_PX,
                "width": IMAGE_SIZE_PX,
                "neg_category_ids": [c + 1 for c in range(NUM_CLASSES) if c not in present],
                "not_exhaustive_category_ids": [],
            }
        )
    categories = [{"id": c + 1, "name": f"class {c}"} for c in range(NUM_CLASSES)]
    for category, letter in zip(categories, reversed(frequency or ""), strict=False):
        category["frequency"] = letter  # class 0 is the frequent one
    content = {"images": images, "annotations": annotations, "categories": categories}
    folder.with_suffix(".json").write_text(json.dumps(content))


def write_data_sets(folder: Path) -> dict[str, object]:
    """Write a training and a validation set; returns the settings that register and use them."""
    number = next(_numbers)  # detectron2's catalogue is global
    entries = []
    for part, classes in (("train", TRAIN_CLASSES), ("val", VAL_CLASSES)):
        write_annotated_images(folder / part, classes)
        name = f"made_up_{number}_{part}"
        entries.append([name, str(folder / f"{part}.json"), str(folder / part)])
    return {
        "DATASETS.REGISTER": entries,
        "DATASETS.TRAIN": (entries[0][0],),
        "DATASETS.TEST": (entries[1][0],),
    }


def small_config(overrides: dict[str, object] | None = None) -> CfgNode:
    """The small model's configuration, without data sets unless the overrides name some."""
    no_data = {"DATASETS.REGISTER": [], "DATASETS.TRAIN": (), "DATASETS.TEST": ()}
    settings = {**SMALL, **no_data, **(overrides or {})}
    return load_config(get_config_file("toy/base.yaml"), words(settings))


def made_up_statistics(num_classes: int = NUM_CLASSES) -> ClassStatistics:
    """Of 100 images; class c is in 60 / (c + 1) of them, twice in each."""
    image_counts = np.array([60 // (c + 1) for c in range(num_classes)])
    return ClassStatistics(
        image_counts=image_counts,
        instance_counts=2 * image_counts,
        num_images=100,
        class_names=tuple(f"class {c}" for c in range(num_classes)),
        group_names=("rare", "common", "frequent"),
        group_ids=np.ones(num_classes, np.int64),
        sampled_counts=2.0 * image_counts * np.arange(1, num_classes + 1) ** 0.5,
    )


# Of methods whose defaults are for more classes, or for rarer ones, than the made-up data have.
METHOD_SETTINGS: dict[str, dict] = {"federated": {"classes": 2}, "bags": {"bounds": (50,)}}


def made_up_batch(num_images: int = 2) -> list[dict]:
    """Model inputs as the training loader makes them, with rectangular masks."""
    generator = torch.Generator().manual_seed(3)
    size = (IMAGE_SIZE_PX, IMAGE_SIZE_PX)
    batch = []
    for index in range(num_images):
        corners = torch.randint(2, 30, (2, 2), generator=generator)
        boxes = torch.cat([corners, corners + 24], dim=1)
        masks = torch.zeros((2, *size), dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
            mask[top:bottom, left:right] = True
        instances = Instances(
            size,
            gt_boxes=Boxes(boxes.float()),
            gt_classes=torch.randint(0, NUM_CLASSES, (2,), generator=generator),
            gt_masks=BitMasks(masks),
        )
        image = torch.randint(0, 255, (3, *size), generator=generator).to(torch.uint8)
        batch.append(
            {
                "image": image,
                "instances": instances,
                "height": size[0],
                "width": size[1],
                "image_id": index,
                "stream_position": index,
            }
        )
    return batch
