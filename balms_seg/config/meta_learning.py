"""What the META keys mean together, and which of their values contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.job import classifier_name, classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode

META_SAMPLER = "MetaRepeatFactorTrainingSampler"
LEARN = ("auto", "none", "weights", "rates")
OBJECTIVES = ("plain", "balanced")
SOURCES = ("loader", "feature_bank")
BANK_DEVICES = ("", "cpu", "cuda")


def learned_quantity(cfg: CfgNode) -> str:
    """What the meta step learns for each class, "auto" resolved: none, weights or rates."""
    if cfg.META.LEARN != "auto":
        return cfg.META.LEARN
    if cfg.MODEL.ROI_HEADS.NAME == "BALMSROIHeads":
        return "weights"
    return "rates" if cfg.DATALOADER.SAMPLER_TRAIN == META_SAMPLER else "none"


def meta_problems(cfg: CfgNode) -> list[str]:
    """Values of META keys that mean nothing, or contradict other keys in training and without."""
    from balms_seg.meta.row_weights import NORMALISE
    from balms_seg.sampling import ESTIMATORS

    meta = cfg.META
    allowed = {
        "LEARN": LEARN,
        "OBJECTIVE": OBJECTIVES,
        "SOURCE": SOURCES,
        "NORMALISE": NORMALISE,
        "ESTIMATOR": tuple(ESTIMATORS),
    }
    problems = [
        f"META.{key} is {meta[key]!r}; expected one of {', '.join(values)}."
        for key, values in allowed.items()
        if meta[key] not in values
    ]
    if meta.BANK.DEVICE not in BANK_DEVICES:
        problems.append(
            f"META.BANK.DEVICE is {meta.BANK.DEVICE!r}; expected cpu, cuda, or '' for the model's."
        )
    at_least_one = {"PERIOD": meta.PERIOD, "BLOCK": meta.BLOCK}
    at_least_one |= {f"BANK.{key}": meta.BANK[key] for key in ("PER_CLASS", "MAX_MEMORY_MB")}
    not_negative = {key: meta[key] for key in ("BATCH_SIZE", "LOOKAHEAD", "LR", "WEIGHT_DECAY")}
    not_negative["BANK.BACKGROUND"] = meta.BANK.BACKGROUND
    for lowest, values in ((1, at_least_one), (0, not_negative)):
        problems += [
            f"META.{key} is {value}; expected at least {lowest}."
            for key, value in values.items()
            if value < lowest
        ]
    if len(meta.BETAS) != 2 or not all(0 <= beta < 1 for beta in meta.BETAS):
        problems.append(f"META.BETAS is {meta.BETAS}; expected two numbers in [0, 1).")
    if not 1 < meta.MAX_FACTOR < float("inf"):
        problems.append(f"META.MAX_FACTOR is {meta.MAX_FACTOR}; expected a number above 1.")
    if meta.ESTIMATOR == "gumbel_class" and not classifies_images(cfg):
        problems.append(
            "META.ESTIMATOR is gumbel_class, which needs images of one class each; set it to score "
            "for a detector."
        )
    if meta.SOURCE == "feature_bank" and meta.DATASET:
        problems.append(
            f"META.DATASET is {meta.DATASET!r}, but META.SOURCE feature_bank keeps features of the "
            "training batches; clear it or set META.SOURCE to loader."
        )
    return problems


def check_meta_training(cfg: CfgNode) -> None:
    """Stop on settings that training with a meta step cannot have.

    Args:
        cfg: a configuration that passed `check_config`.

    Raises:
        ValueError: names every key to change, one line each.
    """
    learned = learned_quantity(cfg)
    if learned == "none":
        return
    problems = []
    classifier = classifier_name(cfg)
    if list(cfg.MODEL.TRAIN_ONLY) != [classifier]:
        problems.append(
            f"MODEL.TRAIN_ONLY is {list(cfg.MODEL.TRAIN_ONLY)}; the meta step needs a frozen trunk "
            f"and a classifier that trains: set it to ['{classifier}'], and MODEL.WEIGHTS to the "
            "checkpoint of a feature stage."
        )
    is_detector = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    if not classifies_images(cfg) and (not is_detector or "Cascade" in cfg.MODEL.ROI_HEADS.NAME):
        problems.append(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r} and MODEL.ROI_HEADS.NAME "
            f"{cfg.MODEL.ROI_HEADS.NAME!r}; the meta step unrolls the one linear classifier of "
            "standard heads and no cascade. Set the name to BALMSROIHeads or LongTailedROIHeads."
        )
    if cfg.SOLVER.OPTIMIZER != "SGD":
        problems.append(
            f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; the meta step unrolls SGD, so set it "
            "to SGD."
        )
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        problems.append(
            "SOLVER.CLIP_GRADIENTS.ENABLED is True; the one-step meta gradient does not pass "
            "through clipping, so set it to False."
        )
    if cfg.META.SOURCE == "feature_bank" and cfg.MODEL.FROZEN_NORM != "eval":
        problems.append(
            f"MODEL.FROZEN_NORM is {cfg.MODEL.FROZEN_NORM!r}, with which features age; META.SOURCE "
            "feature_bank needs eval."
        )
    if learned == "rates" and cfg.DATALOADER.SAMPLER_TRAIN != META_SAMPLER:
        problems.append(
            f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN!r}; META.LEARN rates needs "
            f"{META_SAMPLER}."
        )
    is_balms = cfg.MODEL.ROI_HEADS.NAME == "BALMSROIHeads"
    if cfg.META.LEARN == "auto" and is_balms and cfg.DATALOADER.SAMPLER_TRAIN == META_SAMPLER:
        problems.append(
            "META.LEARN is 'auto', but BALMSROIHeads learn weights and "
            f"{META_SAMPLER} learns rates; set it to weights or rates."
        )
    if problems:
        raise ValueError(
            f"Training with a meta step (META.LEARN {cfg.META.LEARN}: {learned}) cannot start:\n  "
            + "\n  ".join([*problems, "Or set META.LEARN to none: no meta step."])
        )
