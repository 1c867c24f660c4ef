"""Mixed images have the labels of what they are made of, in its shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from balms_seg.data.images.label_mixing import LabelMixing, beta_quantiles
from balms_seg.image_batch import ImageBatch


def made_up_batch(count: int = 64) -> ImageBatch:
    """Image i is all i."""
    values = torch.arange(count)
    return ImageBatch(
        images=values.to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16),
        labels=values,
        positions=values + 100,
        dataset_indices=values,
        draw_probabilities=torch.full((count,), torch.nan, dtype=torch.float64),
    )


@pytest.mark.parametrize(
    "mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}], ids=str
)
def test_shares_are_those_of_the_pixels(mixing: dict[str, float]) -> None:
    batch = made_up_batch()
    mixed = LabelMixing(**mixing)(batch, 7)
    second, share = mixed.label_mix
    assert torch.equal(second, batch.labels.roll(1))
    expected = share * batch.labels + (1 - share) * second
    assert torch.allclose(mixed.images.mean(dim=(1, 2, 3)), expected, atol=1e-4)
    assert torch.equal(mixed.labels, batch.labels)
    is_cut = (mixed.images == mixed.images.round()).flatten(start_dim=1).all(dim=1)
    if len(mixing) == 2:
        assert 0.2 < is_cut.float().mean() < 0.8
    else:
        assert is_cut.float().mean() == ("cutmix" in mixing)


def test_shares_depend_on_seed_and_position() -> None:
    batch, mix = made_up_batch(), LabelMixing(mixup=1.0)
    again = mix(batch, 7).label_mix[1]
    assert torch.equal(again, mix(batch, 7).label_mix[1])
    assert not torch.equal(again, mix(batch, 8).label_mix[1])


def test_nothing_is_mixed_unless_asked_for() -> None:
    batch = made_up_batch()
    assert LabelMixing()(batch, 0) is batch


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 2.0])
def test_quantiles_are_those_of_the_beta_distribution(alpha: float) -> None:
    quantiles = beta_quantiles(alpha)
    assert len(quantiles) == 4097
    assert (np.diff(quantiles) >= 0).all()
    drawn = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    for probability in (0.1, 0.25, 0.5, 0.9):
        ours = np.interp(probability, np.linspace(0, 1, 4097), quantiles)
        assert abs((drawn <= ours).mean() - probability) < 0.005


def test_cut_boxes_lie_anywhere_in_images_of_any_shape() -> None:
    images = torch.arange(64, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 40)
    mixed = LabelMixing(cutmix=1.0)(replace(made_up_batch(), images=images), 7).images
    is_other = (mixed != images)[:, 0]
    rows, columns = is_other.any(dim=2), is_other.any(dim=1)
    assert torch.equal(is_other, rows[:, :, None] & columns[:, None, :])
    assert float(rows.float().mean()) == pytest.approx(float(columns.float().mean()), abs=0.06)
    assert not torch.equal(rows, columns[:, :16])


def test_where_a_box_lies_has_no_say_in_whether_one_is_cut() -> None:
    batch = made_up_batch()
    mixed = LabelMixing(mixup=1.0, cutmix=1.0)(batch, 7).images
    is_cut = (mixed == mixed.round()).flatten(start_dim=1).all(dim=1)
    is_other = (mixed != batch.images)[is_cut, 0]
    small = is_other[(is_other.sum(dim=(1, 2)) > 0) & (is_other.sum(dim=(1, 2)) < 100)]
    for lines in (small.any(dim=2), small.any(dim=1)):
        middles = (lines * torch.arange(16)).sum(dim=1) / lines.sum(dim=1)
        assert middles.min() < 6
        assert middles.max() > 9
