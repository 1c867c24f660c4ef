"""MODEL.INIT_CLASSIFIER: reset, learned scales and tau-normalisation, against their limit cases."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from made_up_data import NUM_CLASSES, made_up_statistics, small_config
from torch import Tensor, nn

from balms_seg.modeling import box_predictor, classifier_init, prepare_model
from balms_seg.modeling.scaled_linear import ScaledLinear

K, D = NUM_CLASSES, 16
METHODS = ("softmax", "balanced_softmax", "sigmoid", "balanced_sigmoid")


def built(method: str = "softmax", **overrides: object) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": method, **overrides}))
    for predictor in classifier_init.box_predictors(model):
        nn.init.normal_(predictor.cls_score.weight)
        nn.init.normal_(predictor.cls_score.bias)
    return model


def classifier(model: nn.Module) -> nn.Module:
    return model.roi_heads.box_predictor.cls_score


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def linear(num_columns: int = K + 1) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(D, num_columns).double()


@pytest.mark.parametrize("method", METHODS)
def test_reset_changes_the_classifier_alone_and_depends_on_the_seed_alone(method: str) -> None:
    model, other = built(method), built(method)
    before = state(model)
    classifier_init.reset_classifiers(model, seed=7)
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed == {f"roi_heads.box_predictor.cls_score.{key}" for key in ("weight", "bias")}
    torch.randn(5)  # the global generator plays no part
    classifier_init.reset_classifiers(other, seed=7)
    assert torch.equal(classifier(model).weight, classifier(other).weight)
    classifier_init.reset_classifiers(other, seed=8)
    assert not torch.equal(classifier(model).weight, classifier(other).weight)


@pytest.mark.parametrize("method", METHODS)
def test_reset_initialises_as_the_constructor_does(method: str) -> None:
    torch.manual_seed(3)
    model = build_model(
        small_config(
            {"MODEL.ROI_BOX_HEAD.CLASSIFIER": method, "MODEL.ROI_BOX_HEAD.FC_DIM": 4096},
        )
    )
    constructed = classifier(model).weight.std().item(), classifier(model).bias.clone()
    nn.init.constant_(classifier(model).weight, 5.0)
    nn.init.constant_(classifier(model).bias, 5.0)
    classifier_init.reset_classifiers(model, seed=0)
    assert classifier(model).weight.std().item() == pytest.approx(constructed[0], rel=0.05)
    assert torch.equal(classifier(model).bias, constructed[1])


def test_every_classifier_of_a_cascade_is_reset_differently() -> None:
    settings = {
        "MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    }
    model = built(**settings)
    classifier_init.reset_classifiers(model, seed=7)
    weights = [each.cls_score.weight for each in model.roi_heads.box_predictor]
    assert len(weights) == 3
    assert all(0 < weight.std() < 0.02 for weight in weights)
    assert not torch.equal(weights[0], weights[1])


def test_scales_of_one_equal_the_plain_classifier() -> None:
    plain = linear()
    features = torch.randn(5, D, dtype=torch.float64)
    expected = plain(features)
    scaled = ScaledLinear(plain)
    assert torch.equal(scaled(features), expected)
    assert (scaled.in_features, scaled.out_features) == (D, K + 1)


def test_a_scale_multiplies_the_logit_of_its_column_bias_included() -> None:
    plain = linear()
    features = torch.randn(5, D, dtype=torch.float64)
    expected = plain(features).detach() * torch.tensor([1.0, 2.0, 0.5, 3.0])
    scaled = ScaledLinear(plain)
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([1.0, 2.0, 0.5, 3.0]))
    torch.testing.assert_close(scaled(features), expected)


def test_only_the_scales_have_a_gradient() -> None:
    scaled = ScaledLinear(linear())
    scaled(torch.randn(2, D, dtype=torch.float64)).square().sum().backward()
    with_gradient = {name for name, value in scaled.named_parameters() if value.grad is not None}
    assert with_gradient == {"scale"}


def test_a_plain_checkpoint_fills_all_but_the_scales() -> None:
    plain, scaled = built(), built(**{"MODEL.INIT_CLASSIFIER": "lws", **TRAIN_SCALES})
    missing, unexpected = scaled.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["roi_heads.box_predictor.cls_score.scale"], [])
    assert isinstance(classifier(scaled), ScaledLinear)
    features = torch.randn(3, classifier(plain).in_features)
    assert torch.equal(classifier(plain)(features), classifier(scaled)(features))


TRAIN_SCALES = {"MODEL.TRAIN_ONLY": "['roi_heads.box_predictor.cls_score.scale']"}


def normalised(layer: nn.Linear, tau: float) -> tuple[Tensor, Tensor]:
    return classifier_init.tau_normalised(layer.weight, layer.bias, tau=tau, foreground=slice(0, K))


@pytest.mark.parametrize("num_columns", [K, K + 1])
def test_tau_zero_keeps_the_weights_and_evens_out_the_biases(num_columns: int) -> None:
    layer = linear(num_columns)
    weight, bias = normalised(layer, 0.0)
    torch.testing.assert_close(weight, layer.weight)
    torch.testing.assert_close(bias[:K], layer.bias[:K].mean().expand(K))


def test_tau_one_gives_every_foreground_class_the_same_norm_and_its_old_direction() -> None:
    layer = linear()
    weight, _ = normalised(layer, 1.0)
    norms = weight[:K].norm(dim=1)
    torch.testing.assert_close(norms, norms[0].expand(K))
    torch.testing.assert_close(
        weight[:K] / norms[:, None],
        layer.weight[:K] / layer.weight[:K].norm(dim=1, keepdim=True),
    )


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
def test_background_is_left_alone(tau: float) -> None:
    layer = linear()
    weight, bias = normalised(layer, tau)
    assert torch.equal(weight[K], layer.weight[K])
    assert torch.equal(bias[K], layer.bias[K])


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_without_background_it_decides_as_the_published_formula(tau: float) -> None:
    layer = linear(K)
    weight, bias = normalised(layer, tau)
    features = torch.randn(200, D, dtype=torch.float64)
    published = features @ (layer.weight / layer.weight.norm(dim=1, keepdim=True) ** tau).t()
    ours = features @ weight.t() + bias
    assert torch.equal(ours.argsort(dim=1), published.argsort(dim=1))


def test_tau_normalisation_changes_the_classifier_in_place() -> None:
    model = built()
    expected = normalised(classifier(model), 0.7)
    classifier_init.tau_normalise_classifiers(model, tau=0.7)
    assert torch.equal(classifier(model).weight, expected[0])
    assert torch.equal(classifier(model).bias, expected[1])


def test_keep_keeps() -> None:
    model = built()
    before = state(model)
    classifier_init.start_classifiers(model, "keep", seed=0, absent_parameters=())
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())


def test_scales_of_an_untrained_classifier_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="MODEL.WEIGHTS did not fill"):
        classifier_init.start_classifiers(
            built(), "lws", seed=0, absent_parameters=["roi_heads.box_predictor.cls_score.weight"]
        )


def test_the_predictor_takes_the_scales_from_the_configuration() -> None:
    model = built(**{"MODEL.INIT_CLASSIFIER": "lws", **TRAIN_SCALES})
    assert isinstance(model.roi_heads.box_predictor, box_predictor.LongTailedBoxPredictor)
    assert not classifier(model).weight.requires_grad
    assert classifier(model).scale.requires_grad


@pytest.mark.parametrize("method", ["softmax", "sigmoid", "gol", "eqlv2", "seesaw", "bags"])
def test_scores_start_at_the_prior(method: str) -> None:
    """Without features the scores are the classes' shares, and objects a quarter of the rows."""
    statistics = made_up_statistics()
    settings = {"MODEL.METHODS.BAGS.BOUNDS": (50,), "MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER": "linear"}
    model = prepare_model(built(method, **settings), statistics)
    classifier_init.start_at_the_prior(model, statistics, positive_fraction=0.25)
    predictor = model.roi_heads.box_predictor
    features = torch.zeros(1, predictor.cls_score.in_features)
    scores = predictor.method.probabilities(predictor.cls_score(features))[0]
    shares = torch.tensor(statistics.instance_counts / statistics.instance_counts.sum()).float()
    if method == "bags":  # instances 120 and 60 | 40: in its group, beside 8 times as many others
        shares = torch.tensor([2 / 3, 1 / 3, 1.0]) / 9
    if method == "eqlv2":  # a class's sigmoid, times that of not being background
        shares = shares * 0.25
    torch.testing.assert_close(scores[:K], 0.25 * shares)
    if predictor.method.num_columns > K:
        torch.testing.assert_close(scores[K], torch.tensor(0.75))
