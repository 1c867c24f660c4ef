"""Glyphs with LVIS's counts and its way of annotating a part of each image."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the glyph data set draws matplotlib's fonts")

from balms_seg.annotations import read_annotations
from balms_seg.glyphs.glyph_config import PRESETS, GlyphConfig
from balms_seg.glyphs.glyph_counts import lvis_counts
from balms_seg.glyphs.glyph_dataset import STAMP, make_glyph_dataset
from balms_seg.glyphs.glyph_labels import (
    HIDDEN_SHARE,
    ImageLabels,
    annotated_of,
    federated_labels,
    shown_counts,
)

SMALL = GlyphConfig(
    num_classes=12,
    max_count=101,
    val_images=8,
    size=72,
    instances_per_image=(3, 9),
    tail="lvis",
    federated=True,
)


def test_counts_have_the_quantiles_of_lvis() -> None:
    """Facts of lvis_v1_train.json: 337, 461 and 405 of 1203 classes, median 37, 360,952 in all."""
    counts = lvis_counts(1203, 1977)
    groups = [(counts <= 10).sum(), ((counts > 10) & (counts <= 100)).sum(), (counts > 100).sum()]
    np.testing.assert_allclose(groups, [337, 461, 405], atol=15)
    assert np.median(counts) == pytest.approx(37, abs=1)
    assert counts.sum() == pytest.approx(360_952, rel=0.03)
    assert (np.diff(counts) <= 0).all()


def test_another_head_leaves_rare_and_common_classes_alone() -> None:
    counts, longer = lvis_counts(300, 1977), lvis_counts(300, 5000)
    assert (counts[counts <= 100] == longer[counts <= 100]).all()
    assert longer[0] > 4900
    assert counts[0] < 2000


def test_the_preset_has_the_size_that_is_asked_for() -> None:
    config = PRESETS["lvis"].resolved()
    assert 10_000 <= config.train_images <= 12_000
    counts = config.annotated_counts(config.max_count)
    assert (counts <= 10).mean() == pytest.approx(0.28, abs=0.01)
    assert (counts > 100).mean() == pytest.approx(0.34, abs=0.01)


def test_as_many_images_annotate_a_class_as_its_count_says() -> None:
    counts = np.array([1, 2, 3, 10, 57])
    shown = shown_counts(counts)
    rng = np.random.default_rng(0)
    images = [[] for _ in range(100)]
    for class_index, number in enumerate(shown):
        for image in rng.choice(100, number, replace=False):
            images[image].append(class_index)
    labels = federated_labels(images, 40, rng)
    annotated = Counter(c for own in labels for c in own.annotated)
    assert [annotated[c] for c in range(5)] == counts.tolist()
    for own, image in zip(labels, images, strict=True):
        assert own.annotated <= set(image)
        assert not set(own.negative) & set(image)  # what is hidden is not said to be absent
        assert set(own.not_exhaustive) <= own.annotated
    assert np.mean([len(own.negative) for own in labels]) == pytest.approx(9.42, abs=1)


def test_of_a_class_that_is_not_exhaustive_one_instance_is_annotated() -> None:
    drawn = [{"category_id": c + 1, "id": place} for place, c in enumerate([0, 0, 1, 1, 2])]
    labels = ImageLabels(frozenset({0, 1}), (), (1,))
    assert [one["id"] for one in annotated_of(drawn, labels)] == [0, 1, 2]


def test_the_files_say_what_is_annotated(tmp_path: Path) -> None:
    assert make_glyph_dataset(tmp_path, SMALL, workers=1)
    config = SMALL.resolved()
    annotations = read_annotations(tmp_path / "train.json")
    pairs = np.unique(np.stack([annotations.images, annotations.classes]), axis=1)
    counts = np.bincount(pairs[1], minlength=12)
    expected = config.annotated_counts(config.max_count)
    assert sorted(counts.tolist(), reverse=True) == expected.tolist()
    content = json.loads((tmp_path / "train.json").read_text())
    assert [category["image_count"] for category in content["categories"]] == counts.tolist()
    val = json.loads((tmp_path / "val.json").read_text())
    shown = Counter((a["image_id"], a["category_id"]) for a in val["annotations"])
    per_class = Counter(category for _, category in shown)
    assert len(set(per_class.values())) == 1  # balanced
    assert set(per_class.values()) == {round((1 - HIDDEN_SHARE) * (8 * 6 // 12))}


def test_a_data_set_of_an_earlier_version_is_still_known(tmp_path: Path) -> None:
    plain = GlyphConfig(num_classes=2, train_images=3, val_images=2, size=64)
    make_glyph_dataset(tmp_path, plain, workers=1)
    stamp = json.loads((tmp_path / STAMP).read_text())
    for later in ("tail", "federated"):
        del stamp["arguments"][later]
    (tmp_path / STAMP).write_text(json.dumps(stamp))
    assert not make_glyph_dataset(tmp_path, plain, workers=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tail": "power"}, "exponential or lvis, but got power"),
        ({"tail": "lvis", "min_count": 3}, "a min_count or tail_exponent"),
        ({"tail": "lvis", "max_count": 100}, "max_count is not above 100"),
        ({"tail": "lvis"}, "max_count is not above 100"),
    ],
)
def test_impossible_tails_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlyphConfig(**arguments).resolved()
