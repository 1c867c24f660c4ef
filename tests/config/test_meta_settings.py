"""What a run with a meta step needs, and what META.LEARN auto means."""

from __future__ import annotations

import re

import pytest
from made_up_data import small_config

from balms_seg.config.meta_learning import META_SAMPLER, check_meta_training, learned_quantity

READY = {
    "MODEL.TRAIN_ONLY": ["roi_heads.box_predictor.cls_score"],
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
}
BALMS = {"MODEL.ROI_HEADS.NAME": "BALMSROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER": ""}
RATES = {"DATALOADER.SAMPLER_TRAIN": META_SAMPLER}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "none"),
        (BALMS, "weights"),
        (RATES, "rates"),
        ({**BALMS, "META.LEARN": "none"}, "none"),
        ({**RATES, "META.LEARN": "none"}, "none"),
        ({"META.LEARN": "weights"}, "weights"),
        ({**BALMS, **RATES, "META.LEARN": "rates"}, "rates"),
    ],
)
def test_auto_means_what_heads_or_sampler_say(settings: dict, expected: str) -> None:
    cfg = small_config({**READY, **settings})
    assert learned_quantity(cfg) == expected
    check_meta_training(cfg, of_images=cfg.MODEL.META_ARCHITECTURE == "ImageClassifier")


@pytest.mark.parametrize("learned", [BALMS, RATES], ids=["weights", "rates"])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SOLVER.OPTIMIZER": "AdamW"}, "SOLVER.OPTIMIZER"),
        ({"SOLVER.CLIP_GRADIENTS.ENABLED": True}, "SOLVER.CLIP_GRADIENTS.ENABLED"),
        ({"MODEL.TRAIN_ONLY": []}, "MODEL.TRAIN_ONLY is []"),
        ({"MODEL.TRAIN_ONLY": ["roi_heads.box_predictor"]}, "MODEL.TRAIN_ONLY"),
        (
            {
                "MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads",
                "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
                "META.LEARN": "weights",
            },
            "MODEL.ROI_HEADS.NAME",
        ),
        ({"META.LEARN": "rates", "DATALOADER.SAMPLER_TRAIN": "TrainingSampler"}, "SAMPLER_TRAIN"),
        ({"META.SOURCE": "feature_bank", "MODEL.FROZEN_NORM": "train"}, "MODEL.FROZEN_NORM"),
        ({**BALMS, **RATES}, "learns rates; set it to weights or rates"),
    ],
)
def test_what_a_meta_run_cannot_have_names_its_key(
    settings: dict, named: str, learned: dict
) -> None:
    cfg = small_config({**READY, **learned, **settings})
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        check_meta_training(cfg, of_images=cfg.MODEL.META_ARCHITECTURE == "ImageClassifier")
    assert "set META.LEARN to none" in str(error.value)


def test_the_static_control_needs_nothing() -> None:
    check_meta_training(small_config({**BALMS, **RATES, "META.LEARN": "none"}), of_images=False)
