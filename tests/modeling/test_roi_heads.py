"""ROI heads against detectron2's own, their statistics, and every registered name."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import (
    METHOD_SETTINGS,
    NUM_CLASSES,
    made_up_batch,
    made_up_statistics,
    small_config,
)
from torch import Tensor, nn

from balms_seg.methods import METHODS
from balms_seg.modeling import LongTailedBoxPredictor, TrainingSchedule, prepare_model
from balms_seg.modeling.roi_heads import FIXED_CLASSIFIERS, method_name

K = NUM_CLASSES
DETECTRON2 = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
}


def built(overrides: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(small_config(overrides))


def with_method(name: str, **overrides: object) -> nn.Module:
    return built({"MODEL.ROI_BOX_HEAD.CLASSIFIER": name, **overrides})


def sgd_losses(model: nn.Module, num_iters: int) -> list[dict[str, float]]:
    """Losses of `num_iters` training steps on the same batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    history = []
    with EventStorage():
        for iteration in range(num_iters):
            torch.manual_seed(iteration)
            losses = model(made_up_batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({name: loss.item() for name, loss in losses.items()})
    return history


def test_softmax_trains_exactly_as_detectron2s_own_head() -> None:
    ours, theirs = with_method("softmax"), built(DETECTRON2)
    theirs.load_state_dict(ours.state_dict())  # strict: the names agree
    before = copy.deepcopy(ours.state_dict())
    # The mean over the rows is taken in another order than in F.cross_entropy: the last digit.
    for own, other in zip(sgd_losses(ours, 3), sgd_losses(theirs, 3), strict=True):
        assert own == pytest.approx(other, rel=1e-6)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name
    classifier = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(ours.state_dict()[classifier], before[classifier])


@pytest.mark.parametrize(("name", "columns"), [("balanced_softmax", K + 1), ("sigmoid", K)])
def test_the_predictor_has_detectron2s_parameters(name: str, columns: int) -> None:
    parameters = with_method(name).roi_heads.box_predictor.state_dict()
    assert {name: tuple(value.shape) for name, value in parameters.items()} == {
        "cls_score.weight": (columns, 16),
        "cls_score.bias": (columns,),
        "bbox_pred.weight": (4, 16),
        "bbox_pred.bias": (4,),
    }


def test_sigmoid_classifiers_start_at_the_prior_probability() -> None:
    model = with_method("sigmoid", **{"MODEL.METHODS.SIGMOID.PRIOR_PROBABILITY": 0.02})
    classifier = model.roi_heads.box_predictor.cls_score
    assert torch.allclose(classifier.bias.sigmoid(), torch.tensor(0.02))
    assert 0.005 < classifier.weight.std() < 0.02


def predictor(name: str) -> LongTailedBoxPredictor:
    from detectron2.modeling.box_regression import Box2BoxTransform

    settings = METHODS[name].Settings(**METHOD_SETTINGS.get(name, {}))
    method = METHODS[name](K, has_background=True, settings=settings)
    method.prepare(made_up_statistics())
    return LongTailedBoxPredictor(
        input_shape=4,
        method=method,
        schedule=TrainingSchedule(max_iter=1000, images_per_batch=2),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=K,
        cls_agnostic_bbox_reg=True,
    )


def proposals(gt_classes: list[int], *, has_gt_boxes: bool = True) -> Instances:
    boxes = Boxes(torch.tensor([[4.0, 4.0, 20.0, 20.0]]).repeat(len(gt_classes), 1))
    result = Instances((32, 32), proposal_boxes=boxes, gt_classes=torch.tensor(gt_classes))
    if has_gt_boxes:
        result.gt_boxes = boxes
    return result


def statistics_of(name: str, logits: Tensor, gt_classes: list[int]) -> dict[str, float]:
    with EventStorage() as storage:
        predictor(name).losses((logits, torch.zeros(len(gt_classes), 4)), [proposals(gt_classes)])
        latest = storage.latest()
    return {key.removeprefix("fast_rcnn/"): value for key, (value, _) in latest.items()}


# A hit, a miss as background, a wrong class, background right, background taken for class 0.
GT_CLASSES = [0, 1, 2, K, K]
SIGMOID_LOGITS = torch.tensor(
    [[2.0, -1, -1], [-1, -2, -3], [1, 0.5, -1], [-1, -1, -1], [0.5, -1, -1]]
)


@pytest.mark.parametrize("name", ["sigmoid", "balanced_sigmoid"])
def test_statistics_of_heads_without_a_background_column(name: str) -> None:
    statistics = statistics_of(name, SIGMOID_LOGITS, GT_CLASSES)
    assert statistics == pytest.approx(
        {"cls_accuracy": 2 / 5, "fg_cls_accuracy": 1 / 3, "false_negative": 1 / 3}
    )


@pytest.mark.parametrize("name", ["softmax", "balanced_softmax"])
def test_statistics_of_heads_with_a_background_column(name: str) -> None:
    logits = torch.cat([SIGMOID_LOGITS, torch.zeros(5, 1)], dim=1)
    statistics = statistics_of(name, logits, GT_CLASSES)
    assert statistics == pytest.approx(
        {"cls_accuracy": 2 / 5, "fg_cls_accuracy": 1 / 3, "false_negative": 1 / 3}
    )


@pytest.mark.parametrize("name", list(METHODS))
def test_a_batch_without_proposals_has_losses_with_gradients(name: str) -> None:
    head = predictor(name)
    with EventStorage():
        losses = head.losses(head(torch.zeros(0, 4)), [])
    sum(losses.values()).backward()
    assert {key: loss.item() for key, loss in losses.items()} == {
        "loss_cls": 0,
        "loss_box_reg": 0,
    }
    assert head.cls_score.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("name", list(METHODS))
def test_images_without_objects_train_background_alone(name: str) -> None:
    head = predictor(name)
    with EventStorage():
        losses = head.losses(head(torch.ones(2, 4)), [proposals([K, K], has_gt_boxes=False)])
    assert losses["loss_box_reg"].item() == 0
    assert losses["loss_cls"].isfinite()
    losses["loss_cls"].backward()
    assert head.cls_score.weight.grad.abs().sum() > 0
    # Of some methods classes do not matter without an object, or not all.
    if head.cls_score.bias is not None and name not in ("seesaw", "bags", "federated"):
        assert head.cls_score.bias.grad[:K].min() > 0


def test_loss_weights_of_the_configuration_are_kept() -> None:
    plain = sgd_losses(with_method("softmax"), 1)[0]
    weighted = sgd_losses(
        with_method("softmax", **{"MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 3.0}), 1
    )[0]
    assert weighted["loss_box_reg"] == pytest.approx(3 * plain["loss_box_reg"])
    assert weighted["loss_cls"] == plain["loss_cls"]


@pytest.mark.parametrize("name", sorted(FIXED_CLASSIFIERS))
def test_a_name_that_fixes_the_classifier_needs_no_other_setting(name: str) -> None:
    heads = built({"MODEL.ROI_HEADS.NAME": name, "MODEL.ROI_BOX_HEAD.CLASSIFIER": ""}).roi_heads
    assert type(heads).__name__ == name
    assert type(heads.box_predictor.method) is METHODS[FIXED_CLASSIFIERS[name]]
    cfg = unchecked_config(name, "")
    assert method_name(cfg) == FIXED_CLASSIFIERS[name]  # calibrate asks what kind of scores it has
    assert method_name(unchecked_config("LongTailedROIHeads", "focal")) == "focal"


@pytest.mark.parametrize("name", list(METHODS))
def test_long_tailed_heads_take_any_classifier(name: str) -> None:
    model = with_method(name, **{"MODEL.METHODS.FEDERATED.CLASSES": K})
    assert type(model.roi_heads.box_predictor.method) is METHODS[name]


def unchecked_config(heads: str, classifier: str) -> CfgNode:
    """As another project makes one, which does not call check_config."""
    cfg = small_config()
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = heads, classifier
    return cfg


def test_a_contradicting_classifier_is_an_error_while_the_model_is_built() -> None:
    with pytest.raises(ValueError, match="fixes the classifier to 'sigmoid'.*'softmax'"):
        build_model(unchecked_config("SigmoidROIHeads", "softmax"))


@pytest.mark.parametrize("heads", ["LongTailedROIHeads", "CascadeLongTailedROIHeads"])
@pytest.mark.parametrize("classifier", ["", "softmx"])
def test_heads_without_a_known_classifier_say_which_key_to_set(heads: str, classifier: str) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.ROI_BOX_HEAD\.CLASSIFIER"):
        build_model(unchecked_config(heads, classifier))


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_cascade_trains_one_classifier_a_stage(name: str) -> None:
    model = with_method(name, **{"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"})
    stages = model.roi_heads.box_predictor
    assert len({id(stage.cls_score) for stage in stages}) == len(stages) == 3
    weights = [stage.box2box_transform.weights for stage in stages]
    assert weights == [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    before = [stage.cls_score.bias.detach().clone() for stage in stages]
    losses = sgd_losses(model, 1)[0]
    assert {f"loss_cls_stage{stage}" for stage in range(3)} <= losses.keys()
    for stage, bias in zip(stages, before, strict=True):
        assert not torch.equal(stage.cls_score.bias, bias)
    detections = model.eval()(made_up_batch())[0]["instances"]
    assert detections.pred_classes.max() < K


def test_cascade_softmax_trains_exactly_as_detectron2s_own_cascade() -> None:
    ours = with_method("softmax", **{"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"})
    theirs = built({**DETECTRON2, "MODEL.ROI_HEADS.NAME": "CascadeROIHeads"})
    theirs.load_state_dict(ours.state_dict())
    for own, other in zip(sgd_losses(ours, 2), sgd_losses(theirs, 2), strict=True):
        assert own == pytest.approx(other, rel=1e-6)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("softmax", "sigmoid") else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS
    ],
)
def test_test_time_augmentation_with_one_view_is_the_plain_prediction(name: str) -> None:
    overrides = {
        "MODEL.METHODS.FEDERATED.CLASSES": 2,
        "MODEL.METHODS.BAGS.BOUNDS": (50,),
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": name,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "TEST.AUG.MIN_SIZES": (64,),
        "TEST.AUG.MAX_SIZE": 64,
        "TEST.AUG.FLIP": False,
    }
    model = prepare_model(built(overrides), made_up_statistics()).eval()
    batch = [{key: image[key] for key in ("image", "height", "width")} for image in made_up_batch()]
    with torch.no_grad():
        plain = model(batch)
        augmented = GeneralizedRCNNWithTTA(small_config(overrides), model)(batch)
    for one, other in zip(plain, augmented, strict=True):
        one, other = one["instances"], other["instances"]
        assert len(one) > 0
        assert torch.equal(one.pred_classes, other.pred_classes)
        assert torch.allclose(one.scores, other.scores)
        assert torch.allclose(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3)
        assert other.pred_masks.shape == one.pred_masks.shape


def test_a_softmax_leaves_unknown_classes_out_of_its_denominator() -> None:
    head, part = predictor("softmax"), proposals([0, K])
    part.known_classes = torch.tensor([[True, False, True], [False, True, True]])
    logits = torch.randn(2, K + 1, generator=torch.Generator().manual_seed(0))
    with EventStorage():
        loss = head.losses((logits, torch.zeros(2, 4)), [part])["loss_cls"]
    rows = [logits[0, [0, 2, 3]].log_softmax(0)[0], logits[1, [1, 2, 3]].log_softmax(0)[2]]
    torch.testing.assert_close(loss, -(rows[0] + rows[1]) / 2)
