"""The plan of a glyph data set: exact counts, and arguments that no plan fits."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the glyph data set draws matplotlib's fonts")

from balms_seg.glyphs.glyph_alphabet import SIMILAR_PAIRS
from balms_seg.glyphs.glyph_counts import assign_classes, tail_counts
from balms_seg.glyphs.glyph_dataset import PRESETS, GlyphConfig
from balms_seg.glyphs.glyph_plan import plan_glyphs

SMALL = GlyphConfig(num_classes=12, train_images=24, min_count=2, val_images=12, size=96)


# Counts


def test_tail_runs_from_the_greatest_to_the_least_count() -> None:
    counts = tail_counts(40, 3, 400)
    assert (counts[0], counts[-1]) == (400, 3)
    assert (np.diff(counts) <= 0).all()
    assert tail_counts(40, 3, 400, 0.5).sum() < counts.sum() < tail_counts(40, 3, 400, 2).sum()


def test_default_has_a_third_of_each_frequency() -> None:
    counts = plan_glyphs(PRESETS["default"]).image_counts
    rare, common = (counts <= 10).sum(), ((counts > 10) & (counts <= 100)).sum()
    assert counts.min() >= 1
    assert sorted([rare, common, 40 - rare - common]) == [13, 13, 14]


def test_benchmark_preset_is_the_published_design() -> None:
    plan = plan_glyphs(PRESETS["benchmark"])
    assert len(plan.instances["train"]) == 843
    assert (plan.image_counts.min(), plan.image_counts.max()) == (3, 400)
    for split in ("val", "heldout"):
        assert len(plan.instances[split]) == 200
        counts = Counter(c for image in plan.instances[split] for c in image)
        assert counts == dict.fromkeys(range(40), 20)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        GlyphConfig(num_classes=1, train_images=5, val_images=3),
        GlyphConfig(num_classes=3, max_count=50, instances_per_image=(5, 6), val_images=9),
        GlyphConfig(num_classes=30, min_count=7, max_count=7, val_images=40),
        GlyphConfig(num_classes=40, max_count=60, tail_exponent=3.0, val_images=40),
        GlyphConfig(num_classes=300, train_images=1000, seed=2**32 - 1),
    ],
)
def test_every_class_is_in_as_many_images_as_planned(config: GlyphConfig) -> None:
    resolved, plan = config.resolved(), plan_glyphs(config)
    expected = tail_counts(
        config.num_classes, config.min_count, resolved.max_count, config.tail_exponent
    )
    seen = Counter(c for image in plan.instances["train"] for c in set(image))
    assert [seen[k] for k in range(config.num_classes)] == plan.image_counts.tolist()
    assert sorted(plan.image_counts.tolist(), reverse=True) == expected.tolist()
    low, high = config.instances_per_image
    for split, images in plan.instances.items():
        assert len(images) == (resolved.train_images if split == "train" else resolved.val_images)
        assert all(low <= len(image) <= high for image in images)


def test_assignment_is_feasible_up_to_the_brim() -> None:
    counts = np.array([10, 10, 10, 9, 1])
    images = assign_classes(counts, 10, 4, 4, np.random.default_rng(0))
    assert all(len(set(image)) == 4 for image in images)
    assert np.bincount(np.concatenate(images)).tolist() == counts.tolist()


def test_frequent_classes_meet_in_images_as_chance_has_it() -> None:
    counts = np.array([300, 300, 300, 300])
    images = assign_classes(counts, 600, 1, 3, np.random.default_rng(0))
    together = sum({0, 1} <= set(image) for image in images)
    assert 60 < together < 180  # greedy filling alone gives about 0 or 300


def test_similar_glyphs_pair_a_frequent_with_a_rare_class() -> None:
    plan = plan_glyphs(GlyphConfig(similar=True))
    counts = dict(zip(plan.characters, plan.image_counts.tolist(), strict=True))
    assert len(counts) == 40
    assert all(counts[a] > counts[b] for a, b in SIMILAR_PAIRS[:20])


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes: expected at least 1, but got 0"),
        ({"min_count": 5, "max_count": 4}, "max_count: expected at least min_count, which is 5"),
        ({"tail_exponent": float("nan")}, "tail_exponent: expected a positive number"),
        ({"size": 48}, "size: expected 49 to 4096 px"),
        ({"size": 40, "instances_per_image": (2, 9)}, "size: expected 60 to 4096 px"),
        ({"seed": -1}, "seed: expected 0 to"),
        ({"instances_per_image": (3, 2)}, "instances_per_image: expected"),
        ({"faces": "thin"}, "faces: expected one of"),
        ({"similar": True, "num_classes": 9}, "num_classes: expected an even number"),
        ({"similar": True, "num_classes": 400}, "num_classes: expected at most"),
        ({"train_images": 100, "max_count": 101}, "Expected at least 101 images"),
        ({"train_images": 5000, "max_count": 100}, "classes in an image"),
        ({"train_images": 9, "min_count": 2}, "Expected room for 40 classes"),
        ({"val_images": 9}, "Expected at least 10 validation images"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_glyphs(GlyphConfig(**arguments))


def test_everything_out_of_range_is_listed_at_once() -> None:
    with pytest.raises(ValueError, match="min_count: .*; seed: "):
        GlyphConfig(min_count=0, seed=-1).resolved()
