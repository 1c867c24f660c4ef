"""What check_config says about the keys of an image classifier."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode, get_cfg

from balms_seg import add_balms_config, check_config
from balms_seg.methods import METHODS


def with_changes(*overrides: object, architecture: str = "ImageClassifier") -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.merge_from_list(
        [f"MODEL.IMAGE_CLASSIFIER.{v}" if i % 2 == 0 else v for i, v in enumerate(overrides)]
    )
    return cfg


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_is_accepted(method: str) -> None:
    cfg = with_changes("METHOD", method)
    cfg.MODEL.METHODS.FEDERATED.CLASSES = 3  # of the few that there are
    check_config(cfg)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("METHOD", "softmx", "softmax, sigmoid, balanced_softmax"),
        ("CLASSIFIER", "dot", "auto, linear, cosine"),
        ("COSINE_SCALE", 0.0, "above 0"),
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


def test_the_scale_of_cosines_is_the_methods_where_it_has_one() -> None:
    with pytest.raises(ValueError, match=r"COSINE_SCALE is 16\.0.*set MODEL\.METHODS\.LDAM\.SCALE"):
        check_config(with_changes("METHOD", "ldam", "COSINE_SCALE", 16.0))
    check_config(with_changes("METHOD", "softmax", "CLASSIFIER", "cosine", "COSINE_SCALE", 16.0))


def test_a_method_of_detectors_is_told_the_key_of_image_classifiers() -> None:
    cfg = with_changes()
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "softmax"
    with pytest.raises(ValueError, match=r"only detectors read.*MODEL\.IMAGE_CLASSIFIER\.METHOD"):
        check_config(cfg)


def with_discriminant(**changes: object) -> CfgNode:
    cfg = with_changes("METHOD", "balanced_softmax")
    cfg.MODEL.INIT_CLASSIFIER = "discriminant"
    cfg.MODEL.TRAIN_ONLY = ["classifier"]
    cfg.merge_from_list([word for pair in changes.items() for word in pair])
    return cfg


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("META_ARCHITECTURE", "GeneralizedRCNN", r"detectors have background"),
        ("TRAIN_ONLY", [], r"backbone trains; set MODEL\.TRAIN_ONLY to \[classifier\]"),
        ("TRAIN_ONLY", ["classifier", "backbone.stem"], "backbone trains"),
        ("INITIAL_BIAS", "prior", r"set MODEL\.INITIAL_BIAS to method"),
        ("IMAGE_CLASSIFIER.METHOD", "sigmoid", "those of sigmoid stand alone"),
        ("IMAGE_CLASSIFIER.CLASSIFIER", "cosine", r"needs a linear classifier"),
        ("INIT_CLASSIFIER_SHRINKAGE", 0.0, "above 0, at most 1"),
        ("INIT_CLASSIFIER_SHRINKAGE", 1.1, "above 0, at most 1"),
        ("INIT_CLASSIFIER_SCALE", 0.0, "a number above 0"),
    ],
)
def test_what_a_discriminant_cannot_start_is_told(key: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        check_config(with_discriminant(**{f"MODEL.{key}": value}))


def test_a_discriminant_starts_a_classifier_of_what_stays_as_it_is() -> None:
    check_config(with_discriminant())
    alone = {"MODEL.TRAIN_ONLY": [], "MODEL.IMAGE_CLASSIFIER.BACKBONE": "features"}
    check_config(with_discriminant(**alone))
