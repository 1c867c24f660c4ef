"""MODEL.TRAIN_ONLY: what it names is trained, and nothing else moves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from balms_seg.modeling.freeze import normalised_as_in_evaluation, train_only

BATCH = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False)),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed_by_training(model: nn.Module) -> set[str]:
    before = state(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.train()
        model(BATCH).square().sum().backward()
        optimizer.step()
    return {name for name, value in state(model).items() if not torch.equal(value, before[name])}


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_the_named_module_changes_in_training() -> None:
    assert changed_by_training(train_only(small_model(), ["3"])) == {"3.weight", "3.bias"}


def test_without_freezing_the_statistics_would_have_changed() -> None:
    assert {"0.1.running_mean", "1.1.running_mean"} <= changed_by_training(small_model())


def test_statistics_of_a_trained_block_still_follow_the_data() -> None:
    changed = changed_by_training(train_only(small_model(), ["1"]))
    assert {"1.0.weight", "1.1.running_mean", "1.1.num_batches_tracked"} <= changed
    assert not any(name.startswith(("0.", "3.")) for name in changed)


def test_frozen_normalisation_stays_in_evaluation_mode_in_a_copy_too() -> None:
    model = copy.deepcopy(train_only(small_model(), ["3"])).train()
    assert not model[0][1].training
    assert model[3].training
    assert "0.1.running_mean" not in changed_by_training(model)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["3"], {"3.weight", "3.bias"}),
        (["3.bias"], {"3.bias"}),
        (["*.bias"], {"0.0.bias", "0.1.bias", "1.0.bias", "3.bias"}),
        (["?.0"], {"0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"}),
        (["0.1", "3.weight"], {"0.1.weight", "0.1.bias", "3.weight"}),
    ],
)
def test_patterns_name_parameters_modules_and_wildcards(
    patterns: list[str], expected: set[str]
) -> None:
    assert trained(train_only(small_model(), patterns)) == expected


def test_a_pattern_is_no_prefix_of_other_names() -> None:
    model = nn.ModuleDict({"cls": nn.Linear(2, 2), "cls_score": nn.Linear(2, 2)})
    assert trained(train_only(model, ["cls"])) == {"cls.weight", "cls.bias"}


def test_a_later_choice_replaces_the_earlier_one() -> None:
    model = train_only(train_only(small_model(), ["3"]), ["0.0"])
    assert trained(model) == {"0.0.weight", "0.0.bias"}


def test_a_pattern_that_matches_nothing_shows_names_like_it() -> None:
    model = nn.ModuleDict({"box_predictor": nn.ModuleDict({"cls_score": nn.Linear(2, 2)})})
    with pytest.raises(ValueError, match=r"'box_predictor\.clsscore'.*box_predictor\.cls_score"):
        train_only(model, ["box_predictor.clsscore"])
    assert trained(model) == {"box_predictor.cls_score.weight", "box_predictor.cls_score.bias"}


def test_no_pattern_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="got none"):
        train_only(small_model(), [])


def test_statistics_of_frozen_layers_follow_the_data_where_asked() -> None:
    changed = changed_by_training(train_only(small_model(), ["3"], frozen_norm="train"))
    assert {"3.weight", "3.bias", "0.1.running_mean", "1.1.running_mean"} <= changed
    assert not any(name.endswith((".weight", ".bias")) for name in changed - {"3.weight", "3.bias"})


def test_statistics_stay_within_normalised_as_in_evaluation() -> None:
    model = train_only(small_model(), ["3"], frozen_norm="train").train()
    before, expected = state(model), copy.deepcopy(model).eval()(BATCH)
    with normalised_as_in_evaluation(model):
        assert torch.equal(model(BATCH), expected)
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())
    assert not torch.allclose(model(BATCH), expected)  # which follows the batch again


def test_an_unknown_mode_of_frozen_normalisation_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'frozen'; set MODEL\.FROZEN_NORM"):
        train_only(small_model(), ["3"], frozen_norm="frozen")
