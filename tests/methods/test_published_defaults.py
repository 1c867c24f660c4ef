"""Defaults that are the published ones: a change of one is a change of the method."""

from __future__ import annotations

import pytest

from balms_seg.methods import METHODS

# By arXiv number: LDAM 1906.07413 (and its code), focal 1708.02002 in the class-balanced loss's
# code, class-balanced 1901.05555, Seesaw 2008.10032, EQL v2 2012.08548.
PUBLISHED = {
    "ldam": {"max_margin": 0.5, "scale": 30.0},
    "ldam_drw": {"max_margin": 0.5, "scale": 30.0, "beta": 0.9999, "start": 0.8},
    "logit_adjustment": {"tau": 1.0},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_methods_defaults_are_the_published_ones(name: str) -> None:
    settings = METHODS[name].Settings()
    assert {key: getattr(settings, key) for key in PUBLISHED[name]} == PUBLISHED[name]
