"""The rows that the short way to the box classifier computes are those of the whole model."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from made_up_data import NUM_CLASSES, made_up_batch, small_config
from torch import Tensor, nn

from balms_seg.modeling import keyed_sampling
from balms_seg.modeling.box_rows import (
    CLASSIFIER,
    compute_box_rows,
    trains_box_classifier_alone,
)
from balms_seg.modeling.classifier_rows import ClassifierRows
from balms_seg.modeling.freeze import train_only

SOFTMAX = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
POSITIONS = (3, 8, 11)


def built(**overrides: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(small_config({**SOFTMAX, **overrides})).train()


def rows_of(
    model: nn.Module, batch: list[dict], positions: tuple[int, ...] = POSITIONS
) -> ClassifierRows:
    with EventStorage(), keyed_sampling(0, positions):
        return compute_box_rows(model, batch)


@pytest.mark.parametrize("generator", ["KeyedRPN", "RPN"])
def test_rows_are_what_the_whole_model_classifies(generator: str) -> None:
    model = built(**{"MODEL.PROPOSAL_GENERATOR.NAME": generator})
    train_only(model, [CLASSIFIER])
    seen: list[tuple[Tensor, ...]] = []
    predictor = model.roi_heads.box_predictor
    predictor.cls_score.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method_loss = predictor.method.training_loss
    predictor.method.training_loss = lambda logits, gt, context: (
        seen.append(gt) or method_loss(logits, gt, context)
    )
    torch.manual_seed(1)
    with EventStorage(), keyed_sampling(0, POSITIONS):
        model(made_up_batch(3))
    features, gt_classes = seen

    rows = rows_of(model, made_up_batch(3))
    torch.testing.assert_close(rows.features, features)
    assert torch.equal(rows.gt_classes, gt_classes)
    assert not rows.features.requires_grad
    assert rows.images.tolist() == sorted(rows.images.tolist())
    assert set(rows.images.tolist()) == {0, 1, 2}
    assert {NUM_CLASSES} < set(rows.gt_classes.tolist())


def test_rows_of_an_image_do_not_depend_on_the_others() -> None:
    model = train_only(built(), [CLASSIFIER])
    together, alone = rows_of(model, made_up_batch(3)), rows_of(model, made_up_batch(3)[1:2], (8,))
    is_second = together.images == 1
    assert torch.equal(together.gt_classes[is_second], alone.gt_classes)
    torch.testing.assert_close(together.features[is_second], alone.features)


def test_an_image_without_ground_truth_gives_background_rows() -> None:
    batch = made_up_batch(2)
    batch[0]["instances"] = batch[0]["instances"][:0]
    rows = rows_of(built(), batch, (1, 2))
    assert set(rows.gt_classes[rows.images == 0].tolist()) == {NUM_CLASSES}


@pytest.mark.parametrize(
    ("patterns", "heads", "expected"),
    [
        ([CLASSIFIER], "LongTailedROIHeads", True),
        ([f"{CLASSIFIER}.weight"], "LongTailedROIHeads", True),
        ([CLASSIFIER, "backbone"], "LongTailedROIHeads", False),
        (["roi_heads.box_predictor.*.cls_score"], "CascadeLongTailedROIHeads", False),
    ],
)
def test_the_short_way_is_for_one_classifier_that_trains_alone(
    patterns: list[str], heads: str, expected: bool
) -> None:
    model = built(**{"MODEL.ROI_HEADS.NAME": heads})
    assert not trains_box_classifier_alone(model)  # all of it trains
    assert trains_box_classifier_alone(train_only(model, patterns)) == expected
