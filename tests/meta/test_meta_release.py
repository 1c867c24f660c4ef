"""Whole iterations of the Meta Reweighter against those of the authors' release."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from closed_form_residuals import (
    balanced_sigmoid_residuals,
    sigmoid_residuals,
)
from torch import Tensor, nn

from balms_seg.losses import balanced_sigmoid_loss
from balms_seg.meta import (
    AdamSettings,
    MetaReweighter,
    classifier_gradient,
    linear_classifier,
    one_step_meta_gradient,
    sgd_settings,
)
from balms_seg.meta.row_weights import psi_gradient, sum_by_class

GOLDEN = Path(__file__).parents[1] / "golden" / "meta_reweighter.npz"
close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


@pytest.mark.parametrize("objective", ["plain", "balanced"])
def test_iterations_of_the_release_are_reproduced(
    golden: dict[str, Tensor], objective: str
) -> None:
    frequency = golden["frequency"]
    layer = nn.Linear(5, 7, dtype=torch.float64)
    layer.load_state_dict({"weight": golden["weight"], "bias": golden["bias"]})
    groups = [{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    reweighter = MetaReweighter(
        7, AdamSettings(0.3, (0.9, 0.999), 0.0), normalise="global"
    ).double()

    for iteration, lr in enumerate(golden["lrs"].tolist()):
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = lr, 2 * lr
        features, targets, meta_features, meta_targets = (
            golden[name][iteration]
            for name in ("features", "targets", "meta_features", "meta_targets")
        )

        def meta_residuals(logits: Tensor, meta_targets: Tensor = meta_targets) -> Tensor:
            if objective == "plain":
                return sigmoid_residuals(logits, meta_targets)
            return balanced_sigmoid_residuals(logits, meta_targets, frequency)

        classifier = linear_classifier(layer)
        logits = classifier.logits(features)
        residuals = balanced_sigmoid_residuals(logits, targets, frequency)
        rows = reweighter.weigh(targets)
        meta = one_step_meta_gradient(
            classifier,
            sgd_settings(optimizer, layer.parameters()),
            features=features,
            residuals=residuals,
            sample_weights=rows.weights,
            normaliser=len(targets),
            meta_features=meta_features,
            meta_residuals=meta_residuals,
            meta_normaliser=len(meta_targets),
        )
        sums = sum_by_class(meta.sample_weights, targets, 7)
        gradient = psi_gradient(reweighter.classes.psi, sums, rows.scale, rows.count)
        close(gradient, golden[f"{objective}_psi_gradient"][iteration])
        reweighter.step(rows, meta.sample_weights)
        close(reweighter.classes.psi, golden[f"{objective}_psi"][iteration])

        weights = reweighter.weigh(targets).weights
        losses = balanced_sigmoid_loss(logits, targets, frequency, reduction="none")
        close((weights * losses).mean(), golden[f"{objective}_loss"][iteration])
        step = classifier_gradient(features, residuals * (weights / len(targets))[:, None])
        layer.weight.grad, layer.bias.grad = step
        optimizer.step()
        close(layer.weight.detach(), golden[f"{objective}_weight_after"][iteration])
        close(layer.bias.detach(), golden[f"{objective}_bias_after"][iteration])


def test_the_two_objectives_differ(golden: dict[str, Tensor]) -> None:
    """So that the comparison above tells one from the other."""
    assert (golden["plain_psi_gradient"] - golden["balanced_psi_gradient"]).abs().max() > 1e-4
