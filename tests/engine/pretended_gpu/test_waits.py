"""How often a training step makes the host wait for the device, beyond detectron2's own waits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from image_runs import build_image_trainer
from image_sets import write_image_sets
from meta_runs import BANK, RATES, WEIGHTS
from runs import build_trainer
from waits import counted_waits

from balms_seg.config.meta_learning import META_SAMPLER
from balms_seg.device_copies import sent
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.meta import meta_batches

ON_IT = ("--num-gpus", "1")
COUNTED = range(3, 5)  # iterations; what comes once has passed
CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": COUNTED.stop, "DATASETS.TEST": ()}
AUGMENTATIONS = "INPUT.IMAGES.AUGMENTATIONS"
CLASSIFIER_ALONE = {
    "MODEL.TRAIN_ONLY": ["classifier"],
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
}
# Settings, and the most waits of a step.
DETECTORS = {
    "plain": ({}, 2),  # backward, of masks in detectron2
    "weights_from_bank": ({**WEIGHTS, **BANK}, 3),
    "rates_from_bank": ({**RATES, **BANK}, 3),
    "weights_from_loader": (WEIGHTS, 3),
    "rates_from_loader": (RATES, 3),
}
IMAGES = {
    "crop_flip": ({AUGMENTATIONS: ["crop_flip"]}, 1),
    "autoaugment": ({AUGMENTATIONS: ["crop_flip", "autoaugment", "cutout"]}, 1),
    "rates": ({**CLASSIFIER_ALONE, "DATALOADER.SAMPLER_TRAIN": META_SAMPLER}, 3),
}


def assert_at_most(most: int, trainer: LongTailedTrainer) -> None:
    """Train; the waits of a step, on average, are no more."""
    lines: Counter[str] = Counter()
    run_step = trainer.run_step

    def counted() -> None:  # without hooks, which wait only now and then
        with counted_waits() as found:
            run_step()
        if trainer.iter in COUNTED:
            for wait, times in found.items():
                if not wait.theirs:
                    lines[f"{wait.ours} {wait.what}"] += times

    trainer.run_step = counted
    train(trainer)
    table = "\n".join(f"{n / len(COUNTED):6.2f} {line}" for line, n in sorted(lines.items()))
    waits = lines.total() / len(COUNTED)
    print(f"{waits:.2f} waits a step\n{table}")
    assert waits <= most, f"\n{table}"


def test_a_wait_is_counted_with_its_reason() -> None:
    there, warm = torch.ones(3, device="cuda"), torch.ones(3, device="cuda").cpu()
    with counted_waits() as waits:
        assert torch.equal(sent(warm, "cuda") + there, there + 1)  # sent: no wait; compared: one
    assert waits.total() == 1
    with counted_waits() as waits:
        there.tolist()
    assert waits.total() == 1


@pytest.mark.parametrize("case", DETECTORS)
def test_a_detectors_step_waits_no_more_than(
    case: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings, most = DETECTORS[case]
    assert_at_most(most, build_trainer({**data, **settings, **CUDA}, tmp_path, *ON_IT))


def test_a_copy_from_pageable_memory_is_counted(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta_batches, "sent", lambda tensor, device: tensor.to(device))
    settings, most = DETECTORS["weights_from_bank"]
    trainer = build_trainer({**data, **settings, **CUDA}, tmp_path, *ON_IT)
    with pytest.raises(AssertionError, match=r"meta_batches.py:\d+ "):
        assert_at_most(most, trainer)


@pytest.mark.parametrize("case", IMAGES)
def test_an_image_classifiers_step_waits_no_more_than(case: str, tmp_path: Path) -> None:
    settings, most = IMAGES[case]
    settings = {**write_image_sets(tmp_path), **settings, **CUDA}
    assert_at_most(most, build_image_trainer(settings, tmp_path / "run", *ON_IT))
