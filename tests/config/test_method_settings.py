"""Settings of methods as keys: declared by the method, checked by it, and where they have moved."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from balms_seg import add_balms_config, check_config
from balms_seg.config.methods import MOVED_KEYS
from balms_seg.engine import load_config
from balms_seg.methods import METHODS, Method, settings_from

every_method = pytest.mark.parametrize("name", list(METHODS))


def default_config() -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    return cfg


def key_exists(cfg: CfgNode, key: str) -> bool:
    node: object = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return False
        node = node[part]
    return True


@every_method
def test_the_keys_of_a_method_are_its_settings_with_their_defaults(name: str) -> None:
    cfg = default_config()
    declared = {field.name.upper() for field in fields(METHODS[name].Settings)}
    assert set(cfg.MODEL.METHODS[name.upper()]) == declared
    assert settings_from(cfg.MODEL.METHODS, name) == METHODS[name].Settings()


@every_method
def test_every_setting_has_its_line_in_the_docstring(name: str) -> None:
    text = METHODS[name].Settings.__doc__
    assert all(f"\n            {field.name}: " in text for field in fields(METHODS[name].Settings))


@pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))
def test_a_method_is_one_file_and_one_line(method: type[Method]) -> None:
    package = Path(importlib.import_module("balms_seg").__file__).parent
    names = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if f"class {method.__name__}(" in path.read_text(encoding="utf-8")
    ]
    assert len(names) == 1
    table = (package / "methods" / "__init__.py").read_text(encoding="utf-8")
    assert table.count(f": {method.__name__},\n") == 1


@pytest.mark.parametrize("old", list(MOVED_KEYS))
def test_a_key_that_has_moved_names_the_new_one(
    old: str, tmp_path: Path, toy_config: Callable[..., CfgNode]
) -> None:
    for new in MOVED_KEYS[old].split(" and "):
        assert key_exists(default_config(), new), new
    assert not key_exists(default_config(), old)
    with pytest.raises(KeyError, match="The command line sets .* has moved; use MODEL.METHODS"):
        toy_config(old, "1")
    node = "1"
    for part in reversed(old.split(".")):
        node = f"{{{part}: {node}}}"
    path = tmp_path / "old.yaml"
    path.write_text(node)
    with pytest.raises(KeyError, match=rf"old\.yaml sets {old}, which has moved; use MODEL"):
        load_config(path)
    with pytest.raises(KeyError, match=r"renamed to MODEL\.METHODS"):  # scripts of their own
        default_config().merge_from_file(str(path))


@pytest.fixture
def toy_config(tmp_path: Path) -> Callable[..., CfgNode]:
    empty = tmp_path / "empty.yaml"
    empty.write_text("SEED: 1\n")
    return lambda *overrides: load_config(empty, overrides)


def test_a_setting_is_set_from_the_command_line(toy_config: Callable[..., CfgNode]) -> None:
    cfg = toy_config("MODEL.METHODS.LDAM_DRW.MAX_MARGIN", "0.25")
    settings = settings_from(cfg.MODEL.METHODS, "ldam_drw")
    assert (settings.max_margin, settings.scale) == (0.25, 30.0)
    assert settings_from(cfg.MODEL.METHODS, "ldam").max_margin == 0.5


def test_settings_of_methods_that_are_not_chosen_are_checked_too(
    toy_config: Callable[..., CfgNode],
) -> None:
    with pytest.raises(ValueError, match=r"METHODS\.FOCAL\.GAMMA is -1.0; expected 0 or more"):
        toy_config("MODEL.METHODS.FOCAL.GAMMA", "-1.0")


def test_more_sampled_classes_than_there_are_name_the_key(
    toy_config: Callable[..., CfgNode],
) -> None:
    words = ("MODEL.ROI_HEADS.NAME", "LongTailedROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER")
    with pytest.raises(ValueError, match=r"FEDERATED\.CLASSES is 50; expected at most 12, as"):
        toy_config(*words, "federated", "MODEL.ROI_HEADS.NUM_CLASSES", "12")
    toy_config(*words, "federated", "MODEL.ROI_HEADS.NUM_CLASSES", "50")
    toy_config(*words, "softmax", "MODEL.ROI_HEADS.NUM_CLASSES", "12")


def test_a_bias_from_the_prior_needs_a_bias(toy_config: Callable[..., CfgNode]) -> None:
    words = ("MODEL.ROI_HEADS.NAME", "LongTailedROIHeads", "MODEL.INITIAL_BIAS", "prior")
    choice = "MODEL.ROI_BOX_HEAD.CLASSIFIER"
    toy_config(*words, choice, "softmax")
    with pytest.raises(ValueError, match="INITIAL_BIAS is prior, but a classifier of cosines has"):
        toy_config(*words, choice, "ecm")
    toy_config(*words, choice, "ecm", "MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER", "linear")
    with pytest.raises(ValueError, match="INITIAL_BIAS is 'zero'; expected one of method, prior"):
        toy_config("MODEL.INITIAL_BIAS", "zero")


def test_weights_by_name_are_set_from_the_command_line(
    toy_config: Callable[..., CfgNode],
) -> None:
    key = "MODEL.METHODS.CLASS_WEIGHTS.BY_NAME"
    cfg = toy_config(key, "[['red panda', 2.0], ['cow', 0.5]]")
    pairs = settings_from(cfg.MODEL.METHODS, "class_weights").by_name
    assert [tuple(pair) for pair in pairs] == [("red panda", 2.0), ("cow", 0.5)]
    with pytest.raises(ValueError, match=r"BY_NAME is .*; expected pairs of a class's name and"):
        toy_config(key, "['red panda', 'cow']")


def test_a_mapping_of_weights_by_name_is_told_as_the_pairs_to_write(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_text("MODEL: {METHODS: {CLASS_WEIGHTS: {BY_NAME: {zebra: 2.0, red panda: 3}}}}")
    with pytest.raises(
        ValueError, match=r"write its pairs, \[\['zebra', 2.0\], \['red panda', 3\]"
    ):
        load_config(path)
    words = ["MODEL.METHODS.CLASS_WEIGHTS.BY_NAME", "{'zebra': 2.0}"]
    with pytest.raises(ValueError, match=r"BY_NAME is \{.*such as \[\['zebra', 2.0\]\]"):
        load_config("toy/base.yaml", words)


def test_a_method_that_is_not_known_asks_for_its_module(
    toy_config: Callable[..., CfgNode],
) -> None:
    with pytest.raises(KeyError, match=r"no method 'balanced_softmx'; did you mean BALANCED_S"):
        toy_config("MODEL.METHODS.BALANCED_SOFTMX.PRIOR", "image")
    with pytest.raises(KeyError, match="no method 'mine'; A method of your own.*--import MODULE"):
        toy_config("MODEL.METHODS.MINE.STRENGTH", "2.0")


def test_a_method_registered_too_late_says_so() -> None:
    cfg = default_config()
    del cfg.MODEL.METHODS["FOCAL"]
    with pytest.raises(KeyError, match=r"register the method 'focal' before add_balms_config"):
        settings_from(cfg.MODEL.METHODS, "focal")
    check_config(cfg)  # which is of the methods that were known then


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS", [0.5] * 80), "CLASS_THRESHOLDS"),
        (("MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD", "norcal"), "CALIBRATION.METHOD"),
    ],
)
def test_what_detectron2s_heads_do_not_read_is_refused(words: tuple, key: str) -> None:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.merge_from_list(list(words))
    with pytest.raises(ValueError, match=rf"{key} is set, but MODEL.ROI_HEADS.NAME"):
        check_config(cfg)
