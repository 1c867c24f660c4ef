"""Every method on the device: it trains as on the CPU, nobody waits; and that mistakes are seen."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_cases import build, context_of, logits_of, targets_of
from torch import Tensor
from waits import counted_waits

from balms_seg.methods import METHODS, Method

OTHER_BACKGROUNDS = ("neutral", "factored", "prior")
CASES = [
    *((name, has_background, {}) for name in METHODS for has_background in (True, False)),
    *(("balanced_softmax", True, {"background": form}) for form in OTHER_BACKGROUNDS),
]


def train_a_batch(method: Method, device: str) -> dict[str, Tensor]:
    """What a method makes of a batch on a device, and its state after it."""
    logits = logits_of(method).detach().to(device).requires_grad_()
    targets = targets_of(method).to(device)
    context = context_of(len(targets))
    assert context.features is not None
    context = replace(context, features=context.features.to(device))
    losses = method.training_loss(logits, targets, context)
    losses.sum().backward()
    scores = logits.detach()
    made = {"losses": losses.detach(), "gradient": logits.grad}
    made |= {"probabilities": method.probabilities(scores), **method.state_dict()}
    return {**made, "decision_scores": method.decision_scores(scores)}


@pytest.mark.parametrize(
    ("name", "has_background", "settings"),
    CASES,
    ids=["-".join([n, "boxes" if b else "images", *s.values()]) for n, b, s in CASES],
)
def test_it_trains_as_on_the_cpu_and_nobody_waits(
    name: str, has_background: bool, settings: dict[str, Any]
) -> None:
    here = build(name, has_background=has_background, **settings)
    there = copy.deepcopy(here).to("cuda")
    for _ in range(2):  # the first batch may read what does not change
        expected = train_a_batch(here, "cpu")
        with counted_waits() as waits:
            found = train_a_batch(there, "cuda")
    assert [wait for wait in waits if wait.ours] == []
    assert {value.device.type for value in found.values()} == {"cuda"}
    on_host = {key: value.cpu() for key, value in found.items()}
    torch.testing.assert_close(on_host, expected, rtol=1e-4, atol=1e-5)


def test_a_mask_that_stays_on_the_cpu_is_seen() -> None:
    with pytest.raises(RuntimeError, match="device"):
        train_a_batch(build("eql"), "cuda")


def test_a_draw_that_is_copied_from_pageable_memory_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balms_seg.methods.federated.sent", lambda tensor, to: tensor.to(to))
    method = build("federated").to("cuda")
    with counted_waits() as waits:
        train_a_batch(method, "cuda")
    assert any(wait.ours.startswith("methods/federated.py") for wait in waits)
