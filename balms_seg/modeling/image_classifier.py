"""The classifier of whole images, a meta architecture beside detectron2's detectors.

B images, D features, K classes, C columns of the classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from balms_seg.declared_keys import require_our_keys
from balms_seg.image_batch import ImageBatch
from balms_seg.methods import LossContext, Method, build_method
from balms_seg.modeling.classifier_layer import build_classifier
from balms_seg.modeling.image_backbones import build_image_backbone
from balms_seg.modeling.image_calibration import ImageCalibration
from balms_seg.modeling.loss_context import (
    TrainingSchedule,
    build_context,
    event_storage,
    row_losses,
)
from balms_seg.modeling.scaled_linear import ScaledLinear

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone, a linear or cosine classifier, and the loss of a `Method`.

    Attributes:
        backbone: (B, 3, H, W) to (B, D).
        classifier: (B, D) to (B, C).
        method: the loss, and logits to probabilities.
    """

    classifier: Any  # a module with in_features
    method: Method
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        classifier: nn.Module,
        method: Method,
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
        schedule: TrainingSchedule | None = None,
        channels_last: bool = True,
        calibration: ImageCalibration | None = None,
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
            calibration: of the probabilities in evaluation and use; None: none.
        """
        super().__init__()
        self.calibration = calibration or ImageCalibration()
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
        require_our_keys(cfg)
        settings = cfg.MODEL.IMAGE_CLASSIFIER
        method = build_method(
            cfg.MODEL.METHODS, settings.METHOD, settings.NUM_CLASSES, has_background=False
        )
        backbone: Any = build_image_backbone(
            settings.BACKBONE,
            width=settings.WIDTH,
            pretrained=settings.PRETRAINED and not cfg.MODEL.WEIGHTS,  # which would replace them
            num_features=settings.NUM_FEATURES,
        )
        classifier = build_classifier(
            backbone.out_channels,
            method,
            kind=settings.CLASSIFIER,
            cosine_scale=settings.COSINE_SCALE,
        )
        learns_scales = cfg.MODEL.INIT_CLASSIFIER == "lws"
        return {
            "backbone": backbone,
            "classifier": ScaledLinear(classifier) if learns_scales else classifier,
            "method": method,
            "pixel_mean": tuple(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": tuple(cfg.MODEL.PIXEL_STD),
            "schedule": TrainingSchedule(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH),
            "channels_last": settings.CHANNELS_LAST,
            "calibration": ImageCalibration(
                settings.CALIBRATION.OFFSETS, settings.CALIBRATION.TEMPERATURE
            ),
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
        if not self.training:
            return self.probabilities(batch.images)
        features = self.features(batch.images)
        logits = self.classifier(features)
        storage = event_storage()
        if storage is not None and len(batch):
            for name, share in self.accuracies(logits, batch.labels).items():
                storage.put_scalar(name, share.item())
        return {"loss_cls": self._loss(logits, features, batch)}

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, K) float32 probabilities of what `features` takes."""
        logits = self.classifier(self.features(images))
        return self.calibration(self.method.probabilities(logits.float()))

    def features(self, images: Tensor) -> Tensor:
        """(B, D) features of (B, 3, H, W) images, uint8 or float in [0, 255].

        (B, D) are features already: what the backbone gave, or gave to another program.

        Raises:
            ValueError: they are of another D.
        """
        if images.dim() > 2:
            return self.backbone(self.preprocess_image(images))
        if images.shape[1] != self.classifier.in_features:
            raise ValueError(
                f"Expected {self.classifier.in_features} features an image, but got "
                f"{images.shape[1]}; set MODEL.IMAGE_CLASSIFIER.BACKBONE to the one that they are "
                "of, or to features, and NUM_FEATURES to 0."
            )
        return images.to(self.device).float()

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Take what the method needs from the training set; None: it is only to predict."""
        self.method.prepare(statistics)

    def preprocess_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 255], uint8 or float, to normalised float32 ones."""
        pixels = images.to(self.device).float()
        normalised = (pixels - self.pixel_mean) / self.pixel_std
        return normalised.contiguous(memory_format=self._memory_format)

    def accuracies(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """() share of images that the (B, C) logits decide rightly; see `ClassifierView`."""
        is_right = self.method.decision_scores(logits.detach()).argmax(dim=1) == labels
        return {"accuracy": is_right.double().mean()}

    def loss_context(self, features: Tensor) -> LossContext:
        """What the method is told of images with these (B, D) features."""
        return build_context(self.schedule, features=features)

    def _loss(self, logits: Tensor, features: Tensor, batch: ImageBatch) -> Tensor:
        context = self.loss_context(features)
        losses = row_losses(
            self.method, logits, batch.labels, context, is_trained=torch.is_grad_enabled()
        )
        if batch.label_mix is not None:
            # The second labels are the first ones of other images: running state has them already.
            second, share = batch.label_mix
            of_second = row_losses(self.method, logits, second, context, is_trained=False)
            losses = share * losses + (1 - share) * of_second
        return losses.sum() / max(len(losses), 1)
