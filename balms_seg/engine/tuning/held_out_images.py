"""Images that a classifier was not trained on, and what it says of them.

n: held-out images, K: classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from balms_seg.data import load_dataset_dicts, register_from_config
from balms_seg.data.images.repeated_images import images_of_both
from balms_seg.data.instances.builtin import Records
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.mixed_precision import autocast, half_precision
from balms_seg.engine.run import load_model
from balms_seg.engine.tuning.calibration_search import is_validation_set
from balms_seg.engine.tuning.search_space import CLASS_MIXES
from balms_seg.progress import with_progress
from balms_seg.registered_names import require_registered
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

EVEN, AS_HELD_OUT = CLASS_MIXES


@dataclass(frozen=True, eq=False)
class HeldOutImages:
    """What a classifier says of images that it was not trained on.

    Attributes:
        probabilities: (n, K) float64.
        labels: (n,) int64.
        class_names: K names.
        image_counts: (K,) training images, positive.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_counts: np.ndarray

    @property
    def class_sizes(self) -> np.ndarray:
        """(K,) held-out images of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def weights(self, class_mix: str) -> np.ndarray:
        """(n,) how much each image counts: all the same, or each class the same."""
        if class_mix == AS_HELD_OUT:
            return np.ones(len(self.labels))
        return 1 / self.class_sizes[self.labels]


def record_held_out(cfg: CfgNode, dataset: str, *, allow_validation: bool) -> HeldOutImages:
    """Run the classifier in MODEL.WEIGHTS on a held-out set.

    Raises:
        KeyError: the set is not registered.
        ValueError: the model was trained on images of the set, or results are reported on it.
    """
    if dataset in cfg.DATASETS.TRAIN:
        raise ValueError(
            f"The model was trained on '{dataset}' and is surer there than elsewhere; hold images "
            "out before training, with balms-seg split."
        )
    if not allow_validation and (dataset in cfg.DATASETS.TEST or is_validation_set(dataset)):
        is_named = "is in DATASETS.TEST," if dataset in cfg.DATASETS.TEST else "looks like a set"
        raise ValueError(
            f"'{dataset}' {is_named} on which results are reported: constants tuned there make "
            "them too good. Register other held-out images, or say --allow-validation."
        )
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("Expected MODEL.WEIGHTS PATH after the flags, but got none.")
    register_from_config(cfg)
    require_registered(dataset)
    training_set = build_job(cfg).load_training_set()
    _require_unseen(dataset, training_set.dicts)
    if not allow_validation:
        _require_unreported(dataset, cfg.DATASETS.TEST)
    statistics = training_set.statistics
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.CLASSES = list(statistics.class_names)
    cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = statistics.num_classes
    cfg.MODEL.IMAGE_CLASSIFIER.CALIBRATION.OFFSETS = []
    cfg.MODEL.IMAGE_CLASSIFIER.CALIBRATION.TEMPERATURE = 1.0
    loader = build_job(cfg).build_test_loader(dataset)
    model = load_model(cfg).eval()
    outputs, labels = [], []
    device_type = torch.device(cfg.MODEL.DEVICE).type
    with torch.no_grad(), autocast(device_type, half_precision(cfg)):
        for batch in with_progress(loader, label="predicting", unit="batch"):
            outputs.append(model(batch).double().cpu().numpy())
            labels.append(batch.labels.numpy())
    return HeldOutImages(
        np.concatenate(outputs),
        np.concatenate(labels),
        statistics.class_names,
        statistics.prior_counts("image"),
    )


def _require_unseen(dataset: str, trained_on: Records) -> None:
    """Stop where a set of another name, or a copy, holds images that were trained on."""
    known = _known_images(dataset, trained_on)
    if known:
        raise ValueError(
            f"The model was trained on {known} and is surer there than elsewhere; hold images out "
            "before training, with balms-seg split."
        )


def _require_unreported(dataset: str, names: Sequence[str]) -> None:
    """Likewise, of images that results are reported on, where those are at hand."""
    for name in names:
        try:
            reported = load_dataset_dicts(name)
        except (FileNotFoundError, KeyError) as error:
            logger.info("%s is not looked through for images of %s: %s", name, dataset, error)
            continue
        known = _known_images(dataset, reported)
        if known:
            raise ValueError(
                f"{known} are in '{name}' of DATASETS.TEST, too, on which results are reported: "
                "constants tuned there make them too good. Register other held-out images, or say "
                "--allow-validation."
            )


def _known_images(dataset: str, records: Records) -> str:
    """How many images of a set are among records, by place or byte for byte; "" for none."""
    own = load_dataset_dicts(dataset)
    known = images_of_both(records, own)
    if not known:
        return ""
    return f"{len(known)} of the {counted(len(own), 'image')} of '{dataset}', such as {min(known)},"
