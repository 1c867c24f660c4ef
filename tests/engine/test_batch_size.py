"""Runs go on with another batch size or number of processes, at the first image not consumed."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.launch import _find_free_port
from detectron2.utils import comm
from image_runs import build_image_trainer
from image_sets import write_image_sets
from made_up_data import small_config
from meta_runs import RATES, WEIGHTS
from runs import build_trainer, run_training

from balms_seg.distributed import ending_at_once
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.batch_size import follow_batch_size, scaled_to
from balms_seg.engine.launch import launch
from balms_seg.sampling import GlobalBatchSampler
from balms_seg.sampling.training import TrainingSampler

EIGHT = {
    "SOLVER.MAX_ITER": 8,
    "SOLVER.STEPS": (6,),
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.IMS_PER_BATCH": 4,
    "DATASETS.TEST": (),
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
}


BUILD = {False: build_trainer, True: build_image_trainer}


class Watch(HookBase):
    """Stream positions, images and learning rate of each iteration."""

    def __init__(self, trainer: LongTailedTrainer) -> None:
        self.positions: list[int] = []
        self.batches: list[list[tuple[int, int]]] = []
        self.rates: list[float] = []
        step = trainer._trainer
        following = step._next_batch

        def next_batch() -> tuple:
            batch, seconds = following()
            self.positions += [image["stream_position"] for image in batch]
            self.batches.append([(i["stream_position"], i["dataset_index"]) for i in batch])
            return batch, seconds

        step._next_batch = next_batch

    def before_step(self) -> None:
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


def watched(
    settings: dict, output: Path, *flags: str, of_images: bool = False
) -> tuple[LongTailedTrainer, Watch]:
    trainer = BUILD[of_images](settings, output, *flags)
    watch = Watch(trainer)
    trainer.register_hooks([watch])
    train(trainer, resume="--resume" in flags)
    return trainer, watch


@pytest.mark.parametrize(
    ("batch_size", "workers"),
    [
        (8, 0),
        pytest.param(2, 0, marks=pytest.mark.slow),
        pytest.param(2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_batch_size_changed_by_hand_goes_on_at_the_next_image(
    batch_size: int, workers: int, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **EIGHT, "DATALOADER.NUM_WORKERS": workers}
    _, whole = watched(settings, tmp_path / "whole")
    for path in (tmp_path / "whole").glob("model_0000007.pth"):
        path.unlink()
    (tmp_path / "whole" / "model_final.pth").unlink()
    changed = {**settings, "SOLVER.IMS_PER_BATCH": batch_size}
    trainer, resumed = watched(changed, tmp_path / "whole", "--resume")
    scale = batch_size / 4
    assert trainer.start_iter == 4 / scale
    assert trainer.max_iter == 8 / scale
    assert sorted(resumed.positions) == list(range(16, 32))
    # The schedule at equal numbers of images, at the scaled rate.
    for done, rate in enumerate(resumed.rates):
        before = done * scale
        if before == int(before) and done > 0:
            assert rate == pytest.approx(whole.rates[4 + int(before)] * scale)
    assert resumed.rates[0] == pytest.approx(whole.rates[4] * scale)


def test_a_second_resume_keeps_the_schedule(data: dict[str, object], tmp_path: Path) -> None:
    run_training({**data, **EIGHT, "SOLVER.MAX_ITER": 4}, tmp_path)
    smaller = {**data, **EIGHT, "SOLVER.MAX_ITER": 4, "SOLVER.IMS_PER_BATCH": 2}
    for _ in range(2):
        trainer = run_training(smaller, tmp_path, "--resume")
        assert (trainer.start_iter, trainer.max_iter) == (8, 8)


def test_a_schedule_given_with_the_batch_size_holds(
    data: dict[str, object], tmp_path: Path
) -> None:
    run_training({**data, **EIGHT, "SOLVER.MAX_ITER": 4}, tmp_path)
    given = {"SOLVER.IMS_PER_BATCH": 2, "SOLVER.MAX_ITER": 10, "SOLVER.BASE_LR": 0.003}
    trainer = run_training({**data, **EIGHT, **given}, tmp_path, "--resume")
    assert (trainer.start_iter, trainer.max_iter) == (8, 10)
    assert trainer.cfg.SOLVER.BASE_LR == 0.003


@pytest.mark.parametrize(("share", "reference"), [(0.2, 2), (0.0, 0)])
def test_a_warmup_that_is_a_share_of_the_run_was_not_changed_by_hand(
    share: float, reference: int
) -> None:
    cfg = small_config({"SOLVER.WARMUP_SHARE": share})
    saved = yaml.safe_load(cfg.dump())
    saved["SOLVER"]["WARMUP_ITERS"] = 100  # as the run filled it in
    cfg.SOLVER.IMS_PER_BATCH = 4
    follow_batch_size(cfg, saved)
    assert reference == cfg.SOLVER.REFERENCE_IMS_PER_BATCH


def test_the_rule_is_detectron2s_and_psi_drifts_no_farther() -> None:
    cfg = small_config(
        {"SOLVER.IMS_PER_BATCH": 16, "SOLVER.REFERENCE_WORLD_SIZE": 8, "META.LR": 0.08}
    )
    cfg.SOLVER.EMA_DECAY = 0.9
    ours, theirs = scaled_to(cfg, 1), DefaultTrainer.auto_scale_workers(cfg, 1)
    for key in ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS"):
        assert ours.SOLVER[key] == theirs.SOLVER[key], key
    assert pytest.approx(0.01) == ours.META.LR
    assert pytest.approx(0.9) == ours.SOLVER.EMA_DECAY**8
    assert scaled_to(cfg, 8) == cfg


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("sizes", [(4, 6), (6, 4), (4, 2)])
def test_images_drawn_ahead_are_handed_out_once(groups: bool, sizes: tuple[int, int]) -> None:
    import numpy as np

    kinds = np.arange(20) % 2 if groups else None
    first = GlobalBatchSampler(TrainingSampler(20, seed=3), sizes[0], groups=kinds)
    ahead = iter(first)
    drawn = [next(ahead) for _ in range(5)]
    for _ in range(2):
        first.mark_consumed()
    consumed = {draw.position for batch in drawn[:2] for draw in batch}
    second = GlobalBatchSampler(TrainingSampler(20, seed=3), sizes[1], groups=kinds)
    second.load_state_dict(first.state_dict())
    again = GlobalBatchSampler(TrainingSampler(20, seed=3), sizes[1], groups=kinds)
    again.load_state_dict(second.state_dict())  # also from a state in which draws wait
    batches = [next(iterator) for iterator in [iter(again)] for _ in range(12)]
    positions = [draw.position for batch in batches for draw in batch]
    assert len(set(positions)) == len(positions)
    assert not consumed & set(positions)
    missing = set(range(30)) - consumed - set(positions)
    assert missing == set() or groups  # a group that is not full yet waits
    stream = TrainingSampler(20, seed=3).draw(200).indices
    assert all(draw.image == stream[draw.position] for batch in batches for draw in batch)
    if not groups:
        assert positions == sorted(positions)


class Positionless:
    """A loader of one's own: detectron2's dicts without stream positions."""

    def __init__(self, loader: object) -> None:
        self._loader = loader

    def __iter__(self) -> object:
        for batch in self._loader:
            yield [{k: v for k, v in image.items() if "position" not in k} for image in batch]


class OwnTrainer(LongTailedTrainer):
    @classmethod
    def build_train_loader(cls, cfg: object) -> Positionless:
        return Positionless(LongTailedTrainer.build_train_loader(cfg))


def test_a_loader_of_ones_own_trains_saves_and_resumes(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    from runs import arguments

    from balms_seg.engine import setup

    settings = {**data, "DATASETS.TEST": (), "SOLVER.MAX_ITER": 3}
    trainer = OwnTrainer(setup(arguments(settings, tmp_path)))
    train(trainer)
    assert trainer.iter == 3
    assert log.text.count("no stream_position: draws are not keyed") == 1
    assert "build_train_loader" in log.text
    settings["SOLVER.MAX_ITER"] = 5
    resumed = OwnTrainer(setup(arguments(settings, tmp_path, "--resume")))
    train(resumed, resume=True)
    assert (resumed.start_iter, resumed.iter) == (3, 5)


class Part(NamedTuple):
    """A run's next iterations, by so many processes on so many machines."""

    last: int
    machines: int
    ranks_per_machine: int
    workers: int

    @property
    def num_ranks(self) -> int:
        return self.machines * self.ranks_per_machine


PARTS = (Part(3, 2, 2, 0), Part(6, 2, 1, 2), Part(9, 1, 1, 2))


def train_on_rank(
    local_rank: int, machine: int, part: Part, port: int, settings: dict, folder: str, stage: str
) -> None:
    """As torchrun starts it."""
    torch.set_num_threads(1)
    rank = machine * part.ranks_per_machine + local_rank
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(part.num_ranks),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(part.ranks_per_machine),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }

    @ending_at_once()
    def train_part(args: Namespace) -> None:
        assert comm.get_local_size() == part.ranks_per_machine
        flags = ("--resume",) if part.last > PARTS[0].last else ()
        own = {**settings, "DATALOADER.NUM_WORKERS": part.workers}
        trainer = BUILD[stage == "images"](own, Path(folder) / "out", *flags)
        watch = Watch(trainer)
        trainer.resume_or_load(resume=bool(flags))
        trainer.max_iter = part.last
        trainer.train()
        torch.save(watch.batches, f"{folder}/{part.last}_{rank}.pth")

    launch(train_part, Namespace(num_gpus=0))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["features", "weights", "rates", "images"])
def test_images_of_every_global_batch_do_not_depend_on_the_processes(
    stage: str, data: dict[str, object], tmp_path: Path
) -> None:
    """Two machines of two, then two of one with data workers, then one, against one alone."""
    of_images = stage == "images"
    sets = write_image_sets(tmp_path) if of_images else data
    own = {"weights": WEIGHTS, "rates": RATES}.get(stage, {})
    settings = {**sets, **EIGHT, **own, "SOLVER.MAX_ITER": 9, "SOLVER.CHECKPOINT_PERIOD": 3}
    _, whole = watched(settings, tmp_path / "whole", of_images=of_images)
    found: list[set] = []
    for part in PARTS:
        port = _find_free_port()
        launches = [
            torch.multiprocessing.spawn(
                train_on_rank,
                (machine, part, port, settings, str(tmp_path), stage),
                nprocs=part.ranks_per_machine,
                join=False,
            )
            for machine in range(part.machines)
        ]
        for ranks in launches:
            while not ranks.join():
                pass
        batches = [torch.load(tmp_path / f"{part.last}_{r}.pth") for r in range(part.num_ranks)]
        found += [set().union(*parts) for parts in zip(*batches, strict=True)]
    assert len(found) == 9
    assert found == [set(batch) for batch in whole.batches]
