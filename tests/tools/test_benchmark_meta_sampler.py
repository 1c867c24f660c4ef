"""The release's Meta Sampler, rebuilt for the benchmark, computes what the release computed."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

TESTS = Path(__file__).resolve().parents[1]
SMALL = Namespace(
    images=400, classes=6, features=5, batch=16, meta_batch=12, device="cpu", threads=1
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.setattr(sys, "path", [str(TESTS.parent / "tools" / "benchmarks"), *sys.path])
    names = ("benchmark_meta_sampler", "benchmark_meta_sampler_reference")
    return {name: importlib.import_module(name) for name in names}


def test_the_rebuilt_scheme_reproduces_the_release(benchmark: dict[str, ModuleType]) -> None:
    with np.load(TESTS / "golden" / "meta_sampler.npz") as content:
        golden = {name: torch.from_numpy(content[name]) for name in content.files}
    layer = nn.Linear(4, 5, dtype=torch.float64)
    layer.load_state_dict({name: golden[name] for name in ("weight", "bias")})
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)
    drawn: list[Tensor] = []

    def images(indices: Tensor) -> tuple[Tensor, Tensor]:
        drawn.append(indices)
        return golden["features"][indices], golden["labels"][indices]

    meta_batches = zip(golden["meta_features"], golden["meta_targets"], strict=True)
    scheme = benchmark["benchmark_meta_sampler_reference"].ReferenceMetaSampler(
        layer,
        optimizer,
        labels=golden["labels"],
        counts=golden["counts"],
        images=images,
        meta_images=lambda: next(meta_batches),
        batch_size=6,
        meta_lr=0.3,
    )
    for iteration, lr in enumerate(golden["lrs"].tolist()):
        optimizer.param_groups[0]["lr"] = lr
        torch.manual_seed(100 + iteration)
        scheme.run_step()
        assert torch.equal(drawn[iteration], golden["flat_indices"][iteration])
        for value, name in (
            (scheme.psi, "psi"),
            (layer.weight, "weight_after"),
            (layer.bias, "bias_after"),
        ):
            expected = golden[f"flat_{name}"][iteration]
            torch.testing.assert_close(value.detach(), expected, rtol=0, atol=1e-9)


def test_made_up_counts_have_the_sum_and_the_ends_of_imagenet_lt(
    benchmark: dict[str, ModuleType],
) -> None:
    counts = benchmark["benchmark_meta_sampler"].long_tailed_counts(115_846, 1000)
    assert counts.sum() == 115_846
    assert counts[-1] in (4, 5)
    assert counts[0] == pytest.approx(1280, rel=0.02)
    assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("scheme", ["score", "gumbel_class", "gumbel_image", "no sampler"])
def test_every_scheme_trains_the_classifier(scheme: str, benchmark: dict[str, ModuleType]) -> None:
    module = benchmark["benchmark_meta_sampler"]
    problem = module.Problem(SMALL)
    assert problem.counts.sum() == SMALL.images
    step = module.OurStep(problem, None if scheme == module.PLAIN else scheme)
    before = problem.layer.weight.detach().clone()
    for _ in range(3):
        step.run_step()
    assert (problem.layer.weight - before).abs().max() > 1e-3
    if step.meta is not None:
        assert (step.meta.learner.values() - 0.5).abs().max() > 1e-3
