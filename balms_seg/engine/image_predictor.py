"""A trained image classifier in use: images in, names and probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from balms_seg.data.images.image_augmentation import ImageMapper
from balms_seg.data.images.image_files import read_image
from balms_seg.engine.image_export import export_classifier
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.mixed_precision import autocast, half_precision
from balms_seg.engine.run import load_model_and_classes
from balms_seg.engine.run_config import read_run_config
from balms_seg.evaluation.images.classifier_predictions import top_classes
from balms_seg.image_batch import ImageBatch
from balms_seg.modeling.image_classifier import ImageClassifier

_BATCH_SIZE = 32


@dataclass(frozen=True)
class ImageGuess:
    """What a classifier says of one image.

    Attributes:
        path: where the image lies; "" for pixels that were given.
        names: of the most probable classes, at most five, the most probable first.
        scores: their probabilities.
    """

    path: str
    names: tuple[str, ...]
    scores: tuple[float, ...]


class ImagePredictor:
    """Decodes, crops and classifies images as the evaluation of its run does.

    Attributes:
        class_names: K names.
        model: the network, on its device.
    """

    def __init__(self, cfg: CfgNode, model: ImageClassifier, class_names: Sequence[str]) -> None:
        """Put the parts together; `from_checkpoint` makes them.

        Args:
            cfg: configuration of the run.
            model: with its weights loaded.
            class_names: K names, in the order of the model's outputs.
        """
        self.class_names = tuple(class_names)
        self.model = model.eval()
        self._mapper = ImageMapper(cfg, training=False)
        self._pixel_range = tuple(cfg.INPUT.PIXEL_RANGE)
        self._half_precision = half_precision(cfg)
        self._device_type = torch.device(cfg.MODEL.DEVICE).type

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, device: str | None = None, names: Sequence[str] = ()
    ) -> ImagePredictor:
        """Load a trained classifier, with the classes that are in its checkpoint.

        Args:
            path: as for `read_run_config`.
            device: likewise.
            names: K class names in place of the checkpoint's.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is of a detector, or was written before checkpoints had classes.
        """
        return cls.from_config(read_run_config(path, device=device), names=names)

    @classmethod
    def from_config(cls, cfg: CfgNode, *, names: Sequence[str] = ()) -> ImagePredictor:
        """Load the classifier in MODEL.WEIGHTS.

        Args:
            cfg: its configuration.
            names: as for `from_checkpoint`.

        Raises:
            ValueError: likewise.
        """
        if not build_job(cfg).of_images:
            raise ValueError(
                f"{cfg.MODEL.WEIGHTS} is of a detector; balms-seg demo draws what it finds."
            )
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ()  # the data need not be at hand
        names = names or cfg.DATASETS.CLASSES
        model, classes = load_model_and_classes(cfg)
        assert isinstance(model, ImageClassifier)
        names = names or (classes.names if classes is not None else ())
        if not names:
            raise ValueError(
                f"{cfg.MODEL.WEIGHTS} does not name its classes; give them in DATASETS.CLASSES."
            )
        return cls(cfg, model, names)

    def __call__(
        self, images: Iterable[str | Path | np.ndarray], *, batch_size: int = _BATCH_SIZE
    ) -> Iterator[ImageGuess]:
        """Classify images, in their order.

        Args:
            images: paths (members of zips, too: photos.zip/cat/1.jpg), or (H, W, 3) uint8 RGB.
            batch_size: images at once.

        Raises:
            FileNotFoundError: there is no such image.
            OSError: it cannot be read.
        """
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            pixels = [
                image if isinstance(image, np.ndarray) else self.read(image) for image in batch
            ]
            probabilities = self.probabilities(pixels)
            classes = top_classes(probabilities)
            scores = np.take_along_axis(probabilities, classes, axis=1)
            for image, own, likely in zip(batch, classes, scores, strict=True):
                yield ImageGuess(
                    path="" if isinstance(image, np.ndarray) else str(image),
                    names=tuple(self.class_names[number] for number in own),
                    scores=tuple(likely.tolist()),
                )

    @torch.no_grad()
    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(B, K) probabilities of B images, each (H, W, 3) uint8 RGB of any size."""
        pixels = torch.stack([self._mapper.transform(image) for image in images])
        batch = _unlabelled(pixels)
        with autocast(self._device_type, self._half_precision):
            return self.model(batch).float().cpu().numpy()

    def export(self, path: str | Path) -> None:
        """Write the network as a program of torch.export; see `export_classifier`."""
        export_classifier(self.model, self.class_names, self._mapper.size, path)

    def read(self, path: str | Path) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image file, or of a member of a zip."""
        return read_image(str(path), pixel_range=self._pixel_range)


def _unlabelled(pixels: Tensor) -> ImageBatch:
    places = torch.arange(len(pixels))
    unknown = torch.full((len(pixels),), float("nan"), dtype=torch.float64)
    return ImageBatch(pixels, torch.zeros_like(places), places, places, unknown)
