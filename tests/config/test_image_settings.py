"""What check_config says about the keys of an image classifier."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode, get_cfg

from balms_seg import add_balms_config, check_config
from balms_seg.methods import IMAGE_METHODS, ImageMethodOptions


def with_changes(*overrides: object, architecture: str = "ImageClassifier") -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.merge_from_list(
        [f"MODEL.IMAGE_CLASSIFIER.{v}" if i % 2 == 0 else v for i, v in enumerate(overrides)]
    )
    return cfg


@pytest.mark.parametrize("method", list(IMAGE_METHODS))
def test_every_method_is_accepted(method: str) -> None:
    check_config(with_changes("METHOD", method))


def test_the_keys_declare_the_defaults_of_the_options() -> None:
    node = with_changes().MODEL.IMAGE_CLASSIFIER
    assert ImageMethodOptions.from_config(node) == ImageMethodOptions()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("METHOD", "softmx", "softmax, balanced_softmax"),
        ("CLASSIFIER", "dot", "auto, linear, cosine"),
        ("CB_LOSS", "sigmoid", "softmax, focal"),
        ("FBL_ALPHA", "linear", "released, clipped"),
        ("COSINE_SCALE", 0.0, "above 0"),
        ("FOCAL_GAMMA", -1.0, "0 or more"),
        ("CB_BETA", 1.0, r"\[0, 1\)"),
        ("LDAM_MAX_MARGIN", -0.5, "0 or more"),
        ("DRW_START", 160.0, "share of the run"),
        ("FBL_LAMBDA", -60.0, "0 or more"),
        ("FBL_RAMP", 1.5, "share of the run"),
    ],
)
def test_a_value_that_means_nothing_names_its_key(key: str, value: object, expected: str) -> None:
    cfg = with_changes(key, value)
    with pytest.raises(ValueError, match=rf"MODEL\.IMAGE_CLASSIFIER\.{key} is .*{expected}"):
        check_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # where nothing reads the key
    check_config(cfg)


def test_margins_of_cosines_need_cosines() -> None:
    with pytest.raises(ValueError, match=r"CLASSIFIER is linear.*auto"):
        check_config(with_changes("METHOD", "ldam_drw", "CLASSIFIER", "linear"))
    check_config(with_changes("METHOD", "ldam_drw", "CLASSIFIER", "cosine"))
