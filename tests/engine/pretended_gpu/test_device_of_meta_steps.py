"""Meta steps on the device, of boxes and of images; and that a mistake is seen."""

from __future__ import annotations

import importlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_runs import META_RUNS, run_image_training
from image_sets import write_image_sets
from meta_runs import BANK, LEARNED, WEIGHTS, class_values
from runs import run_training

from balms_seg.meta import MetaReweighter

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 4}
ON_IT = ("--num-gpus", "1")


@pytest.mark.parametrize("source", ["loader", "feature_bank"])
@pytest.mark.parametrize("learned", LEARNED)
def test_class_parameters_move_and_resume(
    learned: str, source: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **LEARNED[learned], **(BANK if source == "feature_bank" else {}), **CUDA}
    straight = run_training(settings, tmp_path / "straight", *ON_IT)
    assert class_values(straight).isfinite().all()
    assert len(set(class_values(straight).tolist())) > 1
    run_training({**settings, "SOLVER.MAX_ITER": 2}, tmp_path / "halves", *ON_IT)
    resumed = run_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    torch.testing.assert_close(
        class_values(resumed).cpu(), class_values(straight).cpu(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("run", META_RUNS)
def test_whole_images_have_class_parameters_that_move_and_resume(run: str, tmp_path: Path) -> None:
    same_rates = {"SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.STEPS": ()}
    settings = {**write_image_sets(tmp_path), **META_RUNS[run], **CUDA, **same_rates}
    straight = run_image_training(settings, tmp_path / "straight", *ON_IT)
    assert len(set(class_values(straight).tolist())) > 1
    run_image_training({**settings, "SOLVER.MAX_ITER": 2}, tmp_path / "halves", *ON_IT)
    resumed = run_image_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    torch.testing.assert_close(
        class_values(resumed).cpu(), class_values(straight).cpu(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("scheme", ["DECOUPLED", "LOADER", "BANK", "REFERENCE"])
def test_the_benchmark_of_the_meta_step_runs_there(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tools" / "benchmarks"))
    benchmark = importlib.import_module("benchmark_meta")
    arguments = Namespace(
        config="toy/base.yaml", device="cuda", batch=2, size=(64, 64), classes=3, rows=8
    )
    step = benchmark.build_step(getattr(benchmark, scheme), arguments)
    for _ in range(2):
        step()


def test_a_buffer_that_stays_on_the_cpu_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_mistake(self: Any, has_samples: torch.Tensor, *, warn: bool = True) -> None:
        self.has_meta_samples = has_samples.cpu()

    monkeypatch.setattr(MetaReweighter, "set_meta_classes", with_mistake)
    with pytest.raises(RuntimeError, match="device"):
        run_training({**data, **WEIGHTS, **BANK, **CUDA}, tmp_path, *ON_IT)
