"""The loader with the meta repeat-factor sampler: updates, workers, ranks, resuming."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_ranks import gloo_rank

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm

from balms_seg import add_balms_config
from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.loading.train_loader import TrainLoader
from balms_seg.sampling import MetaRepeatFactorTrainingSampler, draws_of

NUM_IMAGES, NUM_CLASSES, BATCH = 40, 5, 8
NUM_STEPS = 40
UPDATES = (3, 4, 9, 14, 20, 25)  # steps after which psi moves; 3 and 4 within one block
Batches = list[list[tuple[int, int, float]]]


def map_record(record: dict) -> dict:
    """Takes longer for some images, so that workers overtake each other; says who mapped it."""
    time.sleep(0.004 * (record["image_id"] % 3 == 0))
    return {"image_id": record["image_id"], "process": os.getpid()}


@pytest.fixture
def dicts() -> list[dict]:
    """Wide and high images of a long tail; every seventh is empty."""
    rng = np.random.default_rng(0)
    share = np.array([8, 4, 2, 1, 0.5])
    records = []
    for i in range(NUM_IMAGES):
        classes = rng.choice(NUM_CLASSES, rng.integers(1, 4), p=share / share.sum())
        annotations = [{"category_id": int(c)} for c in ([] if i % 7 == 0 else classes)]
        size = {"width": 32, "height": 24} if i % 3 else {"width": 24, "height": 32}
        records.append({"image_id": 1000 + i, "annotations": annotations, **size})
    return records


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.DATALOADER.SAMPLER_TRAIN = "MetaRepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = BATCH
    cfg.META.BLOCK = 2 * BATCH
    cfg.META.LOOKAHEAD = 9  # 4 workers and 2 groups
    cfg.META.LR = 0.2
    cfg.SEED = 5
    return cfg


def _load(
    cfg: CfgNode, dicts: list[dict], num_workers: int, start_method: str | None = None
) -> TrainLoader:
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = num_workers
    return build_train_loader(cfg, map_record, dataset_dicts=dicts, start_method=start_method)


def _stream(loader: TrainLoader) -> MetaRepeatFactorTrainingSampler:
    assert isinstance(loader.stream, MetaRepeatFactorTrainingSampler)
    return loader.stream


def _gradient(loader: TrainLoader, batch: list[dict], step: int) -> torch.Tensor:
    """A rank's part of psi's gradient, of a made-up loss."""
    draws = draws_of(batch)
    return _stream(loader).rate_gradient(draws, torch.from_numpy(np.sin(draws.indices + step)))


def _train(loaders: list[TrainLoader], steps: Iterable[int]) -> Batches:
    """Global batches of these ranks in lockstep, with updates on the way."""
    iterators: list[Iterator[list[dict]]] = [iter(loader) for loader in loaders]
    batches = []
    for step in steps:
        shares = [next(iterator) for iterator in iterators]
        together = [output for row in zip(*shares, strict=True) for output in row]
        batches.append(
            [(o["stream_position"], o["dataset_index"], o["draw_probability"]) for o in together]
        )
        assert all(o["image_id"] == 1000 + o["dataset_index"] for o in together)
        if step in UPDATES:
            gradients = [
                _gradient(loader, share, step)
                for loader, share in zip(loaders, shares, strict=True)
            ]
            for loader in loaders:
                _stream(loader).update(torch.stack(gradients).sum(0))
    return batches


def _assert_same(batches: Batches, expected: Batches) -> None:
    """The same images at the same positions; ranks' sums round differently."""
    assert [[row[:2] for row in batch] for batch in batches] == [
        [row[:2] for row in batch] for batch in expected
    ]
    np.testing.assert_allclose(
        [[row[2] for row in batch] for batch in batches],
        [[row[2] for row in batch] for batch in expected],
        rtol=1e-12,
    )


def _expected(cfg: CfgNode, dicts: list[dict]) -> Batches:
    """The one-process stream without workers, on which every update has shown."""
    batches = _train([_load(cfg, dicts, 0)], range(NUM_STEPS))
    seen = {index: set() for index in range(NUM_IMAGES)}
    for _, index, probability in (row for batch in batches for row in batch):
        seen[index].add(probability)
    assert all(seen.values())
    # at the start and after each update, but the first, which the second overtakes
    assert max(len(probabilities) for probabilities in seen.values()) == len(UPDATES)
    return batches


def _rank_loaders(
    cfg: CfgNode,
    dicts: list[dict],
    world_size: int,
    num_workers: int,
    monkeypatch: pytest.MonkeyPatch,
    start_method: str | None = None,
) -> list[TrainLoader]:
    loaders = []
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loaders.append(_load(cfg, dicts, num_workers, start_method))
    return loaders


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (1, 2)])
def test_updates_leave_one_stream_for_any_ranks_and_workers(
    cfg: CfgNode,
    dicts: list[dict],
    world_size: int,
    num_workers: int,
    grouped: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouped
    expected = _expected(cfg, dicts)
    loaders = _rank_loaders(cfg, dicts, world_size, num_workers, monkeypatch)
    _assert_same(_train(loaders, range(NUM_STEPS)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "num_workers", "start_method"),
    [(1, 4, "fork"), (2, 2, "fork"), (4, 0, None), (4, 4, "fork"), (1, 2, "spawn")],
)
def test_updates_leave_one_stream_for_many_ranks_and_workers(
    cfg: CfgNode,
    dicts: list[dict],
    world_size: int,
    num_workers: int,
    start_method: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = _expected(cfg, dicts)
    loaders = _rank_loaders(cfg, dicts, world_size, num_workers, monkeypatch, start_method)
    _assert_same(_train(loaders, range(NUM_STEPS)), expected)


def test_no_position_is_lost_across_updates(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    rows = [row for batch in _expected(cfg, dicts) for row in batch]
    assert [position for position, *_ in rows] == list(range(NUM_STEPS * BATCH))


def _assert_updates_reach_running_workers(
    cfg: CfgNode, dicts: list[dict], start_method: str
) -> None:
    """The first block that starts after the lookahead has the new rates, from the same workers."""
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    loader = _load(cfg, dicts, 2, start_method)
    iterator = iter(loader)
    first = next(iterator)
    _stream(loader).update(_gradient(loader, first, 0))
    settled = BATCH + cfg.META.LOOKAHEAD * BATCH
    changes = -(-settled // cfg.META.BLOCK) * cfg.META.BLOCK
    processes: dict[bool, set[int]] = {False: set(), True: set()}
    for _ in range(20):
        batch = next(iterator)
        weights = _stream(loader).loss_weights(draws_of(batch)).numpy()
        is_new = batch[0]["stream_position"] >= changes
        assert bool((weights == 1).all()) is is_new
        processes[is_new] |= {output["process"] for output in batch}
    assert processes[True] == processes[False]
    assert len(processes[True]) == 2
    assert os.getpid() not in processes[True]


def test_an_update_reaches_running_workers(cfg: CfgNode, dicts: list[dict]) -> None:
    _assert_updates_reach_running_workers(cfg, dicts, "fork")


@pytest.mark.slow
def test_an_update_reaches_running_workers_that_were_spawned(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    _assert_updates_reach_running_workers(cfg, dicts, "spawn")


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 2)])
@pytest.mark.parametrize("stop", [4, 15])
def test_a_resumed_run_continues_with_prefetched_batches_and_planned_rates(
    cfg: CfgNode, dicts: list[dict], before: int, after: int, stop: int
) -> None:
    expected = _expected(cfg, dicts)
    loader = _load(cfg, dicts, before)
    assert _train([loader], range(stop)) == expected[:stop]
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    resumed = _load(cfg, dicts, after)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert _train([resumed], range(stop, NUM_STEPS)) == expected[stop:]


def test_more_workers_than_the_lookahead_allows_are_refused(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    with pytest.raises(ValueError, match=r"5 data workers may draw 11.*META\.LOOKAHEAD.*11"):
        _load(cfg, dicts, 5)
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    _load(cfg, dicts, 5)


def _train_in_process(
    rank: int, world_size: int, num_workers: int, cfg: CfgNode, dicts: list[dict], folder: str
) -> None:
    with gloo_rank(rank, folder, ranks=world_size):
        loader = _load(cfg, dicts, num_workers)
        iterator = iter(loader)
        batches, rates = [], []
        for step in range(NUM_STEPS):
            batch = next(iterator)
            batches.append(
                [(o["stream_position"], o["dataset_index"], o["draw_probability"]) for o in batch]
            )
            if step in UPDATES:
                gradient = _gradient(loader, batch, step)
                torch.distributed.all_reduce(gradient)
                _stream(loader).update(gradient)
                rates.append(_stream(loader).rates.class_rates)
        torch.save((batches, np.stack(rates)), f"{folder}/{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 2), (4, 0)])
def test_processes_hold_identical_rates_after_every_update(
    cfg: CfgNode, dicts: list[dict], world_size: int, num_workers: int, tmp_path: Path
) -> None:
    expected = _expected(cfg, dicts)
    torch.multiprocessing.spawn(
        _train_in_process,
        (world_size, num_workers, cfg, dicts, str(tmp_path)),
        nprocs=world_size,
    )
    saved = [torch.load(tmp_path / f"{r}.pt", weights_only=False) for r in range(world_size)]
    shares, rates = zip(*saved, strict=True)
    for other in rates[1:]:
        np.testing.assert_array_equal(other, rates[0])
    assert len(np.unique(rates[0], axis=0)) == len(UPDATES)
    union = [
        [row for rows in zip(*batches, strict=True) for row in rows]
        for batches in zip(*shares, strict=True)
    ]
    _assert_same(union, expected)
