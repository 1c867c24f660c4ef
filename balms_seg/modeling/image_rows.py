"""What the classifier of whole images is trained on, once its backbone is fixed."""

from __future__ import annotations

from functools import partial
from typing import TypeGuard

import torch

from balms_seg.image_batch import ImageBatch
from balms_seg.job import IMAGE_CLASSIFIER
from balms_seg.modeling.classifier_rows import ClassifierRows, ClassifierView, trains_alone
from balms_seg.modeling.image_classifier import ImageClassifier


def trains_image_classifier_alone(model: torch.nn.Module) -> TypeGuard[ImageClassifier]:
    """Whether all that trains is the last layer of an image classifier."""
    return isinstance(model, ImageClassifier) and trains_alone(model, IMAGE_CLASSIFIER)


@torch.no_grad()
def compute_image_rows(model: ImageClassifier, batch: ImageBatch) -> ClassifierRows:
    """Run the backbone, in the mode that it is in, on a batch without mixed labels.

    Args:
        model: one that `trains_image_classifier_alone`.
        batch: of the training loader.

    Raises:
        ValueError: the batch is of mixup or cutmix, whose rows have no one class.
    """
    if batch.label_mix is not None:
        raise ValueError(
            "Expected one label an image where the classifier alone trains, but the batch is "
            "mixed; set INPUT.IMAGES.MIXUP and CUTMIX to 0."
        )
    batch = batch.to(model.device)
    features = model.features(batch.images)
    return ClassifierRows(
        features=features.float(),
        gt_classes=batch.labels,
        images=torch.arange(len(batch), device=features.device),
    )


def image_classifier_view(model: ImageClassifier) -> ClassifierView:
    """An image classifier that `trains_image_classifier_alone`, seen from its classifier."""
    return ClassifierView(
        layer=model.classifier,
        method=model.method,
        compute_rows=partial(compute_image_rows, model),
        context=lambda rows: model.loss_context(rows.features),
        accuracies=model.accuracies,
    )
