"""Defaults that are the published ones: a change of one is a change of the method."""

from __future__ import annotations

import pytest

from balms_seg.methods import METHODS

# By arXiv number: LDAM 1906.07413 (and its code), focal 1708.02002 in the class-balanced loss's
# code, class-balanced 1901.05555, Seesaw 2008.10032, EQL v2 2012.08548, EQL 2003.05176, DropLoss
# 2104.06402 (its code for v1), GOL 2207.10936, EFL 2201.02593, ECM 2301.09724, BACL 2308.02213,
# BAGS 2006.10408, LogN 2203.17020, federated loss 2103.07461 (and detectron2).
PUBLISHED = {
    "ldam": {"max_margin": 0.5, "scale": 30.0},
    "ldam_drw": {"max_margin": 0.5, "scale": 30.0, "beta": 0.9999, "start": 0.8},
    "logit_adjustment": {"tau": 1.0},
    "seesaw": {"p": 0.8, "q": 2.0, "min_score": 0.01},
    "eqlv2": {"gamma": 12.0, "mu": 0.8, "alpha": 4.0},
    "federated": {"classes": 50, "power": 0.5},
    "eql": {"threshold": 0.00177, "prior_probability": 0.001},
    "droploss": {"threshold": 0.0010062, "prior_probability": 0.001},
    "gol": {"threshold": 0.0011},
    "efl": {"gamma": 2.0, "scale": 8.0, "alpha": 0.25, "prior_probability": 0.001},
    "ecm": {"background_ratio": 6.3313},
    "fcbl": {"alpha": 1.0, "threshold": 0.7},
    "bags": {"bounds": (10, 100, 1000), "others_ratio": 8.0},
    "logn": {"momentum": 1e-4},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_methods_defaults_are_the_published_ones(name: str) -> None:
    settings = METHODS[name].Settings()
    assert {key: getattr(settings, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def test_the_gumbel_classifier_starts_at_the_published_bias() -> None:
    assert METHODS["gol"](3, has_background=True).initial_bias == pytest.approx(-2.0)
