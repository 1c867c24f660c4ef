"""A default stands once: what the configuration declares has no second default in a class."""

from __future__ import annotations

import inspect

import pytest

from balms_seg.engine.meta.meta_step import MetaStep
from balms_seg.meta import AdamSettings, ClassParameters, MetaReweighter
from balms_seg.sampling import BoundedLink, MetaRepeatFactorTrainingSampler

# Parts that META keys are handed to, with the parameters that the keys fill.
FILLED = {
    AdamSettings: ("lr", "betas", "weight_decay"),
    ClassParameters: ("settings",),
    MetaReweighter: ("adam", "normalise"),
    BoundedLink: ("max_factor",),
    MetaRepeatFactorTrainingSampler: ("link", "estimator", "block_size", "lookahead", "adam"),
    MetaStep: ("objective", "period"),
}


@pytest.mark.parametrize("part", FILLED, ids=lambda part: part.__name__)
def test_what_a_meta_key_fills_has_no_default_of_its_own(part: type) -> None:
    parameters = inspect.signature(part).parameters
    defaults = {name: parameters[name].default for name in FILLED[part]}
    assert set(defaults.values()) == {inspect.Parameter.empty}, defaults
