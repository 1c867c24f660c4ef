"""Features of registered image sets, computed by a trunk that stays as it is, and kept in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog

from balms_seg.data import load_dataset_dicts
from balms_seg.data.images.feature_files import (
    MADE_FROM,
    holds_features,
    read_feature_file,
    write_feature_file,
)
from balms_seg.data.loading.image_loader import build_image_test_loader
from balms_seg.engine.checkpoints import LongTailedCheckpointer
from balms_seg.engine.mixed_precision import autocast, half_precision
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.modeling.image_classifier import ImageClassifier
from balms_seg.progress import with_progress
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def load_feature_model(cfg: CfgNode) -> ImageClassifier:
    """The image classifier of a configuration, in evaluation mode; of it the backbone counts.

    Raises:
        ValueError: it is of a detector, or nothing says what the backbone's weights are.
        RuntimeError: MODEL.WEIGHTS lacks some of them.
    """
    settings = cfg.MODEL.IMAGE_CLASSIFIER
    if not (cfg.MODEL.WEIGHTS or settings.PRETRAINED):
        raise ValueError(
            "The backbone is at its random initialisation; set MODEL.WEIGHTS to the checkpoint of "
            "a feature stage, or MODEL.IMAGE_CLASSIFIER.PRETRAINED True."
        )
    model = LongTailedTrainer.build_model(_with_a_classifier(cfg))
    if not isinstance(model, ImageClassifier):
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}; features are computed by "
            "ImageClassifier."
        )
    if not cfg.MODEL.WEIGHTS:
        return model.eval()
    checkpointer = LongTailedCheckpointer(model, cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    absent = [name for name in checkpointer.absent_parameters if name.startswith("backbone.")]
    if absent:
        raise RuntimeError(
            f"{cfg.MODEL.WEIGHTS} lacks {counted(len(absent), 'parameter')} of BACKBONE "
            f"{settings.BACKBONE}, for example {absent[0]}; name the backbone that it was trained "
            "with."
        )
    return model.eval()


@torch.no_grad()
def keep_features(cfg: CfgNode, model: ImageClassifier, name: str, path: str | Path) -> bool:
    """Write the features of a registered set's images, unless the file has them.

    The images are as in evaluation; the labels count in the set's own classes.

    Args:
        cfg: what `model` was built from.
        model: see `load_feature_model`.
        name: of the set.
        path: the file, ending in .npz.

    Returns:
        Whether they were computed.

    Raises:
        ValueError: the set is of features itself.
    """
    records = load_dataset_dicts(name)
    if holds_features(records):
        raise ValueError(f"Data set {name!r} is of features already.")
    made_from = _made_from(cfg, model, records)
    if Path(path).is_file() and read_feature_file(path).get(MADE_FROM) == made_from:
        return False
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN, cfg.DATASETS.CLASSES = (name,), []  # labels count in its own classes
    loader = build_image_test_loader(cfg, name)
    in_mixed_precision = autocast(model.device.type, half_precision(cfg))
    parts = []
    for batch in with_progress(
        loader, total=len(loader), label=f"features of {name}", unit="batch"
    ):
        with in_mixed_precision:
            parts.append(model.features(batch.images).float().cpu().numpy())
    metadata = MetadataCatalog.get(name)
    is_named = metadata.get("names_are_known", True)
    write_feature_file(
        path,
        np.concatenate(parts),
        records,
        metadata.thing_classes if is_named else (),
        made_from=made_from,
    )
    return True


def _with_a_classifier(cfg: CfgNode) -> CfgNode:
    """The number of classes does not matter here, and need not be known."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = max(2, cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES)
    return cfg


def _made_from(cfg: CfgNode, model: ImageClassifier, records: Sequence[Mapping[str, Any]]) -> str:
    """A digest of the trunk's weights, of how images are read, and of which they are."""
    digest = hashlib.sha256()
    for key, value in model.backbone.state_dict().items():
        digest.update(key.encode())
        digest.update(value.cpu().numpy().tobytes())
    options = cfg.INPUT.IMAGES
    reading = [
        *(options.SIZE, options.IN_MEMORY, list(cfg.INPUT.PIXEL_RANGE)),
        *(list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD), str(half_precision(cfg))),
    ]
    images = [[record["key"], record["label"]] for record in records]
    digest.update(json.dumps([reading, images]).encode())
    return f"{cfg.MODEL.IMAGE_CLASSIFIER.BACKBONE} {digest.hexdigest()}"
