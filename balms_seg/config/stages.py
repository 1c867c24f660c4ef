"""What is trained, and from which weights: the stages of a run in several."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from balms_seg.job import classifier_name

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FROZEN_NORM = ("eval", "train")


def add_keys(cfg: CfgNode) -> None:
    """Declare what to train and to start from."""
    # Parameters to train, the rest frozen: names of parameters or modules, fnmatch wildcards.
    # Empty: all. The box classifier: ["roi_heads.box_predictor.cls_score"].
    cfg.MODEL.TRAIN_ONLY = []
    # What becomes of the box classifier of MODEL.WEIGHTS: keep (train on from it, as released for
    # LVIS) | reset (initialise anew; with a class-balanced sampler: cRT) | lws (fixed, with a
    # learned scale a class) | tau_norm (normalised by its weights' norms; --eval-only) |
    # discriminant (of images alone: computed from the features of the training images).
    cfg.MODEL.INIT_CLASSIFIER = "keep"
    # Bias of a new linear classifier: method (what the method starts with) | prior (so that scores
    # start at the classes' shares of the objects, and objects at POSITIVE_FRACTION of the rows).
    cfg.MODEL.INITIAL_BIAS = "method"
    # tau of tau_norm: 0 evens out the biases alone, 1 gives all foreground classes the same norm.
    cfg.MODEL.INIT_CLASSIFIER_TAU = 1.0
    # Share of its mean variance in the covariance of discriminant, above 0 to 1.
    cfg.MODEL.INIT_CLASSIFIER_SHRINKAGE = 0.7
    # Factor on weights and biases of discriminant: small ones leave the training more to say.
    cfg.MODEL.INIT_CLASSIFIER_SCALE = 0.1
    # Normalisation of frozen layers: eval (its statistics stay) | train (it follows the batches, as
    # in the authors' release for classification; no promise of equal results on several ranks).
    cfg.MODEL.FROZEN_NORM = "eval"
    # Configuration, relative to configs/, of the run that makes MODEL.WEIGHTS; for error messages.
    cfg.MODEL.STAGE_ONE_CONFIG = ""


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Starts that cannot be had, or not with what is trained."""
    from balms_seg.modeling.classifier_init import INIT_CLASSIFIERS, INITIAL_BIASES
    from balms_seg.modeling.roi_heads import LONG_TAILED_HEADS, our_heads

    how, tau, trained = (
        cfg.MODEL.INIT_CLASSIFIER,
        cfg.MODEL.INIT_CLASSIFIER_TAU,
        list(cfg.MODEL.TRAIN_ONLY),
    )
    heads = cfg.MODEL.ROI_HEADS.NAME
    found = []
    if how not in INIT_CLASSIFIERS:
        found.append(
            f"MODEL.INIT_CLASSIFIER is {how!r}; expected one of {', '.join(INIT_CLASSIFIERS)}."
        )
    elif how != "keep" and not of_images and heads not in LONG_TAILED_HEADS:
        found.append(
            f"MODEL.INIT_CLASSIFIER is {how!r}, which MODEL.ROI_HEADS.NAME {heads!r} does not "
            f"read; set the name to {our_heads(heads)}."
        )
    if how == "lws" and (not trained or not all(name.endswith(".scale") for name in trained)):
        found.append(
            f"MODEL.INIT_CLASSIFIER is lws, which trains the scales alone, but MODEL.TRAIN_ONLY is "
            f"{trained}; set it to [{classifier_name(of_images)}.scale]."
        )
    if how == "discriminant":
        found += _discriminant_problems(cfg, of_images=of_images)
    if cfg.MODEL.INITIAL_BIAS not in INITIAL_BIASES:
        found.append(
            f"MODEL.INITIAL_BIAS is {cfg.MODEL.INITIAL_BIAS!r}; expected one of "
            f"{', '.join(INITIAL_BIASES)}."
        )
    if tau < 0:
        found.append(f"MODEL.INIT_CLASSIFIER_TAU is {tau}; expected 0 or more.")
    shrinkage, scale = cfg.MODEL.INIT_CLASSIFIER_SHRINKAGE, cfg.MODEL.INIT_CLASSIFIER_SCALE
    if not 0 < shrinkage <= 1:
        found.append(
            f"MODEL.INIT_CLASSIFIER_SHRINKAGE is {shrinkage}; expected a share above 0, at most 1."
        )
    if not 0 < scale < math.inf:
        found.append(f"MODEL.INIT_CLASSIFIER_SCALE is {scale}; expected a number above 0.")
    if cfg.MODEL.FROZEN_NORM not in FROZEN_NORM:
        found.append(
            f"MODEL.FROZEN_NORM is {cfg.MODEL.FROZEN_NORM!r}; expected one of "
            f"{', '.join(FROZEN_NORM)}."
        )
    return found


def _discriminant_problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    from balms_seg.modeling.image_backbones import FEATURES

    how = "MODEL.INIT_CLASSIFIER is discriminant"
    if not of_images:
        return [
            f"{how}, but detectors have background, whose features have no mean that stands for "
            "them; set it to reset."
        ]
    found, own = [], classifier_name(of_images)
    trained = [name.split(".")[0] for name in cfg.MODEL.TRAIN_ONLY]
    trains_it_alone = cfg.MODEL.IMAGE_CLASSIFIER.BACKBONE == FEATURES or set(trained) == {own}
    if not trains_it_alone:
        found.append(
            f"{how}, of features that stay as they are, but the backbone trains; set "
            f"MODEL.TRAIN_ONLY to [{own}]."
        )
    if cfg.MODEL.INITIAL_BIAS == "prior":
        found.append(f"{how}, which has biases of its own; set MODEL.INITIAL_BIAS to method.")
    return found
