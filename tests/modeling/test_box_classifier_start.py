"""How box classifiers start: as detectron2's, as a method says, of cosines."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import NUM_CLASSES, made_up_batch, made_up_statistics, small_config
from torch import nn

from balms_seg.methods import METHODS
from balms_seg.methods.softmax import Softmax
from balms_seg.modeling import LongTailedBoxPredictor, prepare_model
from balms_seg.modeling.classifier_init import reset_classifiers, tau_normalise_classifiers
from balms_seg.modeling.cosine_classifier import CosineClassifier

K = NUM_CLASSES
HEADS = {"StandardROIHeads": "LongTailedROIHeads", "CascadeROIHeads": "CascadeLongTailedROIHeads"}


def built(settings: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(small_config(settings))


def with_method(name: str, **settings: object) -> nn.Module:
    return built({"MODEL.ROI_BOX_HEAD.CLASSIFIER": name, **settings})


def losses_of(model: nn.Module) -> dict[str, torch.Tensor]:
    with EventStorage():
        return model.train()(made_up_batch())


@pytest.mark.parametrize("theirs", list(HEADS))
@pytest.mark.parametrize("name", ["softmax", "balanced_softmax", "sigmoid", "ldam"])
def test_a_seed_gives_detectron2s_own_initial_weights(theirs: str, name: str) -> None:
    """All of them where the columns agree; else all but the classifier's."""
    own = with_method(name, **{"MODEL.ROI_HEADS.NAME": HEADS[theirs]}).state_dict()
    settings = {"MODEL.ROI_HEADS.NAME": theirs, "MODEL.PROPOSAL_GENERATOR.NAME": "RPN"}
    expected = built({**settings, "MODEL.ROI_BOX_HEAD.CLASSIFIER": ""}).state_dict()
    differ = {key for key in expected if key not in own or not torch.equal(own[key], expected[key])}
    classifiers = {key for key in expected if "cls_score" in key}
    assert differ == (classifiers if name in ("sigmoid", "ldam") else set())


@pytest.mark.parametrize("theirs", list(HEADS))
def test_a_seed_gives_detectron2s_own_losses(theirs: str) -> None:
    """Model, proposals and losses from one generator, as in detectron2's test of its heads."""
    found = []
    for name, method in ((theirs, ""), (HEADS[theirs], "softmax")):
        settings = {"MODEL.ROI_HEADS.NAME": name, "MODEL.PROPOSAL_GENERATOR.NAME": "RPN"}
        model = built({**settings, "MODEL.ROI_BOX_HEAD.CLASSIFIER": method})
        found.append({key: loss.item() for key, loss in losses_of(model).items()})
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_a_predictor_alone_starts_as_detectron2s_and_draws_as_much() -> None:
    """Its test of the box predictor, whose losses are golden numbers of its own."""
    torch.manual_seed(132)
    predictor = LongTailedBoxPredictor(
        ShapeSpec(channels=8),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=5,
        method=Softmax(5, has_background=True),
    )
    predictions = predictor(torch.rand(2, 8))
    boxes = torch.tensor([[0.8, 1.1, 3.2, 2.8], [2.3, 2.5, 7, 8]])
    proposals = Instances((10, 10), proposal_boxes=Boxes(boxes), gt_classes=torch.tensor([1, 2]))
    proposals.gt_boxes = Boxes(torch.tensor([[1.0, 1, 3, 3], [2, 2, 6, 6]]))
    with EventStorage():
        losses = predictor.losses(predictions, [proposals])
    expected = {"loss_cls": 1.7951188087, "loss_box_reg": 4.0357131958}
    assert {key: loss.item() for key, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("own", "ours"), [("use_sigmoid_ce", "sigmoid"), ("use_fed_loss", "federated")]
)
def test_detectron2s_own_losses_are_refused_beside_a_method(own: str, ours: str) -> None:
    with pytest.raises(ValueError, match=f"of Softmax alone, but {own} .*the method '{ours}'"):
        LongTailedBoxPredictor(8, method=Softmax(5, has_background=True), **{own: True})


def test_the_stages_of_a_cascade_start_differently() -> None:
    model = with_method("sigmoid", **{"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"})
    first, second, _ = (stage.cls_score.weight for stage in model.roi_heads.box_predictor)
    assert not torch.equal(first, second)


class OwnStart(Softmax):
    """A method that starts its classifier in a way of its own."""

    def init_classifier(self, layer: nn.Module, generator: torch.Generator | None = None) -> None:
        nn.init.constant_(layer.weight, 0.25)
        nn.init.constant_(layer.bias, -1.0)


def test_a_method_starts_its_classifier_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "softmax", OwnStart)
    model = with_method("softmax")
    classifier = model.roi_heads.box_predictor.cls_score
    assert classifier.weight.unique().tolist() == [0.25]
    assert classifier.bias.unique().tolist() == [-1.0]
    nn.init.zeros_(classifier.weight)
    reset_classifiers(model, seed=0)
    assert classifier.weight.unique().tolist() == [0.25]


def test_boxes_take_a_classifier_of_cosines() -> None:
    cosine = {"MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER": "cosine"}
    model = with_method("softmax", **cosine, **{"MODEL.ROI_BOX_HEAD.COSINE_SCALE": 7.0})
    layer = model.roi_heads.box_predictor.cls_score
    assert isinstance(layer, CosineClassifier)
    assert (layer.out_features, layer.scale) == (K + 1, 7.0)
    losses_of(model)["loss_cls"].backward()
    assert layer.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert len(model.eval()(made_up_batch())) == 2


@pytest.mark.parametrize(
    ("name", "scale"), [("ldam", 30.0), ("seesaw", 20.0), ("ldam_drw", 30.0), ("softmax", None)]
)
def test_auto_is_the_layer_and_the_scale_that_the_method_is_made_for(
    name: str, scale: float | None
) -> None:
    layer = with_method(name).roi_heads.box_predictor.cls_score
    assert isinstance(layer, nn.Linear if scale is None else CosineClassifier)
    assert getattr(layer, "scale", None) == scale


def test_a_reset_classifier_of_cosines_is_as_long_as_a_new_one() -> None:
    model = with_method("ldam", **{"MODEL.ROI_BOX_HEAD.FC_DIM": 1024})
    layer = model.roi_heads.box_predictor.cls_score
    new = layer.weight.detach().clone()
    reset_classifiers(model, seed=1)
    assert not torch.equal(layer.weight, new)
    assert layer.weight.std().item() == pytest.approx(new.std().item(), rel=0.1)


def test_cosines_cannot_be_tau_normalised() -> None:
    with pytest.raises(TypeError, match="linear classifier for MODEL.INIT_CLASSIFIER tau_norm"):
        tau_normalise_classifiers(with_method("ldam"), tau=1.0)


@pytest.mark.parametrize("heads", list(HEADS.values()))
def test_losses_may_read_the_features_of_boxes(heads: str) -> None:
    settings = {"MODEL.ROI_HEADS.NAME": heads, "MODEL.METHODS.FEATURE_BALANCED.RAMP": 0.5}
    losses = []
    for strength in (0.0, 60.0):
        settings["MODEL.METHODS.FEATURE_BALANCED.STRENGTH"] = strength
        model = prepare_model(with_method("feature_balanced", **settings), made_up_statistics())
        torch.manual_seed(1)
        with EventStorage(1):
            found = model.train()(made_up_batch())
        losses.append(sum(value for key, value in found.items() if "loss_cls" in key).item())
    assert losses[1] > losses[0] + 1e-3
