"""The image classifier, its backbones, and its kinds of last layers."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from image_sets import SMALL
from made_up_data import words

from balms_seg import ClassStatistics
from balms_seg.engine import load_config
from balms_seg.image_batch import ImageBatch
from balms_seg.methods import LossContext, TrainingProgress
from balms_seg.model_zoo import get_config_file
from balms_seg.modeling import ImageClassifier, prepare_model
from balms_seg.modeling.cifar_resnet import CifarResNet
from balms_seg.modeling.cosine_classifier import CosineClassifier
from balms_seg.modeling.image_backbones import IMAGE_BACKBONES, PRETRAINED, build_image_backbone

COUNTS = (50, 10, 2)


def config(**settings: object) -> CfgNode:
    short = {f"MODEL.IMAGE_CLASSIFIER.{key}": value for key, value in settings.items()}
    base = get_config_file("classification/base.yaml")
    return load_config(base, words({**SMALL, **short}))


def built(**settings: object) -> ImageClassifier:
    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    statistics = ClassStatistics.from_labels(labels.numpy(), 3)
    return prepare_model(build_model(config(**settings)), statistics)


def made_up_batch(mix: bool = False) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0])
    return ImageBatch(
        images=torch.randint(0, 256, (4, 3, 8, 8), generator=generator).to(torch.uint8),
        labels=labels,
        positions=torch.arange(4),
        dataset_indices=torch.arange(4),
        draw_probabilities=torch.full((4,), torch.nan, dtype=torch.float64),
        label_mix=(labels.roll(1), torch.tensor([1.0, 0.25, 0.5, 0.0])) if mix else None,
    )


def test_resnet_32_has_the_papers_number_of_parameters() -> None:
    num_parameters = sum(p.numel() for p in CifarResNet(32).parameters())
    assert num_parameters + 64 * 10 + 10 == 464_154  # 0.46M (arXiv 1512.03385, table 6)


def test_a_shortcut_takes_every_other_pixel_and_adds_zero_channels() -> None:
    block = CifarResNet(8).blocks[1]
    maps = torch.randn(2, 16, 6, 6)
    shortcut = block._shortcut(maps)
    assert shortcut.shape == (2, 32, 3, 3)
    assert torch.equal(shortcut[:, 8:24], maps[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


def test_width_multiplies_the_features() -> None:
    assert CifarResNet(8, width=4)(torch.zeros(1, 3, 8, 8)).shape == (1, 256)


def test_no_network_has_a_depth_between() -> None:
    with pytest.raises(ValueError, match="depth of 6 n"):
        CifarResNet(31)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in PRETRAINED else ())
        for name in IMAGE_BACKBONES
    ],
)
def test_every_backbone_gives_the_features_that_it_says(name: str) -> None:
    with torch.device("meta"):
        backbone = build_image_backbone(name)
        features = backbone.eval()(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, backbone.out_channels)


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(RuntimeError, match=r"resnet50 .*no network.*PRETRAINED False"):
        build_image_backbone("resnet50", pretrained=True)


@pytest.mark.parametrize("method", ["softmax", "balanced_softmax"])
def test_the_loss_is_the_methods_on_the_logits(method: str) -> None:
    model, batch = built(METHOD=method), made_up_batch()
    with EventStorage(0) as storage:
        losses = model(batch)
        assert 0 <= storage.latest()["accuracy"][0] <= 1
    logits = model.classifier(model.backbone(model.preprocess_image(batch.images)))
    assert losses.keys() == {"loss_cls"}
    rows = model.method.loss(logits, batch.labels, LossContext())
    torch.testing.assert_close(losses["loss_cls"], rows.mean())
    shift = torch.tensor(COUNTS).log() if method == "balanced_softmax" else 0
    expected = torch.nn.functional.cross_entropy(logits + shift, batch.labels)
    torch.testing.assert_close(losses["loss_cls"], expected)


def test_mixed_labels_share_the_loss() -> None:
    model, batch = built(METHOD="balanced_softmax"), made_up_batch(mix=True)
    second, share = batch.label_mix
    loss = model(batch)["loss_cls"]
    logits = model.classifier(model.backbone(model.preprocess_image(batch.images)))
    one, other = (model.method.loss(logits, y, LossContext()) for y in (batch.labels, second))
    torch.testing.assert_close(loss, (share * one + (1 - share) * other).mean())


def test_inference_gives_probabilities() -> None:
    model = built(METHOD="balanced_softmax").eval()
    probabilities = model(made_up_batch())
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))
    logits = model.classifier(model.backbone(model.preprocess_image(made_up_batch().images)))
    torch.testing.assert_close(probabilities, logits.softmax(dim=1))  # without the prior


def test_uint8_and_float_pixels_are_normalised_alike() -> None:
    model, images = built(), made_up_batch().images
    normalised = model.preprocess_image(images)
    assert torch.equal(normalised, model.preprocess_image(images.float()))
    expected = (images[0, 0, 0, 0] - 123.675) / 58.395
    assert normalised[0, 0, 0, 0] == pytest.approx(float(expected))


def test_the_memory_format_changes_no_result() -> None:
    batch = made_up_batch()
    one, other = (built(CHANNELS_LAST=value).eval()(batch) for value in (True, False))
    torch.testing.assert_close(one, other)


def test_cosines_do_not_depend_on_lengths() -> None:
    torch.manual_seed(0)
    layer = CosineClassifier(5, 3, scale=7.0)
    features = torch.randn(4, 5)
    logits = layer(features)
    assert logits.abs().max() <= 7
    torch.testing.assert_close(layer(3 * features), logits)
    with torch.no_grad():
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(features), logits)


def test_the_method_decides_the_classifier_unless_told() -> None:
    assert isinstance(built(METHOD="ldam").classifier, CosineClassifier)
    assert isinstance(built(METHOD="softmax").classifier, torch.nn.Linear)
    assert isinstance(built(METHOD="softmax", CLASSIFIER="cosine").classifier, CosineClassifier)


def test_methods_hear_how_far_training_is_and_what_the_features_are() -> None:
    model, features = built(), torch.ones(2, 3)
    assert model.loss_context(features).progress is None  # outside of training
    with EventStorage(40):
        context = model.loss_context(features)
    assert context.progress == TrainingProgress(40, model.schedule.max_iter, images_per_batch=4)
    assert context.features is features
    assert model.loss_context(features).progress is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"BACKBONE": "resnet17"}, "BACKBONE is 'resnet17'; expected one of 'cifar_resnet32'"),
        ({"BACKBONE": "resnet50", "WIDTH": 2}, "WIDTH is 2"),
        ({"PRETRAINED": True}, "PRETRAINED is True"),
        ({"NUM_CLASSES": 1}, "NUM_CLASSES is 1"),
        ({"EMPTY_CLASSES": "drop"}, "EMPTY_CLASSES is 'drop'"),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize("mix", [False, True])
def test_a_batch_is_counted_once_also_where_labels_are_mixed(mix: bool) -> None:
    model, batch = built(METHOD="seesaw"), made_up_batch(mix=mix)
    model(batch)["loss_cls"].backward()
    assert torch.equal(model.method.counts, torch.bincount(batch.labels, minlength=len(COUNTS)))
    with torch.no_grad():  # a validation loss
        model(batch)
    model.eval()(batch)
    assert model.method.counts.sum() == len(batch)
