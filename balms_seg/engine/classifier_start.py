"""How the classifiers of a new run start, as its configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from balms_seg.engine.discriminant_start import start_as_discriminant
from balms_seg.engine.output_folder import require_other_folder
from balms_seg.modeling.classifier_init import (
    start_at_the_prior,
    start_classifiers,
    starts_anew,
)
from balms_seg.modeling.image_classifier import ImageClassifier

if TYPE_CHECKING:
    from collections.abc import Collection

    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics


def start_as_configured(
    model: nn.Module,
    cfg: CfgNode,
    statistics: ClassStatistics,
    *,
    absent_parameters: Collection[str],
) -> None:
    """Apply `MODEL.INIT_CLASSIFIER` and `MODEL.INITIAL_BIAS`, in place.

    Args:
        model: of either job, prepared and with its checkpoint loaded.
        cfg: of the run.
        statistics: of the training set.
        absent_parameters: names of parameters that the checkpoint did not fill.

    Raises:
        ValueError: the run would write over the weights that it starts from.
    """
    require_other_folder(cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR)
    how = cfg.MODEL.INIT_CLASSIFIER
    if how == "discriminant":
        assert isinstance(model, ImageClassifier)  # config/stages.py refuses detectors
        start_as_discriminant(model, cfg)
    else:
        start_classifiers(model, how, seed=cfg.SEED, absent_parameters=absent_parameters)
    if starts_anew(how, absent_parameters) and cfg.MODEL.INITIAL_BIAS == "prior":
        fraction = cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION
        start_at_the_prior(model, statistics, positive_fraction=fraction)
