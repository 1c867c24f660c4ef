"""The release's scheme, rebuilt for the benchmark, computes what our meta step computes."""

from __future__ import annotations

import copy
import importlib
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from made_up_data import NUM_CLASSES, made_up_statistics, small_config
from torch import nn

from balms_seg.engine.classifier_step import ClassifierStep
from balms_seg.modeling import replace_box_classifier
from balms_seg.modeling.box_rows import CLASSIFIER
from balms_seg.modeling.freeze import train_only

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's modules."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    names = ("benchmark_meta", "benchmark_meta_reference")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid"}))
    replace_box_classifier(model, "balanced_sigmoid", made_up_statistics())
    return train_only(model.train(), [CLASSIFIER])


def sgd(model: nn.Module) -> torch.optim.SGD:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-4)


def test_both_schemes_learn_the_same_weights_and_classifier(benchmark: SimpleNamespace) -> None:
    model = small_model()
    other = copy.deepcopy(model)
    arguments = SimpleNamespace(batch=2, size=(64, 64), classes=NUM_CLASSES)
    loader, meta_loader = (benchmark.benchmark_meta.MadeUpLoader(arguments, seed=s) for s in (0, 1))
    optimizer = sgd(model)
    meta = benchmark.benchmark_meta.build_meta_step(
        benchmark.benchmark_meta.LOADER, model, optimizer, meta_loader, arguments
    )
    ours = ClassifierStep(model, loader, optimizer, seed=0, meta=meta)
    theirs = benchmark.benchmark_meta_reference.ReferenceScheme(
        other, sgd(other), batches=iter(loader), meta_batches=iter(meta_loader), seeds=(0, 1)
    )
    for ours.iter in range(3):
        with EventStorage(0):
            ours.run_step()
            theirs.run_step()
    psi = meta.learner.reweighter.classes.psi
    assert psi.abs().min() > 0.005
    torch.testing.assert_close(psi, theirs.psi.detach(), rtol=1e-3, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, dict(other.named_parameters())[name])


def test_made_up_loaders_take_turns(benchmark: SimpleNamespace) -> None:
    arguments = SimpleNamespace(batch=1, size=(64, 64), classes=NUM_CLASSES)
    loader = benchmark.benchmark_meta.MadeUpLoader(arguments, seed=0)
    first = list(itertools.islice(loader, 2 * len(loader.batches)))
    assert first[0] is first[len(loader.batches)]
    classes = {tuple(batch[0]["instances"].gt_classes.tolist()) for batch in first}
    assert len(classes) == len(loader.batches)
