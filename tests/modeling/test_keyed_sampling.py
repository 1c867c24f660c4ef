"""Sampled anchors and proposals are a function of (seed, stream position)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import IMAGE_SIZE_PX, made_up_batch, small_config
from torch import Tensor, nn

from balms_seg.modeling import keyed_sampling
from balms_seg.modeling.keyed_sampling import batch_generator
from balms_seg.sampling.keyed import position_seed

POSITIONS = (40, 41, 7, 12)
CLASSIFIER = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
DETECTRON2 = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
}


def built(overrides: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(small_config(overrides)).train()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return built(CLASSIFIER)


@pytest.fixture(scope="module")
def cascade() -> nn.Module:
    return built({**CLASSIFIER, "MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"})


def made_up_proposals(targets: Sequence[Instances]) -> list[Instances]:
    generator = torch.Generator().manual_seed(5)
    proposals = []
    for target in targets:
        corners = torch.rand(60, 2, generator=generator) * 30
        boxes = Boxes(torch.cat([corners, corners + 20], dim=1))
        logits = torch.zeros(60)
        proposals.append(
            Instances(target.image_size, proposal_boxes=boxes, objectness_logits=logits)
        )
    return proposals


def sampled_proposals(model: nn.Module, images: slice = slice(None)) -> list[Tensor]:
    """Boxes that the heads train on, for each image."""
    targets = [sample["instances"] for sample in made_up_batch(4)]
    proposals = made_up_proposals(targets)
    with EventStorage():
        sampled = model.roi_heads.label_and_sample_proposals(proposals[images], targets[images])
    return [image.proposal_boxes.tensor for image in sampled]


def sampled_anchors(model: nn.Module, images: slice = slice(None)) -> list[Tensor]:
    """1, 0 or -1 (not used) of each anchor, for each image."""
    rpn = model.proposal_generator
    batch = made_up_batch(4)[images]
    features = torch.zeros(len(batch), 8, IMAGE_SIZE_PX // 8, IMAGE_SIZE_PX // 8)
    anchors = rpn.anchor_generator([features])
    targets = [sample["instances"] for sample in batch]
    labels, _ = rpn.label_and_sample_anchors(anchors, targets)
    return list(labels)


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


SAMPLED = pytest.mark.parametrize("sampled", [sampled_proposals, sampled_anchors])


@SAMPLED
def test_samples_do_not_depend_on_the_global_generator(sampled: object, model: nn.Module) -> None:
    draws = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        with keyed_sampling(0, POSITIONS):
            draws.append(sampled(model))
    assert all(same(*draws))


@SAMPLED
def test_samples_leave_the_global_generator_alone(sampled: object, model: nn.Module) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with keyed_sampling(0, POSITIONS):
        sampled(model)
    assert torch.equal(torch.get_rng_state(), before)


@SAMPLED
def test_another_seed_or_position_samples_something_else(sampled: object, model: nn.Module) -> None:
    with keyed_sampling(0, POSITIONS):
        draw = sampled(model)
    with keyed_sampling(1, POSITIONS):
        assert not any(same(draw, sampled(model)))
    with keyed_sampling(0, (40, 99, 7, 98)):
        assert same(draw, sampled(model)) == [True, False, True, False]


@SAMPLED
def test_halves_of_a_batch_are_sampled_as_the_whole(sampled: object, model: nn.Module) -> None:
    with keyed_sampling(0, POSITIONS):
        whole = sampled(model)
    halves = []
    for images in (slice(0, 2), slice(2, 4)):
        with keyed_sampling(0, POSITIONS[images]):
            halves += sampled(model, images)
    assert all(same(whole, halves))


@SAMPLED
def test_outside_of_the_context_samples_are_detectron2s(sampled: object, model: nn.Module) -> None:
    draws = []
    for heads in (model, built(DETECTRON2)):
        torch.manual_seed(4)
        draws.append(sampled(heads))
    assert all(same(*draws))
    assert not all(same(draws[0], sampled(model)))  # and the global generator moves on


def test_cascade_heads_are_keyed_as_well(cascade: nn.Module, model: nn.Module) -> None:
    with keyed_sampling(0, POSITIONS):
        one = sampled_proposals(cascade)
    with keyed_sampling(0, POSITIONS):
        assert all(same(one, sampled_proposals(model)))


def test_an_error_inside_ends_the_context(model: nn.Module) -> None:
    with pytest.raises(ZeroDivisionError), keyed_sampling(0, POSITIONS):
        raise ZeroDivisionError
    torch.manual_seed(4)
    first = sampled_proposals(model)
    assert not all(same(first, sampled_proposals(model)))


@pytest.mark.parametrize("fixture", ["model", "cascade"])
def test_a_forward_pass_repeats_whatever_was_drawn_before(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    whole_model = request.getfixturevalue(fixture)
    losses = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        with EventStorage(), keyed_sampling(0, (3, 4)), torch.no_grad():
            losses.append(whole_model(made_up_batch()))
    assert losses[0] == losses[1]


def test_anchors_and_proposals_of_a_position_have_seeds_of_their_own() -> None:
    assert position_seed(0, 40, "anchors") != position_seed(0, 40, "proposals")


def test_draws_for_the_global_batch_agree_on_all_ranks_and_differ_by_iteration_and_seed() -> None:
    def drawn(seed: int, positions: tuple[int, ...], iteration: int | None) -> list[float]:
        with keyed_sampling(seed, positions, iteration=iteration):
            return [torch.rand(1, generator=batch_generator()).item() for _ in range(2)]

    first = drawn(0, (40, 41), 7)
    assert first[0] != first[1]  # one stream within the batch
    assert drawn(0, (42, 43), 7) == first  # another rank
    assert drawn(0, (40, 41), 8) != first
    assert drawn(1, (40, 41), 7) != first


def test_outside_of_a_run_nothing_draws_for_the_batch() -> None:
    assert batch_generator() is None
    with keyed_sampling(0, (1, 2)):
        assert batch_generator() is None
