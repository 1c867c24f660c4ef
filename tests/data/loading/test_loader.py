"""The training loader on made-up images: workers, ranks, resuming, bad input."""

from __future__ import annotations

import io
import logging
import random
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo_ranks import gloo_rank
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from balms_seg.data.instances.mapper import build_mapper
from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.loading.mapped_dataset import MAX_ATTEMPTS, KeyedMapDataset
from balms_seg.data.loading.train_loader import TrainLoader
from balms_seg.sampling import Draw, TrainingSampler

NUM_IMAGES = 14
Mapper = Callable[[dict], dict | None]


@pytest.fixture
def dicts(tmp_path: Path) -> list[dict]:
    """Small images, wide and high, with triangles of a long tail of classes; the first is empty."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(NUM_IMAGES):
        height, width = (24, 32) if i % 3 else (32, 24)
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        annotations = [
            {
                "category_id": category,
                "bbox": [4, 4, 20, 20],
                "bbox_mode": BoxMode.XYXY_ABS,
                "segmentation": [[4, 4, 20, 4, 20, 20]],
                "iscrowd": 0,
            }
            for category in ([] if i == 0 else [0] if i < 10 else [0, 1] if i < 13 else [2])
        ]
        record = {"file_name": str(path), "image_id": i, "height": height, "width": width}
        records.append({**record, "annotations": annotations})
    return records


@pytest.fixture
def cfg() -> CfgNode:
    """A small configuration in which images repeat, flip, resize and crop at random.

    Without masks: cropping polygons needs a library that is no dependency.
    """
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.INPUT.MIN_SIZE_TRAIN = (24, 30, 36)
    cfg.INPUT.CROP.ENABLED = True
    cfg.SEED = 5
    return cfg


def _describe(batch: list[dict]) -> list[tuple]:
    """Everything about a batch that could differ, comparable with ==."""
    return [
        (
            sample["stream_position"],
            sample["dataset_index"],
            sample["image"].shape,
            sample["image"].numpy().tobytes(),
            sample["instances"].gt_boxes.tensor.tolist(),
            sample["instances"].gt_classes.tolist(),
        )
        for sample in batch
    ]


def _take(loader: TrainLoader, count: int) -> list[list[tuple]]:
    return [_describe(batch) for batch in islice(loader, count)]


def _with_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = num_workers
    return cfg


class DelayedMapper:
    """Takes longer for some images, so that workers overtake each other."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper

    def __call__(self, record: dict) -> dict | None:
        time.sleep(0.03 if record["image_id"] % 5 == 0 else 0.001 * (record["image_id"] % 3))
        return self.mapper(record)


class DroppingMapper:
    """Drops some images, as mappers for detectron2 may."""

    def __init__(self, mapper: Mapper, dropped: set[int]) -> None:
        self.mapper = mapper
        self.dropped = dropped

    def __call__(self, record: dict) -> dict | None:
        return None if record["image_id"] in self.dropped else self.mapper(record)


def test_every_visit_is_augmented_anew(cfg: CfgNode, dicts: list[dict]) -> None:
    batches = _take(build_train_loader(cfg, dataset_dicts=dicts), 20)
    looks: dict[int, set] = {}
    for _, index, _, pixels, *_ in (sample for batch in batches for sample in batch):
        looks.setdefault(index, set()).add(pixels)
    assert set(looks) == set(range(NUM_IMAGES))
    assert sum(len(seen) for seen in looks.values()) > 70  # of 80


def test_same_seed_same_batches_whatever_else_is_drawn(cfg: CfgNode, dicts: list[dict]) -> None:
    first = _take(build_train_loader(cfg, dataset_dicts=dicts), 6)
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    assert _take(build_train_loader(cfg, dataset_dicts=dicts), 6) == first
    assert _take(build_train_loader(cfg, dataset_dicts=dicts, seed=6), 6) != first


def test_loading_leaves_the_global_generators_alone(cfg: CfgNode, dicts: list[dict]) -> None:
    def draw() -> tuple:
        return np.random.rand(), random.random(), torch.rand(()).item()

    def seed() -> None:
        np.random.seed(1)
        random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draw()
    loader = build_train_loader(cfg, dataset_dicts=dicts)
    seed()
    _take(loader, 3)
    assert draw() == expected


def test_workers_change_nothing(cfg: CfgNode, dicts: list[dict]) -> None:
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts), 8)
    mapper = DelayedMapper(build_mapper(cfg))
    loader = build_train_loader(_with_workers(cfg, 2), mapper, dataset_dicts=dicts)
    assert _take(loader, 8) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start_method", "num_workers"),
    [("fork", 1), ("fork", 4), ("spawn", 2), ("spawn", 4), ("forkserver", 2)],
)
def test_workers_change_nothing_however_started(
    cfg: CfgNode, dicts: list[dict], start_method: str, num_workers: int
) -> None:
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts), 30)
    loader = build_train_loader(
        _with_workers(cfg, num_workers), dataset_dicts=dicts, start_method=start_method
    )
    assert _take(loader, 30) == expected


def _assert_resumes(
    cfg: CfgNode, dicts: list[dict], workers: tuple[int, int], start_method: str | None = None
) -> None:
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts), 14)
    stopped = build_train_loader(
        _with_workers(cfg, workers[0]), dataset_dicts=dicts, start_method=start_method
    )
    iterator = iter(stopped)
    for batch in expected[:6]:
        assert _describe(next(iterator)) == batch
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = build_train_loader(
        _with_workers(cfg, workers[1]), dataset_dicts=dicts, seed=99, start_method=start_method
    )
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert _take(resumed, 8) == expected[6:]
    assert resumed.seed == 5


@pytest.mark.parametrize("grouped", [True, False])
def test_a_resumed_run_gets_the_next_batch(cfg: CfgNode, dicts: list[dict], grouped: bool) -> None:
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouped
    _assert_resumes(cfg, dicts, (0, 0))


def test_a_run_with_workers_resumes_without_skipping_prefetched_batches(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    _assert_resumes(cfg, dicts, (2, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "start_method"),
    [((0, 2), "fork"), ((2, 2), "fork"), ((4, 2), "fork"), ((2, 2), "spawn")],
)
def test_a_resumed_run_gets_the_next_batch_with_any_workers(
    cfg: CfgNode, dicts: list[dict], workers: tuple[int, int], start_method: str
) -> None:
    _assert_resumes(cfg, dicts, workers, start_method)


@pytest.mark.parametrize(("grouped", "workers"), [(False, 0), (True, 0), (False, 2)])
def test_a_loader_follows_the_iteration_that_a_trainer_resumes(
    cfg: CfgNode, dicts: list[dict], grouped: bool, workers: int
) -> None:
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouped
    expected = [
        _describe(batch) for batch in islice(build_train_loader(cfg, dataset_dicts=dicts), 8)
    ]
    cfg.DATALOADER.NUM_WORKERS = workers
    batches = iter(build_train_loader(cfg, dataset_dicts=dicts))  # as detectron2's trainers do
    with EventStorage(5):
        assert [_describe(next(batches)) for _ in range(3)] == expected[5:]
        again = iter(build_train_loader(cfg, dataset_dicts=dicts))
        restored = build_train_loader(cfg, dataset_dicts=dicts)
        first = build_train_loader(cfg, dataset_dicts=dicts)
        next(iter(first))
        assert _describe(next(again)) == expected[5]
        restored.load_state_dict(first.state_dict())
        after_first = _describe(next(iter(restored)))
    assert after_first == _describe(next(iter(first)))


def test_prefetched_batches_are_in_the_state(cfg: CfgNode, dicts: list[dict]) -> None:
    loader = build_train_loader(_with_workers(cfg, 2), dataset_dicts=dicts)
    next(iter(loader))
    assert len(loader.state_dict()["pending"]) >= 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_iterating_anew_continues_and_a_state_can_be_loaded_under_way(
    cfg: CfgNode, dicts: list[dict], num_workers: int
) -> None:
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts), 9)
    loader = build_train_loader(_with_workers(cfg, num_workers), dataset_dicts=dicts)
    start = loader.state_dict()
    assert _take(loader, 4) == expected[:4]
    assert _take(loader, 5) == expected[4:]
    loader.load_state_dict(start)
    assert _take(loader, 9) == expected


def test_batches_hold_one_aspect_ratio(cfg: CfgNode, dicts: list[dict]) -> None:
    loader = build_train_loader(cfg, dataset_dicts=dicts)
    shapes = [{sample["width"] > sample["height"] for sample in b} for b in islice(loader, 20)]
    assert all(len(shape) == 1 for shape in shapes)
    assert {True} in shapes
    assert {False} in shapes


def test_grouping_without_image_sizes_names_the_image(cfg: CfgNode, dicts: list[dict]) -> None:
    del dicts[3]["height"]
    with pytest.raises(ValueError, match=r"image 3 .*3\.png.*ASPECT_RATIO_GROUPING"):
        build_train_loader(cfg, dataset_dicts=dicts)


def _set_ranks(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


@pytest.mark.parametrize("world_size", [2, 4])
def test_union_of_the_ranks_is_the_one_process_stream(
    cfg: CfgNode, dicts: list[dict], world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts), 8)
    shares = []
    for rank in range(world_size):
        _set_ranks(monkeypatch, rank, world_size)
        shares.append(_take(build_train_loader(cfg, dataset_dicts=dicts), 8))
    union = [
        [sample for together in zip(*batches, strict=True) for sample in together]
        for batches in zip(*shares, strict=True)
    ]
    assert union == expected


def _share_in_process(rank: int, cfg: CfgNode, dicts: list[dict], folder: str) -> None:
    with gloo_rank(rank, folder):
        cfg.SEED = -1  # the ranks must agree on the seed they draw
        loader = build_train_loader(_with_workers(cfg, 2), dataset_dicts=dicts)
        batches = _take(loader, 8)
        torch.save((loader.seed, batches, loader.state_dict()), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_processes_share_out_the_one_process_stream(
    cfg: CfgNode, dicts: list[dict], tmp_path: Path
) -> None:
    torch.multiprocessing.spawn(_share_in_process, (cfg, dicts, str(tmp_path)), nprocs=2)
    (seed, first, state), (other_seed, second, other_state) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)
    )
    assert seed == other_seed
    assert state["stream"].pop("identity") == other_state["stream"].pop("identity")
    torch.testing.assert_close(state, other_state, rtol=0, atol=0, equal_nan=True)
    expected = _take(build_train_loader(cfg, dataset_dicts=dicts, seed=seed), 8)
    assert [
        [sample for together in zip(*pair, strict=True) for sample in together]
        for pair in zip(first, second, strict=True)
    ] == expected


def test_a_batch_that_cannot_be_shared_out_is_refused_before_data_are_read(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_ranks(monkeypatch, 0, 3)
    cfg.DATASETS.TRAIN = ("no_such_set",)
    with pytest.raises(ValueError, match="IMS_PER_BATCH"):
        build_train_loader(cfg)


def test_a_negative_seed_is_drawn_and_logged(
    cfg: CfgNode, dicts: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    cfg.SEED = -1
    with caplog.at_level(logging.INFO, "balms_seg"):
        loader = build_train_loader(cfg, dataset_dicts=dicts)
    assert f"drawn seed {loader.seed}" in caplog.text
    assert _take(loader, 3) == _take(
        build_train_loader(cfg, dataset_dicts=dicts, seed=loader.seed), 3
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_dropped_images_are_replaced_alike_and_reported_once(
    cfg: CfgNode, dicts: list[dict], num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    mapper = DroppingMapper(build_mapper(cfg), {1, 2, 4})
    expected = _take(build_train_loader(cfg, mapper, dataset_dicts=dicts), 12)
    caplog.clear()
    loader = build_train_loader(_with_workers(cfg, num_workers), mapper, dataset_dicts=dicts)
    samples = [sample for batch in islice(loader, 12) for sample in batch]
    assert [d for batch in expected for d in batch] == _describe(samples)
    assert not {sample["image_id"] for sample in samples} & {1, 2, 4}
    assert {sample["dataset_index"] for sample in samples} >= {1, 2, 4}
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 3
    assert all(any(f"{i}.png" in line for line in warnings) for i in (1, 2, 4))


def test_a_mapper_that_drops_everything_is_an_error(cfg: CfgNode, dicts: list[dict]) -> None:
    loader = build_train_loader(cfg, lambda record: None, dataset_dicts=dicts)
    with pytest.raises(RuntimeError, match=rf"None for {MAX_ATTEMPTS} images.*\.png"):
        next(iter(loader))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_missing_image_is_named(cfg: CfgNode, dicts: list[dict], num_workers: int) -> None:
    Path(dicts[6]["file_name"]).unlink()
    loader = build_train_loader(_with_workers(cfg, num_workers), dataset_dicts=dicts)
    with pytest.raises(FileNotFoundError, match=r"6\.png.*does not exist"):
        _take(loader, 20)


@pytest.mark.parametrize("content", [b"no image", b"", None])
def test_a_broken_image_is_named(cfg: CfgNode, dicts: list[dict], content: bytes | None) -> None:
    path = Path(dicts[6]["file_name"])
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(OSError, match=r"Cannot read image file .*6\.png"):
        _take(build_train_loader(cfg, dataset_dicts=dicts), 20)


def test_other_mapper_errors_keep_their_type_and_name_the_image(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    cfg.INPUT.CROP.ENABLED = False
    cfg.MODEL.MASK_ON = True
    dicts[6]["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    with pytest.raises(ValueError, match="polygon") as caught:
        _take(build_train_loader(cfg, dataset_dicts=dicts), 20)
    assert any("6.png" in note for note in caught.value.__notes__)


def test_an_image_without_annotations_is_cropped(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.MODEL.MASK_ON = True
    mapper = build_mapper(cfg)
    assert mapper.recompute_boxes
    output = mapper(dicts[0])
    assert len(output["instances"]) == 0
    assert mapper.recompute_boxes


def test_outputs_carry_the_probability_they_were_drawn_with(dicts: list[dict]) -> None:
    dataset = KeyedMapDataset(dicts, lambda record: {"image_id": record["image_id"]})
    output = dataset[(0, Draw(3, 70, 0.25))].output
    assert output == {
        "image_id": 3,
        "stream_position": 70,
        "dataset_index": 3,
        "draw_probability": 0.25,
    }
    assert "draw_probability" not in dataset[(0, Draw(3, 70, float("nan")))].output


def test_detectron2s_loader_takes_our_samplers(cfg: CfgNode, dicts: list[dict]) -> None:
    from detectron2.data import build_detection_train_loader

    sampler = TrainingSampler(NUM_IMAGES, seed=0)
    loader: Any = build_detection_train_loader(
        dicts,
        mapper=lambda record: record,
        sampler=sampler,
        total_batch_size=2,
        aspect_ratio_grouping=False,
        num_workers=2,
    )
    ids = [record["image_id"] for batch in islice(loader, 14) for record in batch]
    assert sorted(ids) == sorted([*range(NUM_IMAGES)] * 2)
