"""The concatenated training set and its statistics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from small_sets import changed, coco_style, lvis_style, new_name, write_set

from balms_seg.class_statistics import ClassStatistics
from balms_seg.config import add_balms_config
from balms_seg.data import TrainingSet, load_dataset_dicts, register_from_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.sampling import SAMPLER_REGISTRY, IndexStream, compute_repeat_factors


def config(tmp_path: Path, *contents: dict) -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    names = [new_name() for _ in contents]
    for name, content in zip(names, contents, strict=True):
        path = write_set(tmp_path / name, content)
        cfg.DATASETS.REGISTER.append([name, str(path), str(tmp_path / name / "images")])
    cfg.DATASETS.TRAIN = tuple(names)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.METHODS.BALANCED_SOFTMAX.PRIOR = "sampled"
    register_from_config(cfg)
    return cfg


def training_set(cfg: CfgNode) -> TrainingSet:
    return build_job(cfg).load_training_set()


def training_statistics(cfg: CfgNode) -> ClassStatistics:
    return training_set(cfg).statistics


@pytest.mark.parametrize("filter_empty", [True, False])
def test_training_dicts_are_detectron2s(tmp_path: Path, filter_empty: bool) -> None:
    crowd_only = changed(lvis_style(), "annotations", 2, iscrowd=1)
    cfg = config(tmp_path, lvis_style(), crowd_only)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filter_empty
    expected = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=filter_empty)
    whole = training_set(cfg)
    assert whole.dicts == expected
    assert len(expected) == (3 if filter_empty else 6)
    told = "6 images (3 without an object)"
    if filter_empty:
        left_out = "3 without an object left out: DATALOADER.FILTER_EMPTY_ANNOTATIONS"
        told = f"3 of 6 images ({left_out})"
    assert str(whole.image_numbers) == told


def test_statistics_are_those_of_the_concatenation(tmp_path: Path) -> None:
    statistics = training_statistics(config(tmp_path, lvis_style(), lvis_style()))
    assert statistics.class_names == ("cat", "dog")
    assert statistics.image_counts.tolist() == [4, 2]
    assert statistics.num_images == 4


def test_what_is_pasted_is_counted_with_the_prior(tmp_path: Path) -> None:
    cfg = config(tmp_path, lvis_style())
    plain = training_statistics(cfg)
    cfg.INPUT.COPY_PASTE.PROBABILITY, cfg.DATALOADER.REPEAT_THRESHOLD = 0.5, 0.9
    pasted = training_statistics(cfg).prior_counts("instance") - plain.prior_counts("instance")
    # 2 images, half of which get 2 instances on average; the one class in fewer than 90 % of them.
    assert pasted.tolist() == [0, 2]
    assert training_statistics(cfg).image_counts.tolist() == plain.image_counts.tolist()


def test_sets_must_have_the_same_classes(tmp_path: Path) -> None:
    cfg = config(tmp_path, lvis_style(), changed(lvis_style(), "categories", 1, name="cow"))
    with pytest.raises(ValueError, match=r"differ in classes: .*first: cat;.*second: cow"):
        training_statistics(cfg)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    cfg = config(tmp_path, {**lvis_style(), "annotations": []})
    with pytest.raises(ValueError, match="No image with a usable annotation"):
        training_set(cfg)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN is empty"):
        training_set(cfg)


def test_frequency_of_the_json_wins_over_counts(tmp_path: Path) -> None:
    statistics = training_statistics(config(tmp_path, lvis_style()))
    assert [statistics.group_names[group] for group in statistics.group_ids] == ["frequent", "rare"]


def test_without_frequency_counts_decide(tmp_path: Path) -> None:
    statistics = training_statistics(config(tmp_path, coco_style()))
    assert statistics.group_ids.tolist() == [0, 0]


def test_sets_that_disagree_on_groups_are_grouped_by_count(tmp_path: Path) -> None:
    other = changed(lvis_style(), "categories", 0, frequency="c")
    statistics = training_statistics(config(tmp_path, lvis_style(), other))
    assert statistics.group_ids.tolist() == [0, 0]


def test_sampled_counts_follow_the_repeat_factors(tmp_path: Path) -> None:
    cfg = config(tmp_path, lvis_style())
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.9
    # Two images have annotations: cats are in both, the dog in one, hence a factor of
    # sqrt(0.9 / 0.5) for the image that has both.
    factors = compute_repeat_factors(training_set(cfg).dicts, 2, 0.9)
    np.testing.assert_allclose(factors, [np.sqrt(1.8), 1])
    statistics = training_statistics(cfg)
    np.testing.assert_allclose(statistics.sampled_counts, [np.sqrt(1.8) + 1, np.sqrt(1.8)])


def test_class_balanced_sampler_is_weighted_too(tmp_path: Path) -> None:
    cfg = config(tmp_path, lvis_style())
    cfg.DATALOADER.SAMPLER_TRAIN = "ClassBalancedTrainingSampler"
    np.testing.assert_allclose(training_statistics(cfg).sampled_counts, [3, 2])


def test_uniform_sampler_gives_the_instance_counts(tmp_path: Path) -> None:
    statistics = training_statistics(config(tmp_path, lvis_style()))
    np.testing.assert_array_equal(statistics.sampled_counts, statistics.instance_counts)


@pytest.mark.parametrize("prior", ["image", "instance"])
def test_other_priors_have_no_sampled_counts(tmp_path: Path, prior: str) -> None:
    cfg = config(tmp_path, lvis_style())
    cfg.MODEL.METHODS.BALANCED_SOFTMAX.PRIOR = prior
    assert training_statistics(cfg).sampled_counts is None


def test_sampler_without_factors_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SilentSampler(IndexStream):
        @classmethod
        def from_config(cls, *_: object, **__: object) -> SilentSampler:
            return cls(2, seed=0)

    monkeypatch.setattr(SAMPLER_REGISTRY, "get", lambda name: SilentSampler)
    cfg = config(tmp_path, lvis_style())
    cfg.DATALOADER.SAMPLER_TRAIN = "SilentSampler"
    with caplog.at_level(logging.WARNING):
        training_statistics(cfg)
    assert any("SilentSampler does not say how often" in r.getMessage() for r in caplog.records)


def test_names_and_ids_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    known = training_set(config(tmp_path, lvis_style()))
    assert (known.class_names, known.num_classes) == (("cat", "dog"), 2)
    assert known.category_ids == tuple(sorted(c["id"] for c in lvis_style()["categories"]))


def test_each_set_is_read_once_by_what_is_handed_in(tmp_path: Path) -> None:
    cfg, asked = config(tmp_path, lvis_style(), lvis_style()), []

    def load(name: str) -> Sequence[dict]:
        asked.append(name)
        return load_dataset_dicts(name)

    build_job(cfg).load_training_set(load=load)
    assert tuple(asked) == cfg.DATASETS.TRAIN


@pytest.mark.data
def test_statistics_of_real_photographs(shared_data: Path) -> None:
    folder = shared_data / "coco_mini_lvis"
    cfg = get_cfg()
    add_balms_config(cfg)
    name = new_name()
    path = str(folder / "coco_mini_lvis_train.json")
    cfg.DATASETS.REGISTER = [[name, path, str(folder)]]
    cfg.DATASETS.TRAIN = (name,)
    register_from_config(cfg)
    statistics = training_statistics(cfg)
    own = MetadataCatalog.get(name).class_image_count
    assert statistics.image_counts.tolist() == [row["image_count"] for row in own]
    assert (statistics.image_counts == 0).sum() == 11
    assert {name: len(ids) for name, ids in statistics.groups.items()} == {
        "rare": 79,
        "common": 1,
        "frequent": 0,
    }
