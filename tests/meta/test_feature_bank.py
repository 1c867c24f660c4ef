"""The feature bank: what it keeps, what it draws, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from balms_seg.meta import FeatureBank

NUM_CLASSES, NUM_FEATURES = 3, 2


def make_bank(per_class: int = 2, background: int = 3, **settings: object) -> FeatureBank:
    return FeatureBank(
        NUM_CLASSES, NUM_FEATURES, per_class=per_class, background=background, **settings
    )


def add(bank: FeatureBank, classes: list[int], first: int = 0) -> None:
    """Rows whose features are their running number."""
    numbers = torch.arange(first, first + len(classes)).float()
    bank.add(numbers[:, None].expand(-1, NUM_FEATURES), torch.tensor(classes))


def content(bank: FeatureBank) -> dict[int, set[int]]:
    """Numbers held of each class, by drawing long enough to see them all."""
    generator = torch.Generator().manual_seed(0)
    features, classes = bank.draw(500, 500, generator)
    return {
        c: {int(number) for number in features[classes == c, 0]}
        for c in sorted(set(classes.tolist()))
    }


def test_the_newest_rows_of_each_class_stay() -> None:
    bank = make_bank()
    add(bank, [0, 1, 0, 0, 3])
    assert content(bank) == {0: {2, 3}, 1: {1}, 3: {4}}
    add(bank, [3, 0, 3, 3, 1], first=10)
    assert content(bank) == {0: {3, 11}, 1: {1, 14}, 3: {10, 12, 13}}
    assert bank.sizes.tolist() == [2, 2, 0, 3]


@pytest.mark.parametrize("split", [1, 3, 7])
def test_rows_may_come_in_any_portions(split: int) -> None:
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(0, NUM_CLASSES + 1, (40,), generator=generator).tolist()
    whole, portions = make_bank(), make_bank()
    add(whole, classes)
    for start in range(0, 40, split):
        add(portions, classes[start : start + split], first=start)
    assert content(whole) == content(portions)
    latest = {c: [i for i, other in enumerate(classes) if other == c] for c in range(4)}
    assert content(whole) == {c: set(latest[c][-(3 if c == 3 else 2) :]) for c in range(4)}


def test_draws_are_balanced_over_the_classes_held() -> None:
    bank = make_bank(per_class=50)
    add(bank, [0] * 50 + [2] + [3] * 3)
    features, classes = bank.draw(4000, 100, torch.Generator().manual_seed(2))
    counts = torch.bincount(classes, minlength=4)
    assert counts[1] == 0
    assert counts[3] == 100
    assert abs(int(counts[0]) - 2000) < 4 * 32  # four standard deviations
    each = torch.bincount(features[classes == 0, 0].long(), minlength=50)
    assert each.min() > 10


def test_draws_are_a_function_of_the_generator() -> None:
    bank = make_bank()
    add(bank, [0, 1, 2, 3])
    one, other = (bank.draw(8, 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_an_empty_bank_gives_nothing() -> None:
    features, classes = make_bank().draw(8, 4, torch.Generator())
    assert features.shape == (0, NUM_FEATURES)
    assert classes.shape == (0,)
    bank = make_bank()
    add(bank, [3, 3])
    assert bank.draw(8, 4, torch.Generator())[1].tolist() == [3] * 4


def test_features_are_kept_in_half_precision_and_without_a_graph() -> None:
    bank = make_bank()
    bank.add(torch.full((1, 2), 1 / 3, requires_grad=True), torch.tensor([0]))
    features, _ = bank.draw(1, 0, torch.Generator())
    assert features.dtype == torch.float16
    assert not features.requires_grad
    assert features[0, 0] == torch.tensor(1 / 3).half()


def test_a_restored_bank_goes_on_as_the_saved_one() -> None:
    bank, restored = make_bank(), make_bank()
    add(bank, [0, 0, 0, 1, 3])
    state = copy.deepcopy(bank.state_dict())
    assert len(state["features"]) == 4  # no empty places
    restored.load_state_dict(state)
    for each in (bank, restored):
        add(each, [0, 2, 3, 3, 3], first=20)
    assert content(bank) == content(restored)


@pytest.mark.parametrize("other", [{"per_class": 4}, {"background": 1}])
def test_a_state_of_another_bank_is_refused(other: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"META\.BANK\.PER_CLASS"):
        make_bank(**other).load_state_dict(make_bank().state_dict())


def test_memory_is_bounded_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"META\.BANK\.MAX_MEMORY_MB 10 .* take 12 MiB"):
        FeatureBank(1, 1024, per_class=2048, background=4096, max_memory_mb=10)
    with caplog.at_level("INFO", logger="balms_seg"):
        FeatureBank(1, 1024, per_class=2048, background=4096, max_memory_mb=12)
    assert "12.0 MiB on cpu" in caplog.text
