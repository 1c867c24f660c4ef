"""Backbones of the image classifier by name: (B, 3, H, W) images to (B, D) features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.hub import get_dir
from torchvision.models import ResNet, resnet
from torchvision.models.resnet import BasicBlock

from balms_seg.modeling.cifar_resnet import CifarResNet
from balms_seg.modeling.efficientnet_lite import EfficientNetLite0
from balms_seg.modeling.given_features import GivenFeatures


def _torchvision(name: str, *, width: int, pretrained: bool) -> nn.Module:
    """A residual network of torchvision without its classifier."""
    assert width == 1
    # V1: the training that published long-tailed results start from.
    build = getattr(resnet, name)
    if not pretrained:
        return _headless(build())
    try:
        return _headless(build(weights="IMAGENET1K_V1"))
    except (OSError, RuntimeError) as error:  # no network; a download cut short
        raise RuntimeError(
            f"The ImageNet weights of {name} could not be downloaded ({error}). Put torchvision's "
            f"file into {get_dir()}/checkpoints, or set MODEL.IMAGE_CLASSIFIER.PRETRAINED False."
        ) from error


def _resnet10(*, width: int, pretrained: bool) -> nn.Module:
    """One basic block a stage, as in the ImageNet-LT experiments."""
    assert width == 1
    assert not pretrained
    return _headless(ResNet(BasicBlock, [1, 1, 1, 1]))


def _cifar_resnet32(*, width: int, pretrained: bool) -> nn.Module:
    assert not pretrained
    return CifarResNet(32, width=width)


def _efficientnet_lite0(*, width: int, pretrained: bool) -> nn.Module:
    assert width == 1
    return EfficientNetLite0(pretrained=pretrained)


def _headless(model: Any) -> nn.Module:
    model.out_channels = model.fc.in_features
    model.fc = nn.Identity()
    return model


IMAGE_BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet32": _cifar_resnet32,
    "resnet10": _resnet10,
    "resnet18": partial(_torchvision, "resnet18"),
    "resnet50": partial(_torchvision, "resnet50"),
    "resnet152": partial(_torchvision, "resnet152"),
    "resnext50": partial(_torchvision, "resnext50_32x4d"),
    "efficientnet_lite0": _efficientnet_lite0,
}
FEATURES = "features"  # no backbone: batches are of features
OF_ANY_WIDTH = ("cifar_resnet32",)
PRETRAINED = ("resnet18", "resnet50", "resnet152", "resnext50", "efficientnet_lite0")


def build_image_backbone(
    name: str, *, width: int = 1, pretrained: bool = False, num_features: int = 0
) -> nn.Module:
    """A backbone whose attribute `out_channels` is D.

    Args:
        name: a key of `IMAGE_BACKBONES`, or `FEATURES`.
        width: factor on the channels; 1 but for those `OF_ANY_WIDTH`.
        pretrained: with ImageNet weights, for those in `PRETRAINED`: torchvision's, downloaded
            where they are not cached, or those of the extra `pretrained`.
        num_features: D of `FEATURES`.
    """
    if name == FEATURES:
        return GivenFeatures(num_features)
    return IMAGE_BACKBONES[name](width=width, pretrained=pretrained)
