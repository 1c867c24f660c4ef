"""The start of an image classifier as the discriminant of its training images' features."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from detectron2.evaluation import inference_context

from balms_seg.data.loading.image_loader import build_loader_in_order
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.mixed_precision import autocast, half_precision
from balms_seg.modeling.discriminant import FeatureSums, discriminant
from balms_seg.progress import with_progress
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.modeling.image_classifier import ImageClassifier

logger = logging.getLogger(__name__)


@torch.no_grad()
def start_as_discriminant(model: ImageClassifier, cfg: CfgNode) -> None:
    """Set the classifier to the discriminant of DATASETS.TRAIN, in place.

    The set's images are read once more, each rank its share of them, as in evaluation.

    Args:
        model: with its trunk's weights loaded, and a linear classifier.
        cfg: that it was built from.

    Raises:
        ValueError: the features allow no discriminant.
    """
    training_set = build_job(cfg).load_training_set()
    counts = torch.tensor(training_set.statistics.image_counts, device=model.device)
    loader = build_loader_in_order(cfg, list(training_set.dicts), training=True)
    sums = FeatureSums(counts, model.classifier.in_features)
    in_mixed_precision = autocast(model.device.type, half_precision(cfg))
    with inference_context(model):
        for batch in with_progress(loader, label="discriminant", unit="batch"):
            on_device = batch.to(model.device)
            with in_mixed_precision:
                features = model.features(on_device.images)
            sums.add(features, on_device.labels)
    means, covariance = sums.moments()
    shrinkage, scale = cfg.MODEL.INIT_CLASSIFIER_SHRINKAGE, cfg.MODEL.INIT_CLASSIFIER_SCALE
    weights, biases = discriminant(means, covariance, sums.counts, shrinkage=shrinkage)
    model.classifier.weight.copy_(scale * weights)
    model.classifier.bias.copy_(scale * biases)
    logger.info(
        "The classifier starts as %g times the discriminant of %s, with shrinkage %g.",
        *(scale, counted(int(counts.sum()), "image"), shrinkage),
    )
