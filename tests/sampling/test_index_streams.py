"""Streams against detectron2's samplers, their shares, and their state."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from sampler_problem import make_sampler

from balms_seg.sampling import (
    SAMPLER_REGISTRY,
    Block,
    IndexStream,
    ProgressivelyBalancedTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

FACTORS = np.random.default_rng(3).uniform(0.3, 4, 31).astype(np.float32)


class ReweightedSampler(IndexStream):
    """What a learned sampler needs: probabilities with each draw, rates that change in between."""

    def __init__(self, size: int, *, seed: int, block: int = 10) -> None:
        super().__init__(size, seed=seed)
        self.block = block
        self.rates = np.ones(size)
        self._block_rates = self.rates

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: list[dict], *, num_classes: int, seed: int
    ) -> ReweightedSampler:
        return cls(len(dataset_dicts), seed=seed)

    def draw_block(self, generator: torch.Generator) -> Block:
        self._block_rates = self.rates
        probabilities = self.rates / self.rates.sum()
        drawn = torch.multinomial(
            torch.from_numpy(probabilities), self.block, replacement=True, generator=generator
        ).numpy()
        return Block(drawn, probabilities[drawn])


STREAMS: dict[str, Callable[[], IndexStream]] = {
    "training": lambda: TrainingSampler(31, seed=11),
    "in_order": lambda: TrainingSampler(31, seed=11, shuffle=False),
    "repeat_factor": lambda: RepeatFactorTrainingSampler(FACTORS, seed=11),
    "reweighted": lambda: ReweightedSampler(31, seed=11),
    "meta": lambda: make_sampler(seed=11),
    "progressive": lambda: ProgressivelyBalancedTrainingSampler(
        FACTORS / FACTORS.mean(), seed=11, num_epochs=4
    ),
}


@pytest.fixture(params=STREAMS)
def make_stream(request: pytest.FixtureRequest) -> Callable[[], IndexStream]:
    return STREAMS[request.param]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("seed", [0, 17, 2**31 - 1])
def test_training_stream_equals_detectron2s(seed: int, shuffle: bool) -> None:
    samplers = pytest.importorskip("detectron2.data.samplers")
    reference = samplers.TrainingSampler(31, shuffle=shuffle, seed=seed)
    ours = TrainingSampler(31, shuffle=shuffle, seed=seed)
    assert ours.draw(100).indices.tolist() == list(islice(reference, 100))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("seed", [0, 17, 2**31 - 1])
def test_repeat_factor_stream_equals_detectron2s(seed: int, shuffle: bool) -> None:
    samplers = pytest.importorskip("detectron2.data.samplers")
    factors = torch.from_numpy(FACTORS)
    reference = samplers.RepeatFactorTrainingSampler(factors, shuffle=shuffle, seed=seed)
    ours = RepeatFactorTrainingSampler(FACTORS, shuffle=shuffle, seed=seed)
    assert ours.draw(400).indices.tolist() == list(islice(reference, 400))


def _ranked(
    make: Callable[[], IndexStream], rank: int, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> IndexStream:
    monkeypatch.setattr(
        "balms_seg.sampling.streams._rank_and_world_size", lambda: (rank, world_size)
    )
    return make()


@pytest.mark.parametrize("drawn", [0, 7])
def test_union_of_the_ranks_iterations_is_the_stream(
    make_stream: Callable[[], IndexStream], drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [_ranked(make_stream, rank, 3, monkeypatch) for rank in range(3)]
    for stream in streams:
        stream.draw(drawn)
    shares = [list(islice(stream, 40)) for stream in streams]
    whole = make_stream().draw(120).indices.tolist()[drawn:]
    union = [shares[position % 3].pop(0) for position in range(drawn, 120) if shares[position % 3]]
    assert union == whole[: len(union)]
    assert len(union) > 100


def test_iteration_does_not_move_the_stream(make_stream: Callable[[], IndexStream]) -> None:
    stream = make_stream()
    stream.draw(5)
    first = list(islice(stream, 70))
    assert list(islice(stream, 70)) == first
    assert stream.position == 5
    assert stream.draw(70).indices.tolist() == first


def test_draws_do_not_depend_on_how_many_are_taken_at_once(
    make_stream: Callable[[], IndexStream],
) -> None:
    whole = make_stream().draw(150)
    stream = make_stream()
    parts = [stream.draw(count) for count in (1, 0, 30, 31, 1, 62, 25)]
    np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), whole.indices)
    assert stream.position == 150


@pytest.mark.parametrize("drawn", [0, 1, 30, 31, 32, 62, 99])
def test_a_restored_stream_continues(make_stream: Callable[[], IndexStream], drawn: int) -> None:
    """Offsets around the end of an epoch included; the state survives a safe torch.load."""
    stream = make_stream()
    stream.draw(drawn)
    file = io.BytesIO()
    torch.save(stream.state_dict(), file)
    file.seek(0)
    restored = make_stream()
    restored.draw(13)  # whatever it did before must not matter
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored.position == drawn
    np.testing.assert_array_equal(restored.draw(90).indices, stream.draw(90).indices)


def test_a_restored_stream_continues_after_a_whole_epoch() -> None:
    stream = RepeatFactorTrainingSampler(FACTORS, seed=11)
    stream.draw(1)
    stream.draw(len(stream._block) - 1)
    restored = RepeatFactorTrainingSampler(FACTORS, seed=11)
    restored.load_state_dict(stream.state_dict())
    assert restored.draw(90).indices.tolist() == stream.draw(90).indices.tolist()


def test_the_state_does_not_grow_with_the_data_set() -> None:
    sizes = []
    for size in (10, 100_000):
        stream = TrainingSampler(size, seed=0)
        stream.draw(size // 2)
        file = io.BytesIO()
        torch.save(stream.state_dict(), file)
        sizes.append(file.tell())
    assert abs(sizes[1] - sizes[0]) < 200
    assert max(sizes) < 10_000


def test_a_saved_state_is_not_changed_by_later_draws(
    make_stream: Callable[[], IndexStream],
) -> None:
    stream = make_stream()
    stream.draw(3)
    state = stream.state_dict()
    expected = stream.draw(200).indices
    stream.load_state_dict(state)
    np.testing.assert_array_equal(stream.draw(200).indices, expected)


def test_a_state_of_another_stream_is_refused() -> None:
    stream = RepeatFactorTrainingSampler(FACTORS, seed=0)
    others = [
        TrainingSampler(31, seed=0),
        RepeatFactorTrainingSampler(FACTORS[:-1], seed=0),
        RepeatFactorTrainingSampler(FACTORS + 1, seed=0),
    ]
    for other in others:
        with pytest.raises(ValueError, match="resume with the training set"):
            stream.load_state_dict(other.state_dict())


def test_an_update_holds_from_the_next_block_on() -> None:
    """Draws carry the probability they were drawn with, across an update inside a block."""
    stream = ReweightedSampler(4, seed=0, block=10)
    before = stream.draw(3)
    stream.rates = np.array([1.0, 0.0, 0.0, 3.0])
    rest_and_next = stream.draw(17)
    probabilities = np.concatenate([before.probabilities, rest_and_next.probabilities])
    assert (probabilities[:10] == 0.25).all()
    assert set(rest_and_next.indices[7:]) == {0, 3}
    np.testing.assert_array_equal(
        rest_and_next.probabilities[7:], np.where(rest_and_next.indices[7:] == 3, 0.75, 0.25)
    )


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        TrainingSampler(0, seed=0)
    with pytest.raises(TypeError, match="int"):
        TrainingSampler(3.0, seed=0)


def test_an_unknown_sampler_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"ClassBalancedTrainingSampler.*but got 'Nonesuch'"):
        SAMPLER_REGISTRY.get("Nonesuch")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        SAMPLER_REGISTRY.register()(TrainingSampler)
