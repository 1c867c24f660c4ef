"""The meta step: what it learns, from what, and which settings it contradicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.job import classifier_name

if TYPE_CHECKING:
    from detectron2.config import CfgNode

META_SAMPLER = "MetaRepeatFactorTrainingSampler"
LEARN = ("auto", "none", "weights", "rates")
OBJECTIVES = ("plain", "balanced")
SOURCES = ("loader", "feature_bank")
BANK_DEVICES = ("", "cpu", "cuda")


def add_keys(cfg: CfgNode) -> None:
    """Declare the META keys."""
    from detectron2.config import CfgNode

    cfg.META = CfgNode()
    # What a meta step learns for each class: none | weights (loss weights, the Meta Reweighter) |
    # rates (sample rates, with MetaRepeatFactorTrainingSampler). auto: weights for BALMSROIHeads,
    # rates with that sampler, else none. none with either is its static control.
    cfg.META.LEARN = "auto"
    # Meta loss: plain (the paper) | balanced (what the released LVIS code computes).
    cfg.META.OBJECTIVE = "plain"
    # Iterations from one meta step to the next.
    cfg.META.PERIOD = 1
    # Images in a meta batch, over all ranks. 0: SOLVER.IMS_PER_BATCH.
    cfg.META.BATCH_SIZE = 0
    # Meta batches: feature_bank (box features of past training batches) | loader (images drawn
    # class-balanced, as published). Equal in AP (docs/results/toy_balms.md); the bank adds a tenth
    # to an iteration, the loader doubles it.
    cfg.META.SOURCE = "feature_bank"
    # Registered data set of the meta loader. Empty: DATASETS.TRAIN.
    cfg.META.DATASET = ""
    # Rows over which class weights are normalised to mean 1: global (of all ranks) | rank (of each
    # rank, as released).
    cfg.META.NORMALISE = "global"
    # Learning rate of Adam on the class parameters psi; 0.001 in the paper, 0.01 as released.
    cfg.META.LR = 0.01
    # Adam's betas for psi.
    cfg.META.BETAS = (0.9, 0.999)
    # L2 penalty on psi, which draws every class back to where it started.
    cfg.META.WEIGHT_DECAY = 0.0
    # How sample rates get their gradient: score (through the draws' probabilities) | gumbel_image
    # (straight-through over the images, as published) | gumbel_class (the same over the classes).
    cfg.META.ESTIMATOR = "score"
    # Temperature of the straight-through estimators' softmax; 1 in the paper.
    cfg.META.TEMPERATURE = 1.0
    # Whole images: class rates start in proportion to 1 / n_c^this. 0: all images equally often,
    # 1: all classes.
    cfg.META.INIT_POW = 0.0
    # Detectors: a class's learned factor g(psi) stays in [1/this, this].
    cfg.META.MAX_FACTOR = 4.0
    # Images drawn at the same rates, a multiple of SOLVER.IMS_PER_BATCH; new rates wait for the
    # next block.
    cfg.META.BLOCK = 1024
    # Global batches that may be drawn ahead of training: new rates wait for the first block that
    # starts at least so many batches later, so that workers (two batches each) change nothing.
    cfg.META.LOOKAHEAD = 16
    cfg.META.BANK = CfgNode()
    # Newest foreground rows that the feature bank keeps of each class, in half precision.
    cfg.META.BANK.PER_CLASS = 32
    # Newest background rows that it keeps.
    cfg.META.BANK.BACKGROUND = 4096
    # Where it lies: cpu | cuda. Empty: the model's device.
    cfg.META.BANK.DEVICE = ""
    # Memory that it may take, in MiB; a larger bank is an error.
    cfg.META.BANK.MAX_MEMORY_MB = 1024


def learned_quantity(cfg: CfgNode) -> str:
    """What the meta step learns for each class, "auto" resolved: none, weights or rates."""
    if cfg.META.LEARN != "auto":
        return cfg.META.LEARN
    if cfg.MODEL.ROI_HEADS.NAME == "BALMSROIHeads":
        return "weights"
    return "rates" if cfg.DATALOADER.SAMPLER_TRAIN == META_SAMPLER else "none"


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
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
    found = [
        f"META.{key} is {meta[key]!r}; expected one of {', '.join(values)}."
        for key, values in allowed.items()
        if meta[key] not in values
    ]
    if meta.BANK.DEVICE not in BANK_DEVICES:
        found.append(
            f"META.BANK.DEVICE is {meta.BANK.DEVICE!r}; expected cpu, cuda, or '' for the model's."
        )
    at_least_one = {"PERIOD": meta.PERIOD, "BLOCK": meta.BLOCK}
    at_least_one |= {f"BANK.{key}": meta.BANK[key] for key in ("PER_CLASS", "MAX_MEMORY_MB")}
    not_negative = {key: meta[key] for key in ("BATCH_SIZE", "LOOKAHEAD", "LR", "WEIGHT_DECAY")}
    not_negative["BANK.BACKGROUND"] = meta.BANK.BACKGROUND
    for lowest, values in ((1, at_least_one), (0, not_negative)):
        found += [
            f"META.{key} is {value}; expected at least {lowest}."
            for key, value in values.items()
            if value < lowest
        ]
    if len(meta.BETAS) != 2 or not all(0 <= beta < 1 for beta in meta.BETAS):
        found.append(f"META.BETAS is {meta.BETAS}; expected two numbers in [0, 1).")
    if not 0 < meta.TEMPERATURE < float("inf"):
        found.append(f"META.TEMPERATURE is {meta.TEMPERATURE}; expected a number above 0.")
    if not 1 < meta.MAX_FACTOR < float("inf"):
        found.append(f"META.MAX_FACTOR is {meta.MAX_FACTOR}; expected a number above 1.")
    if meta.ESTIMATOR == "gumbel_class" and not of_images:
        found.append(
            "META.ESTIMATOR is gumbel_class, which needs images of one class each; set it to score "
            "for a detector."
        )
    if meta.SOURCE == "feature_bank" and meta.DATASET:
        found.append(
            f"META.DATASET is {meta.DATASET!r}, but META.SOURCE feature_bank keeps features of the "
            "training batches; clear it or set META.SOURCE to loader."
        )
    return found


def check_meta_training(cfg: CfgNode, *, of_images: bool) -> None:
    """Stop on settings that training with a meta step cannot have.

    Args:
        cfg: a configuration that passed `check_config`.
        of_images: whether it is one of the image classifier.

    Raises:
        ValueError: names every key to change, one line each.
    """
    learned = learned_quantity(cfg)
    if learned == "none":
        return
    problems = []
    classifier = classifier_name(of_images)
    if list(cfg.MODEL.TRAIN_ONLY) != [classifier]:
        problems.append(
            f"MODEL.TRAIN_ONLY is {list(cfg.MODEL.TRAIN_ONLY)}; the meta step needs a frozen trunk "
            f"and a classifier that trains: set it to ['{classifier}'], and MODEL.WEIGHTS to the "
            "checkpoint of a feature stage."
        )
    is_detector = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    if not of_images and (not is_detector or "Cascade" in cfg.MODEL.ROI_HEADS.NAME):
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
    problems += _bank_problems(cfg)
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


def _bank_problems(cfg: CfgNode) -> list[str]:
    problems: list[str] = []
    if cfg.META.SOURCE != "feature_bank":
        return problems
    if cfg.MODEL.FROZEN_NORM != "eval":
        problems.append(
            f"MODEL.FROZEN_NORM is {cfg.MODEL.FROZEN_NORM!r}, with which features age; META.SOURCE "
            "feature_bank needs eval."
        )
    if cfg.MODEL.PARTIAL_LABELS:
        problems.append(
            "MODEL.PARTIAL_LABELS is True, but META.SOURCE feature_bank does not keep which "
            "classes are known in its rows' images; set it to loader."
        )
    return problems
