"""Settings of short runs with a meta step, and what is read out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from balms_seg.config.meta_learning import META_SAMPLER
from balms_seg.engine import LongTailedTrainer
from balms_seg.job import BOX_CLASSIFIER as CLASSIFIER

DECOUPLED = {
    "MODEL.TRAIN_ONLY": [CLASSIFIER],
    "DATASETS.TEST": (),
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": (),
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "META.LR": 0.1,
    "META.SOURCE": "loader",
    "META.BLOCK": 4,
    "META.LOOKAHEAD": 8,
}
WEIGHTS = {
    **DECOUPLED,
    "MODEL.ROI_HEADS.NAME": "BALMSROIHeads",
    "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
}
RATES = {**DECOUPLED, "DATALOADER.SAMPLER_TRAIN": META_SAMPLER}  # the softmax form
BANK = {"META.SOURCE": "feature_bank", "META.BANK.PER_CLASS": 5, "META.BANK.BACKGROUND": 7}
LEARNED = {"weights": WEIGHTS, "rates": RATES}


def classifier_weights(trainer: LongTailedTrainer) -> dict[str, Tensor]:
    """Copies of the classifier's weight and bias."""
    state = trainer.model.state_dict()
    return {name: state[f"{CLASSIFIER}.{name}"].clone() for name in ("weight", "bias")}


def class_values(trainer: LongTailedTrainer) -> Tensor:
    """(K,) what has been learned, a copy."""
    return trainer._trainer.meta.learner.values().clone()


def assert_equal_states(one: Any, other: Any, where: str = "") -> None:
    """Nested dicts and lists, tensors bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal_states(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal_states(*pair, f"{where}[{index}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), where
    else:
        assert one == other or (one != one and other != other), where
