"""A trained detector in use: images in, instances out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from detectron2.data import transforms
from detectron2.structures import Instances

from balms_seg.data.images.image_files import read_image
from balms_seg.engine.checkpoints.read_file import read_entries
from balms_seg.engine.class_checks import CLASSES_KEY
from balms_seg.engine.run import has_class_thresholds, load_model_and_classes

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

    from balms_seg.class_statistics.class_record import ClassRecord


_MIN_SCORE = 0.5  # where nothing says another one


class InstancePredictor:
    """Resizes images as the evaluation of its run does, and keeps what passes the thresholds.

    Attributes:
        classes: what the checkpoint or the training set says of them.
        has_class_thresholds: the model cuts each class at a score of its own.
        min_score: smallest score of what is kept.
        model_floor: the model finds nothing of a lower score.
        num_dropped: detections of the model so far that are below `min_score`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        classes: ClassRecord,
        *,
        min_score: float | None = None,
    ) -> None:
        """Put the parts together; `from_config` makes them.

        Args:
            cfg: configuration of the run.
            model: with its weights loaded.
            classes: of the checkpoint.
            min_score: what is below goes; None for 0.5, or where classes have a threshold of their
                own for that alone.
        """
        self.classes = classes
        self.num_dropped = 0
        self._model = model.eval()
        self.has_class_thresholds = has_class_thresholds(cfg, classes)
        self.model_floor = float(cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
        if min_score is None:
            min_score = 0.0 if self.has_class_thresholds else _MIN_SCORE
        self.min_score = min_score
        self._resize = transforms.ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST
        )
        self._is_bgr = cfg.INPUT.FORMAT == "BGR"
        self._pixel_range = tuple(cfg.INPUT.PIXEL_RANGE)

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        *,
        thresholds: str | Path | None = None,
        min_score: float | None = None,
    ) -> InstancePredictor:
        """Load the detector in MODEL.WEIGHTS.

        Args:
            cfg: its configuration.
            thresholds: thresholds.yaml as `balms-seg thresholds` writes it; None for what the
                configuration has, or else the checkpoint.
            min_score: as for the constructor.

        Raises:
            ValueError: neither the checkpoint nor the training set of the configuration names the
                classes, or the file is another.
        """
        cfg = cfg.clone()
        cfg.defrost()
        if CLASSES_KEY in (read_entries(cfg.MODEL.WEIGHTS) or {}):
            cfg.DATASETS.TRAIN = ()  # it need not be at hand
        cfg.DATASETS.TEST = ()
        if thresholds is not None:
            cfg.MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS = read_thresholds(thresholds)
        given, expected = cfg.MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS, cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if given and len(given) != expected:
            raise ValueError(
                f"Expected {expected} thresholds, one for each class of the model, but got "
                f"{len(given)}; choose them on a run of the same classes."
            )
        model, classes = load_model_and_classes(cfg)
        if classes is None:
            raise ValueError(
                f"{cfg.MODEL.WEIGHTS} does not name its classes, as checkpoints of this package "
                "do, and DATASETS.TRAIN of its configuration is not at hand to name them: say in "
                "DATASETS.REGISTER where that lies. balms-seg demo takes it without."
            )
        return cls(cfg, model, classes, min_score=min_score)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """What is on an image, (H, W, 3) uint8 RGB, in its coordinates."""
        height, width = image.shape[:2]
        ordered = image[:, :, ::-1] if self._is_bgr else image
        resized = self._resize.get_transform(ordered).apply_image(np.ascontiguousarray(ordered))
        pixels = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1).copy())
        inputs = [{"image": pixels, "height": height, "width": width}]
        found = self._model(inputs)[0]["instances"].to("cpu")
        kept = found[found.scores >= self.min_score]
        self.num_dropped += len(found) - len(kept)
        return kept

    def read(self, address: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image file, or of a member of a zip."""
        return read_image(address, pixel_range=self._pixel_range)


def read_thresholds(path: str | Path) -> list[float]:
    """MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS of a fragment of configuration.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds none.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    try:
        return [float(value) for value in content["MODEL"]["ROI_BOX_HEAD"]["CLASS_THRESHOLDS"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS in {path}, as thresholds.yaml of "
            "balms-seg thresholds has it."
        ) from error
