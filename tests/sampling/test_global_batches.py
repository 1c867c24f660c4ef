"""Global batches: shares, groups, and what is drawn but not consumed."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest

from balms_seg.sampling import Draw, GlobalBatchSampler, RepeatFactorTrainingSampler

FACTORS = np.random.default_rng(1).uniform(1, 3, 25)
GROUPS = np.random.default_rng(2).integers(0, 2, 25)


def _sampler(batch_size: int = 6, *, grouped: bool = True, **ranks: int) -> GlobalBatchSampler:
    stream = RepeatFactorTrainingSampler(FACTORS, seed=4)
    groups = GROUPS if grouped else None
    return GlobalBatchSampler(stream, batch_size, groups=groups, **ranks)


def _strip(batch: list[Draw]) -> list[tuple[int, int]]:
    """Without the probabilities, which are nan."""
    return [(draw.image, draw.position) for draw in batch]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_union_of_the_ranks_shares_is_the_one_process_batch(world_size: int, grouped: bool) -> None:
    whole = [_strip(batch) for batch in islice(_sampler(grouped=grouped), 20)]
    ranks = [
        [
            _strip(batch)
            for batch in islice(_sampler(grouped=grouped, rank=rank, world_size=world_size), 20)
        ]
        for rank in range(world_size)
    ]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert {len(share) for share in shares} == {6 // world_size}
        assert [draw for together in zip(*shares, strict=True) for draw in together] == batch


def test_ungrouped_batches_are_the_stream() -> None:
    draws = list(chain.from_iterable(islice(_sampler(grouped=False), 10)))
    assert [draw.position for draw in draws] == list(range(60))
    expected = RepeatFactorTrainingSampler(FACTORS, seed=4).draw(60).indices.tolist()
    assert [draw.image for draw in draws] == expected


def test_a_batch_holds_one_group_and_no_draw_is_lost() -> None:
    sampler = _sampler()
    batches = list(islice(sampler, 30))
    assert {len({GROUPS[draw.image] for draw in batch}) for batch in batches} == {1}
    assert {GROUPS[batch[0].image] for batch in batches} == {0, 1}
    waiting = list(chain.from_iterable(sampler._buckets))
    positions = sorted(draw.position for draw in chain(waiting, *batches))
    assert positions == list(range(sampler.stream.position))
    expected = RepeatFactorTrainingSampler(FACTORS, seed=4).draw(len(positions)).indices
    assert all(draw.image == expected[draw.position] for draw in chain(*batches))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("ahead", [0, 1, 5])
@pytest.mark.parametrize("consumed", [0, 4])
def test_resuming_gives_the_first_batch_not_consumed(
    consumed: int, ahead: int, grouped: bool
) -> None:
    expected = [_strip(batch) for batch in islice(_sampler(grouped=grouped), 30)]
    sampler = _sampler(grouped=grouped)
    for _ in islice(sampler, consumed + ahead):
        pass
    for _ in range(consumed):
        sampler.mark_consumed()
    resumed = _sampler(grouped=grouped)
    resumed.load_state_dict(sampler.state_dict())
    rest = [_strip(batch) for batch in islice(resumed, 30 - consumed)]
    assert rest == expected[consumed:]


def test_a_run_resumes_with_another_number_of_ranks() -> None:
    sampler = _sampler()
    for _ in islice(sampler, 5):
        pass
    whole = [_strip(batch) for batch in islice(_sampler(), 15)]
    shares = []
    for rank in range(2):
        resumed = _sampler(rank=rank, world_size=2)
        resumed.load_state_dict(sampler.state_dict())
        shares.append([_strip(batch) for batch in islice(resumed, 15)])
    assert [
        [draw for together in zip(*pair, strict=True) for draw in together]
        for pair in zip(*shares, strict=True)
    ] == whole


def test_a_new_iteration_repeats_what_was_not_consumed_and_ends_the_old_one() -> None:
    sampler = _sampler()
    old = iter(sampler)
    drawn = [_strip(next(old)) for _ in range(4)]
    sampler.mark_consumed()
    assert [_strip(batch) for batch in islice(sampler, 3)] == drawn[1:]
    with pytest.raises(RuntimeError, match=r"call iter\(\)"):
        next(old)


@pytest.mark.parametrize(("batch_size", "world_size"), [(6, 4), (0, 1)])
def test_batches_that_cannot_be_shared_out_are_refused(batch_size: int, world_size: int) -> None:
    with pytest.raises(ValueError, match="IMS_PER_BATCH"):
        _sampler(batch_size, world_size=world_size)


def test_states_of_other_settings_are_refused() -> None:
    sampler = _sampler()
    with pytest.raises(ValueError, match="ASPECT_RATIO_GROUPING"):
        sampler.load_state_dict(_sampler(grouped=False).state_dict())


def test_groups_of_another_data_set_are_refused() -> None:
    stream = RepeatFactorTrainingSampler(FACTORS, seed=4)
    with pytest.raises(ValueError, match="25"):
        GlobalBatchSampler(stream, 2, groups=GROUPS[:-1])
