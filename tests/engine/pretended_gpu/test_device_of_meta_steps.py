"""Meta steps on the device, of boxes and of images; and that a mistake is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from image_runs import META_RUNS, run_image_training
from image_sets import write_image_sets
from meta_runs import BANK, LEARNED, WEIGHTS, class_values
from runs import copy_interrupted, run_training

from balms_seg.meta import MetaReweighter

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 2}
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
    copy_interrupted(tmp_path / "straight", tmp_path / "halves", "model_0000001.pth")
    resumed = run_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    assert resumed.start_iter == 2
    torch.testing.assert_close(
        class_values(resumed).cpu(), class_values(straight).cpu(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("run", META_RUNS)
def test_whole_images_have_class_parameters_that_move_and_resume(run: str, tmp_path: Path) -> None:
    settings = {**write_image_sets(tmp_path), **META_RUNS[run], **CUDA}
    straight = run_image_training(settings, tmp_path / "straight", *ON_IT)
    assert len(set(class_values(straight).tolist())) > 1
    copy_interrupted(tmp_path / "straight", tmp_path / "halves", "model_0000001.pth")
    resumed = run_image_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    assert resumed.start_iter == 2
    torch.testing.assert_close(
        class_values(resumed).cpu(), class_values(straight).cpu(), rtol=1e-4, atol=1e-5
    )


def test_a_buffer_that_stays_on_the_cpu_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_mistake(self: Any, has_samples: torch.Tensor, *, warn: bool = True) -> None:
        self.has_meta_samples = has_samples.cpu()

    monkeypatch.setattr(MetaReweighter, "set_meta_classes", with_mistake)
    with pytest.raises(RuntimeError, match="device"):
        run_training({**data, **WEIGHTS, **BANK, **CUDA}, tmp_path, *ON_IT)


def test_weights_of_drawn_images_that_stay_on_the_cpu_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.engine.meta.class_learners.sent", lambda tensor, device: tensor)
    settings = {**write_image_sets(tmp_path), **META_RUNS["score"], **CUDA}
    with pytest.raises(RuntimeError, match="device"):
        run_image_training(settings, tmp_path / "run", *ON_IT)
