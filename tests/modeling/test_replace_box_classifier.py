"""Putting a box classifier into a model that another project has built."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from made_up_data import (
    METHOD_SETTINGS,
    NUM_CLASSES,
    made_up_batch,
    made_up_statistics,
    small_config,
)
from torch import Tensor, nn

from balms_seg.methods import METHODS, LossContext, Method
from balms_seg.methods.softmax import Softmax
from balms_seg.modeling import TrainingSchedule, prepare_model, replace_box_classifier
from balms_seg.modeling.cosine_classifier import CosineClassifier

HEADS = ("StandardROIHeads", "CascadeROIHeads")


def detectron2_model(heads: str = "StandardROIHeads", **overrides: object) -> nn.Module:
    torch.manual_seed(0)
    settings = {
        "MODEL.ROI_HEADS.NAME": heads,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
        "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        **overrides,
    }
    return build_model(small_config(settings))


def stages(model: nn.Module) -> list[nn.Module]:
    predictor = model.roi_heads.box_predictor
    return list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]


def detections(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    with torch.no_grad():
        outputs = [output["instances"] for output in model.eval()(made_up_batch())]
    return [(output.scores, output.pred_boxes.tensor) for output in outputs]


@pytest.mark.parametrize(
    ("method", "heads"),
    [
        pytest.param(method, heads, marks=pytest.mark.slow)
        if heads == "CascadeROIHeads" and method not in ("softmax", "sigmoid", "seesaw", "bags")
        else (method, heads)
        for method in METHODS
        for heads in HEADS
    ],
)
def test_the_model_trains_and_predicts_with_the_new_classifier(heads: str, method: str) -> None:
    model = detectron2_model(heads)
    schedule = TrainingSchedule(max_iter=10_000, images_per_batch=2)
    settings = METHODS[method].Settings(**METHOD_SETTINGS.get(method, {}))
    given = replace_box_classifier(
        model,
        METHODS[method](NUM_CLASSES, has_background=True, settings=settings),
        made_up_statistics(),
        schedule=schedule,
    )
    assert given is model
    for stage in stages(model):
        assert type(stage.method) is METHODS[method]
        assert stage.cls_score.out_features == stage.method.num_columns
    with EventStorage():
        sum(model.train()(made_up_batch()).values()).backward()
    assert all(stage.cls_score.weight.grad.abs().sum() > 0 for stage in stages(model))
    assert len(detections(model)) == 2


@pytest.mark.parametrize("heads", HEADS)
def test_a_classifier_with_as_many_columns_keeps_its_weights(heads: str) -> None:
    model = detectron2_model(heads)
    before, parameters = detections(model), copy.deepcopy(model.state_dict())
    replace_box_classifier(model, "balanced_softmax", made_up_statistics())
    assert parameters.keys() == model.state_dict().keys()
    for (scores, boxes), (old_scores, old_boxes) in zip(detections(model), before, strict=True):
        assert torch.equal(scores, old_scores)
        assert torch.equal(boxes, old_boxes)


@pytest.mark.parametrize("heads", HEADS)
def test_the_sigmoids_of_detectron2_keep_the_columns_that_are_read(heads: str) -> None:
    model, theirs = detectron2_model(heads), []
    for stage in stages(model):
        stage.use_sigmoid_ce = True  # main's ViTDet for LVIS; version 0.6 has no such thing
        nn.init.normal_(stage.cls_score.bias)
        stage.predict_probs = lambda predictions, proposals: [  # as main's
            each.sigmoid() for each in predictions[0].split([len(p) for p in proposals])
        ]
        theirs.append(copy.deepcopy(stage.cls_score))
    before = detections(model)
    replace_box_classifier(model, "sigmoid", made_up_statistics())
    for stage, old in zip(stages(model), theirs, strict=True):
        assert torch.equal(stage.cls_score.weight, old.weight[:NUM_CLASSES])
        assert torch.equal(stage.cls_score.bias, old.bias[:NUM_CLASSES])
    for (scores, boxes), (old_scores, old_boxes) in zip(detections(model), before, strict=True):
        torch.testing.assert_close(scores, old_scores)
        torch.testing.assert_close(boxes, old_boxes)


@pytest.mark.parametrize("method", ["eqlv2", "fcbl"])
def test_an_untrained_classifier_starts_at_the_bias_of_its_method(method: str) -> None:
    configured = detectron2_model("LongTailedROIHeads", **{"MODEL.ROI_BOX_HEAD.CLASSIFIER": method})
    expected = stages(configured)[0].cls_score.bias
    assert expected.min() < -4
    model = replace_box_classifier(detectron2_model(), method, made_up_statistics())
    torch.testing.assert_close(stages(model)[0].cls_score.bias, expected)
    trained = detectron2_model()
    before = torch.linspace(-1, 1, len(expected))
    stages(trained)[0].cls_score.bias.data.copy_(before)
    replace_box_classifier(trained, method, made_up_statistics())
    torch.testing.assert_close(stages(trained)[0].cls_score.bias.data, before)


@pytest.mark.parametrize("heads", HEADS)
def test_everything_but_the_classifier_keeps_its_weights(heads: str) -> None:
    model = detectron2_model(heads)
    before = copy.deepcopy(model.state_dict())
    replace_box_classifier(model, "sigmoid", None)
    for name, value in model.state_dict().items():
        assert "cls_score" in name or torch.equal(value, before[name]), name


def test_class_specific_regression_and_inference_settings_are_kept() -> None:
    model = detectron2_model(
        **{
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
            "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.31,
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 2.0,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.7,
        }
    )
    old = model.roi_heads.box_predictor
    new = replace_box_classifier(model, "sigmoid", None).roi_heads.box_predictor
    assert new.bbox_pred is old.bbox_pred
    assert new.bbox_pred.out_features == 4 * NUM_CLASSES
    for name in (
        "test_nms_thresh",
        "test_score_thresh",
        "test_topk_per_image",
        "loss_weight",
        "smooth_l1_beta",
        "box_reg_loss_type",
        "box2box_transform",
    ):
        assert getattr(new, name) == getattr(old, name), name
    assert new.test_nms_thresh == 0.31


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_kept(training: bool) -> None:
    model = detectron2_model().train(training)
    replace_box_classifier(model, "softmax", None)
    assert all(stage.training is training for stage in stages(model))


def test_settings_reach_the_method() -> None:
    settings = METHODS["sigmoid"].Settings(prior_probability=0.1)
    model = replace_box_classifier(detectron2_model(), "sigmoid", None, settings)
    bias = model.roi_heads.box_predictor.cls_score.bias
    assert torch.allclose(bias.sigmoid(), torch.tensor(0.1))


def test_without_statistics_the_model_predicts_but_does_not_train() -> None:
    model = replace_box_classifier(detectron2_model(), "balanced_sigmoid", None)
    assert len(detections(model)) == 2
    with EventStorage(), pytest.raises(RuntimeError, match="ClassStatistics"):
        model.train()(made_up_batch())


def test_a_method_that_changes_on_the_way_is_refused_without_a_schedule() -> None:
    statistics, schedule = made_up_statistics(), TrainingSchedule(10, images_per_batch=2)
    model = detectron2_model("CascadeROIHeads")
    before = stages(model)
    with pytest.raises(ValueError, match=r"LDAMDRW .*schedule=TrainingSchedule\(max_iter, images"):
        replace_box_classifier(model, "ldam_drw", statistics)
    assert stages(model) == before
    replace_box_classifier(model, "ldam_drw", statistics, schedule=schedule)
    assert all(stage.schedule is schedule for stage in stages(model))
    replace_box_classifier(detectron2_model(), "ldam_drw", None)  # to predict


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="softmax, sigmoid.*'focl' .did you mean focal"):
        replace_box_classifier(detectron2_model(), "focl", None)


@pytest.mark.parametrize("counts", [[5, 3, 1], torch.tensor([5, 3, 1])])
def test_counts_are_not_taken_for_statistics(counts: list | torch.Tensor) -> None:
    with pytest.raises(TypeError, match=r"got (list|Tensor); make them by ClassStatistics\."):
        replace_box_classifier(detectron2_model(), "balanced_softmax", counts)


@pytest.mark.parametrize("heads", HEADS)
def test_statistics_of_another_data_set_are_refused_before_anything_changes(heads: str) -> None:
    model = detectron2_model(heads)
    before = stages(model)
    with pytest.raises(ValueError, match="7"):
        replace_box_classifier(model, "balanced_softmax", made_up_statistics(7))
    assert stages(model) == before


@pytest.mark.parametrize("heads", HEADS)
def test_a_loss_of_detectron2s_that_goes_is_told(
    heads: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = detectron2_model(heads)
    for stage in stages(model):
        stage.use_sigmoid_ce = True  # version 0.6 has no such thing
    replace_box_classifier(model, "balanced_softmax", made_up_statistics())
    assert "had detectron2's use_sigmoid_ce, which is gone" in caplog.text
    assert "the loss of BalancedSoftmax now. With a loss like it there is sigmoid" in caplog.text


def test_a_model_without_roi_heads_is_refused() -> None:
    with pytest.raises(TypeError, match="StandardROIHeads"):
        replace_box_classifier(nn.Linear(2, 2), "softmax", None)


def test_another_kind_of_box_predictor_is_named() -> None:
    model = detectron2_model()
    model.roi_heads.box_predictor = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="Linear"):
        replace_box_classifier(model, "softmax", None)


class Mine(Softmax):
    """A method that nobody has registered, with state."""

    has_state = True

    def __init__(self, num_classes: int, **kwargs: object) -> None:
        super().__init__(num_classes, **kwargs)
        self.add_state("batches", torch.zeros(()))

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        self.batches += 1
        return self.loss(logits, targets, context)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("given", ["class", "object"])
def test_a_class_or_an_object_will_do(heads: str, given: str) -> None:
    method = Mine if given == "class" else Mine(NUM_CLASSES, has_background=True)
    model = replace_box_classifier(detectron2_model(heads), method, made_up_statistics())
    with EventStorage():
        sum(model.train()(made_up_batch()).values()).backward()
    detections(model)
    assert [stage.method.batches.item() for stage in stages(model)] == [1.0] * len(stages(model))
    if given == "object" and heads == "StandardROIHeads":
        assert stages(model)[0].method is method


def test_the_loss_outside_of_training_changes_no_state() -> None:
    model = replace_box_classifier(detectron2_model(), Mine, None).train()
    with EventStorage(), torch.no_grad():  # a validation loss
        model(made_up_batch())
    assert stages(model)[0].method.batches == 0


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (METHODS["softmax"](7, has_background=True), "of 3 classes with background, but got one"),
        (METHODS["softmax"](NUM_CLASSES, has_background=False), "but got one of 3 without"),
    ],
)
def test_an_object_that_does_not_fit_is_refused(method: Method, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_box_classifier(detectron2_model(), method, None)


def test_an_object_has_its_own_settings() -> None:
    method = METHODS["sigmoid"](NUM_CLASSES, has_background=True)
    with pytest.raises(ValueError, match="no settings beside an object of Sigmoid"):
        replace_box_classifier(detectron2_model(), method, None, method.settings)


@pytest.mark.parametrize("method", [nn.Linear, 3, nn.Linear(1, 1)])
def test_what_is_no_method_is_refused(method: object) -> None:
    with pytest.raises(TypeError, match="a method's name, a class of balms_seg.methods.Method or"):
        replace_box_classifier(detectron2_model(), method, None)


def test_a_classifier_of_cosines_starts_anew_in_place_of_a_linear_one() -> None:
    model = detectron2_model()
    replace_box_classifier(model, "ldam", made_up_statistics())
    layer = stages(model)[0].cls_score
    assert isinstance(layer, CosineClassifier)
    assert (layer.out_features, layer.scale) == (NUM_CLASSES + 1, 30.0)
    assert len(detections(model)) == 2


def test_a_model_whose_heads_are_not_ours_is_told_where_it_is_to_be_trained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare_model(nn.Linear(2, 3), None, training=False)
    assert not caplog.text
    prepare_model(nn.Linear(2, 3), None)
    assert "MODEL.ROI_HEADS.NAME to LongTailedROIHeads" in caplog.text


@pytest.mark.parametrize("heads", HEADS)
def test_an_optimiser_of_the_replaced_classifier_is_refused(heads: str) -> None:
    model = detectron2_model(heads)
    before = torch.optim.SGD(model.parameters(), lr=0.1)
    replace_box_classifier(model, "balanced_sigmoid", made_up_statistics())  # has other columns
    with pytest.raises(RuntimeError, match="build the optimiser"):
        before.step()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    before.add_param_group({"params": [p for s in stages(model) for p in s.cls_score.parameters()]})
    before.step()


def test_an_optimiser_stays_where_the_classifier_keeps_its_weights() -> None:
    model = detectron2_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    replace_box_classifier(model, "balanced_softmax", made_up_statistics())
    with EventStorage():
        sum(model.train()(made_up_batch()).values()).backward()
    weight = stages(model)[0].cls_score.weight
    start = weight.detach().clone()
    optimizer.step()
    assert not torch.equal(weight, start)
