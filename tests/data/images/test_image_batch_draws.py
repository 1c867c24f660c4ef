"""What the sampler learns from a batch of whole images: the same as from dicts."""

from __future__ import annotations

import pytest
import torch

from balms_seg.image_batch import ImageBatch
from balms_seg.sampling import draws_of, positions_of


def made_up_batch(probabilities: list[float]) -> ImageBatch:
    return ImageBatch(
        images=torch.zeros(3, 3, 2, 2),
        labels=torch.tensor([0, 2, 1]),
        positions=torch.tensor([24, 25, 26]),
        dataset_indices=torch.tensor([7, 0, 7]),
        draw_probabilities=torch.tensor(probabilities, dtype=torch.float64),
    )


def test_draws_equal_those_of_its_dicts() -> None:
    batch = made_up_batch([0.1, 0.3, 0.1])
    whole, by_dict = draws_of(batch), draws_of(list(batch))
    for name in ("indices", "probabilities", "positions"):
        assert getattr(whole, name).tolist() == getattr(by_dict, name).tolist()
        assert getattr(whole, name).dtype == getattr(by_dict, name).dtype
    assert positions_of(batch) == positions_of(list(batch)) == [24, 25, 26]


def test_a_sampler_without_probabilities_is_named() -> None:
    batch = made_up_batch([0.1, float("nan"), 0.1])
    for form in (batch, list(batch)):
        with pytest.raises(KeyError, match="draw_probability.*MetaRepeatFactor"):
            draws_of(form)
