"""The classifier of whole images, a meta architecture beside detectron2's detectors.

B images, D features, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from balms_seg.data.images.image_batch import ImageBatch
from balms_seg.methods import IMAGE_METHODS, ImageMethod, ImageMethodOptions, TrainingProgress
from balms_seg.modeling.classifier_init import ScaledLinear
from balms_seg.modeling.cosine_classifier import CosineClassifier
from balms_seg.modeling.image_backbones import build_image_backbone
from balms_seg.modeling.training_counts import statistics_if_available

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone, a linear or cosine classifier, and the loss of an `ImageMethod`.

    Attributes:
        backbone: (B, 3, H, W) to (B, D).
        classifier: (B, D) to (B, K).
        method: the loss, and logits to probabilities.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        classifier: nn.Module,
        method: ImageMethod,
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
        schedule: TrainingSchedule | None = None,
        channels_last: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: see the class.
            classifier: see the class.
            method: see the class.
            pixel_mean: of R, G and B in [0, 255].
            pixel_std: likewise.
            schedule: tells methods how far training is; None: they are not told.
            channels_last: memory format of images and backbone.
        """
        super().__init__()
        self.backbone, self.classifier, self.method = backbone, classifier, method
        self.schedule = schedule
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone.to(memory_format=self._memory_format)
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            shaped = torch.tensor(value, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, shaped, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of `__init__` from a configuration."""
        settings = cfg.MODEL.IMAGE_CLASSIFIER
        statistics = statistics_if_available(cfg)
        method = IMAGE_METHODS[settings.METHOD](
            settings.NUM_CLASSES,
            statistics=statistics,
            options=ImageMethodOptions.from_config(settings),
        )
        backbone = build_image_backbone(
            settings.BACKBONE,
            width=settings.WIDTH,
            pretrained=settings.PRETRAINED and not cfg.MODEL.WEIGHTS,  # which would replace them
        )
        schedule = None
        if statistics is not None:
            schedule = TrainingSchedule(
                max_iter=cfg.SOLVER.MAX_ITER,
                batches_per_epoch=statistics.num_images / cfg.SOLVER.IMS_PER_BATCH,
            )
        return {
            "backbone": backbone,
            "classifier": _build_classifier(cfg, method, backbone.out_channels),
            "method": method,
            "pixel_mean": tuple(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": tuple(cfg.MODEL.PIXEL_STD),
            "schedule": schedule,
            "channels_last": settings.CHANNELS_LAST,
        }

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    def forward(self, batch: ImageBatch) -> dict[str, Tensor] | Tensor:
        """The loss {"loss_cls": scalar} in training, else (B, K) float32 probabilities.

        In training the batch's accuracy goes to the event storage, where there is one.
        """
        batch = batch.to(self.device)
        features = self.backbone(self.preprocess_image(batch.images))
        logits = self.classifier(features)
        if not self.training:
            return self.method.probabilities(logits.float())
        self.log_accuracy(logits, batch.labels)
        return {"loss_cls": self._loss(logits, features, batch)}

    def preprocess_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 255], uint8 or float, to normalised float32 ones."""
        pixels = images.to(self.device).float()
        normalised = (pixels - self.pixel_mean) / self.pixel_std
        return normalised.contiguous(memory_format=self._memory_format)

    def log_accuracy(self, logits: Tensor, labels: Tensor) -> None:
        """Put the share of images whose largest of the (B, K) logits is right into the storage."""
        storage = _event_storage()
        if storage is not None and len(labels):
            is_right = logits.detach().argmax(dim=1) == labels
            storage.put_scalar("accuracy", is_right.float().mean().item())

    def progress(self) -> TrainingProgress | None:
        """How far training is; None outside of it."""
        storage = _event_storage()
        if storage is None or self.schedule is None:
            return None
        return self.schedule.progress(storage.iter)

    def _loss(self, logits: Tensor, features: Tensor, batch: ImageBatch) -> Tensor:
        known = {"features": features, "progress": self.progress()}
        if batch.label_mix is None:
            return self.method.loss(logits, batch.labels, **known)
        second, share = batch.label_mix
        losses = [
            self.method.loss(logits, labels, reduction="none", **known)
            for labels in (batch.labels, second)
        ]
        return (share * losses[0] + (1 - share) * losses[1]).mean()


class TrainingSchedule:
    """Iterations and epochs of a run."""

    def __init__(self, *, max_iter: int, batches_per_epoch: float) -> None:
        """Take the length of the run and of a pass through the training set, in iterations."""
        self.max_iter, self.batches_per_epoch = max_iter, batches_per_epoch

    def progress(self, iteration: int) -> TrainingProgress:
        """Progress at an iteration, counted from 0."""
        return TrainingProgress(
            iteration=iteration,
            max_iter=self.max_iter,
            epoch=int(iteration / self.batches_per_epoch),
            max_epoch=self.max_iter / self.batches_per_epoch,
        )


def _build_classifier(cfg: CfgNode, method: ImageMethod, in_features: int) -> nn.Module:
    settings = cfg.MODEL.IMAGE_CLASSIFIER
    kind = method.classifier_kind if settings.CLASSIFIER == "auto" else settings.CLASSIFIER
    if kind == "cosine":
        return CosineClassifier(in_features, method.num_columns, scale=settings.COSINE_SCALE)
    linear = nn.Linear(in_features, method.num_columns)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.constant_(linear.bias, method.initial_bias)
    return ScaledLinear(linear) if cfg.MODEL.INIT_CLASSIFIER == "lws" else linear


def _event_storage() -> Any | None:
    try:
        return get_event_storage()
    except AssertionError:
        return None
