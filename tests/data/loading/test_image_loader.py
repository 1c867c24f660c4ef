"""Batches of whole images: a function of seed and stream position, resumable, shared out."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from image_sets import SMALL, write_folders, write_image_sets
from made_up_data import words

from balms_seg.data import build_image_test_loader, build_train_loader, register_from_config
from balms_seg.engine import load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.image_batch import ImageBatch
from balms_seg.model_zoo import get_config_file
from balms_seg.sampling import draws_of

FIELDS = ("images", "labels", "positions", "dataset_indices")
IN_WORKERS = {"INPUT.IMAGES.IN_MEMORY": False}
slow = pytest.mark.slow
BOTH = pytest.mark.parametrize("more", [{}, IN_WORKERS], ids=["in_memory", "decoded_on_the_fly"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_image_sets(tmp_path_factory.mktemp("images"))


def config(settings: dict[str, object]) -> CfgNode:
    base = get_config_file("classification/base.yaml")
    cfg = load_config(base, words({**SMALL, **settings}))
    register_from_config(cfg)
    return cfg


def first(loader: object, count: int = 6) -> list[ImageBatch]:
    return list(itertools.islice(iter(loader), count))


def assert_equal_batches(one: list[ImageBatch], other: list[ImageBatch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in FIELDS:
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@BOTH
def test_a_batch_holds_the_images_that_were_drawn(more: dict, images: dict[str, object]) -> None:
    cfg = config({**images, **more})
    labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
    for number, batch in enumerate(first(build_train_loader(cfg))):
        assert batch.images.shape == (4, 3, 8, 8)
        assert batch.images.dtype == torch.uint8
        assert batch.positions.tolist() == [4 * number + i for i in range(4)]
        assert torch.equal(batch.labels, labels[batch.dataset_indices])
        assert batch[1] == {
            "stream_position": 4 * number + 1,
            "dataset_index": int(batch.dataset_indices[1]),
        }
        # brightness tells the class
        assert torch.equal(batch.images.float().amax(dim=(1, 2, 3)).div(70).long(), batch.labels)


@BOTH
def test_every_image_comes_once_an_epoch(more: dict, images: dict[str, object]) -> None:
    batches = first(build_train_loader(config({**images, **more})), 5)
    drawn = torch.cat([batch.dataset_indices for batch in batches])
    assert sorted(drawn.tolist()) == list(range(20))


def test_a_test_set_that_is_not_registered_is_told_at_once(
    images: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(images)
    build_train_loader(cfg)
    assert "registered" not in caplog.text
    cfg.DATASETS.TEST = ("coco_2017_vall",)
    build_train_loader(cfg)
    assert "ends in an error once the training is over: Data set 'coco_2017_vall'" in caplog.text
    assert "Names like it: coco_2017_val" in caplog.text


@BOTH
def test_a_saved_loader_goes_on_where_it_stood(more: dict, images: dict[str, object]) -> None:
    cfg = config({**images, **more})
    whole = first(build_train_loader(cfg))
    loader = build_train_loader(cfg)
    first(loader, 2)
    other = build_train_loader(config({**images, **more, "SEED": 99}))
    other.load_state_dict(loader.state_dict())
    assert_equal_batches(first(other, 4), whole[2:])


@slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int, images: dict[str, object]) -> None:
    settings = {**images, **IN_WORKERS}
    alone = first(build_train_loader(config(settings)))
    shared = first(build_train_loader(config({**settings, "DATALOADER.NUM_WORKERS": workers})))
    assert_equal_batches(alone, shared)


@BOTH
def test_ranks_share_the_global_batches(
    more: dict, images: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config({**images, **more})
    whole = first(build_train_loader(cfg))
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        for mine, batch in zip(first(build_train_loader(cfg)), whole, strict=True):
            for name in FIELDS:
                assert torch.equal(getattr(mine, name), getattr(batch, name)[rank::2])


def test_draws_carry_their_probabilities(images: dict[str, object]) -> None:
    settings = {"DATALOADER.SAMPLER_TRAIN": "MetaRepeatFactorTrainingSampler", "META.BLOCK": 8}
    for more in ({}, IN_WORKERS):
        loader = build_train_loader(config({**images, **settings, **more}))
        batch = first(loader, 1)[0]
        draws = draws_of(batch)
        assert draws.indices.tolist() == batch.dataset_indices.tolist()
        assert (draws.probabilities > 0).all()
        assert loader.stream.loss_weights(draws).tolist() == pytest.approx([1.0] * 4)


@BOTH
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_test_set_is_seen_once_over_all_ranks(
    world_size: int, more: dict, images: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config({**images, **more})
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: world_size)
    seen = []
    for rank in range(world_size):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        loader = build_image_test_loader(cfg, cfg.DATASETS.TEST[0])
        batches = list(loader)
        assert len(batches) == len(loader)
        seen += [index for batch in batches for index in batch.dataset_indices.tolist()]
        for batch in batches:
            assert torch.equal(batch.labels, batch.dataset_indices // 3)
    assert seen == list(range(9))


@pytest.fixture
def broken_set(tmp_path: Path) -> dict[str, object]:
    """Folders with one image that is cut short."""
    write_folders(tmp_path / "train", (3, 2, 1))
    path = tmp_path / "train" / "ape" / "001.png"
    path.write_bytes(path.read_bytes()[:60])
    name = f"{tmp_path.name}_broken"
    return {
        "DATASETS.REGISTER_IMAGES": [[name, str(tmp_path), "train"]],
        "DATASETS.TRAIN": (name,),
        "DATASETS.TEST": (),
    }


@BOTH
def test_an_unreadable_image_stops_or_is_replaced(
    more: dict, broken_set: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**broken_set, **more, "SOLVER.IMS_PER_BATCH": 6}
    with pytest.raises(OSError, match="ape/001.png"):
        first(build_train_loader(config(settings)), 1)
    with caplog.at_level(logging.WARNING):
        cfg = config({**settings, "INPUT.IMAGES.UNREADABLE": "skip"})
        (batch,) = first(build_train_loader(cfg), 1)
    assert (batch.images.flatten(start_dim=1).amax(dim=1) > 0).all()
    assert "ape/001.png" in caplog.text


def test_a_class_of_which_no_image_can_be_read_is_an_error(
    broken_set: dict, tmp_path: Path
) -> None:
    path = tmp_path / "train" / "cat" / "000.png"
    path.write_bytes(path.read_bytes()[:60])
    cfg = config({**broken_set, "INPUT.IMAGES.UNREADABLE": "skip"})
    with pytest.raises(OSError, match="class 2"):
        build_train_loader(cfg)


def test_skipped_images_are_not_counted(
    broken_set: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train" / "ape" / "002.png").write_bytes(b"nothing")
    cfg = config({**broken_set, "INPUT.IMAGES.UNREADABLE": "skip"})
    training_set = build_job(cfg).load_training_set()
    assert training_set.statistics.image_counts.tolist() == [1, 2, 1]
    assert len(training_set.dicts) == 4
    assert "2 of 6 images cannot be read, and are neither trained on nor counted" in caplog.text
    assert "ape/001.png" in caplog.text  # cut short
    assert "ape/002.png" in caplog.text


def test_images_in_memory_have_one_size(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", (2, 1, 1))
    write_folders(tmp_path / "train", (1, 0, 0), size=12)
    name = f"{tmp_path.name}_sizes"
    settings = {
        "DATASETS.REGISTER_IMAGES": [[name, str(tmp_path), "train"]],
        "DATASETS.TRAIN": (name,),
    }
    with pytest.raises(ValueError, match=r"000.png has 12 x 12; .*IN_MEMORY False"):
        build_train_loader(config(settings))


def test_training_images_that_workers_decode_are_augmented_and_test_images_are_not(
    tmp_path: Path,
) -> None:
    sets = {**write_image_sets(tmp_path), "INPUT.IMAGES.IN_MEMORY": False}
    cfg = config(sets)
    trained = [batch.images for batch in first(build_train_loader(cfg), 8)]
    seen = torch.cat(trained).flatten(1).unique(dim=0)
    assert len(seen) > 20  # more pictures than the set has: each visit is cropped and flipped anew
    tested = torch.cat(
        [batch.images for batch in build_image_test_loader(cfg, cfg.DATASETS.TEST[0])]
    )
    again = torch.cat(
        [batch.images for batch in build_image_test_loader(cfg, cfg.DATASETS.TEST[0])]
    )
    assert torch.equal(tested, again)
