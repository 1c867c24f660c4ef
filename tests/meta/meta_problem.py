"""A small linear classifier with training and meta rows, and ranks that are threads."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from closed_form_residuals import (
    balanced_sigmoid_residuals,
    balanced_softmax_residuals_with_background,
    sigmoid_residuals,
    softmax_residuals,
)
from torch import Tensor, nn

from balms_seg.losses import (
    balanced_sigmoid_loss,
    balanced_softmax_loss_with_background,
    sigmoid_loss,
)

NUM_CLASSES, NUM_FEATURES = 6, 4
FREQUENCY = torch.tensor([0.5, 0.3, 0.1, 0.02, 0.005, 0.001], dtype=torch.float64)
COUNTS = 1000 * FREQUENCY

# form -> (training loss, its residuals, meta loss, its residuals), losses with reduction="none"
FORMS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "sigmoid": (
        lambda z, y: balanced_sigmoid_loss(z, y, FREQUENCY, reduction="none"),
        lambda z, y: balanced_sigmoid_residuals(z, y, FREQUENCY),
        lambda z, y: sigmoid_loss(z, y, reduction="none"),
        sigmoid_residuals,
    ),
    "softmax": (
        lambda z, y: balanced_softmax_loss_with_background(
            z, y, COUNTS, background="factored", reduction="none"
        ),
        lambda z, y: balanced_softmax_residuals_with_background(
            z, y, COUNTS, background="factored"
        ),
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
        softmax_residuals,
    ),
}


@dataclass
class Problem:
    """Rows of a training and a meta batch, and a classifier for them."""

    form: str
    layer: nn.Linear
    features: Tensor
    targets: Tensor
    weights: Tensor
    meta_features: Tensor
    meta_targets: Tensor

    def train_loss(self, weights: Tensor, logits: Tensor) -> Tensor:
        losses = FORMS[self.form][0](logits, self.targets)
        return (weights * losses).sum() / len(self.targets)

    def meta_loss(self, logits: Tensor) -> Tensor:
        return FORMS[self.form][2](logits, self.meta_targets).sum() / len(self.meta_targets)

    def meta_loss_after_a_real_step(
        self, optimizer: torch.optim.Optimizer, weights: Tensor
    ) -> tuple[Tensor, nn.Linear]:
        """Run torch's optimiser on copies."""
        layer, optimizer = copy.deepcopy((self.layer, optimizer))
        optimizer.zero_grad()
        self.train_loss(weights, layer(self.features)).backward()
        optimizer.step()
        return self.meta_loss(layer(self.meta_features)).detach(), layer

    def rows(self, part: slice = slice(None)) -> dict[str, Any]:
        """Arguments of `one_step_meta_gradient`, for a part of the rows."""
        _, residuals, _, meta_residuals = FORMS[self.form]
        features, targets = self.features[part], self.targets[part]
        return {
            "features": features,
            "residuals": residuals(self.layer(features), targets),
            "sample_weights": self.weights[part],
            "normaliser": len(self.targets),
            "meta_features": self.meta_features[part],
            "meta_residuals": lambda logits: meta_residuals(logits, self.meta_targets[part]),
            "meta_normaliser": len(self.meta_targets),
        }


def make_problem(form: str = "sigmoid", *, num_rows: int = 12, seed: int = 0) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def classes() -> Tensor:
        targets = torch.randint(0, NUM_CLASSES + 1, (num_rows,), generator=generator)
        targets[::4] = NUM_CLASSES  # background
        return targets

    columns = NUM_CLASSES if form == "sigmoid" else NUM_CLASSES + 1
    layer = nn.Linear(NUM_FEATURES, columns, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(normal(columns, NUM_FEATURES))
        layer.bias.copy_(normal(columns))
    return Problem(
        form=form,
        layer=layer,
        features=normal(num_rows, NUM_FEATURES),
        targets=classes(),
        weights=torch.rand(num_rows, generator=generator, dtype=torch.float64) + 0.2,
        meta_features=normal(num_rows, NUM_FEATURES),
        meta_targets=classes(),
    )


def on_ranks(
    work: Callable[[int, Callable[[Tensor], Tensor]], Any], *, num_ranks: int = 2
) -> list[Any]:
    """Run `work(rank, sum_over_ranks)` on every rank at once; ranks are threads."""
    barrier = threading.Barrier(num_ranks, timeout=20)
    parts: dict[int, Tensor] = {}

    def run(rank: int) -> Any:
        def sum_over_ranks(tensor: Tensor) -> Tensor:
            parts[rank] = tensor
            barrier.wait()
            total = torch.stack([parts[each] for each in range(num_ranks)]).sum(dim=0)
            barrier.wait()
            return total

        return work(rank, sum_over_ranks)

    with ThreadPoolExecutor(num_ranks) as pool:
        return list(pool.map(run, range(num_ranks)))
