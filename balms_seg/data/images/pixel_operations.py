"""Image operations on batches, with a magnitude of its own for each image.

B uint8 images of H x W px. Each equals torchvision's v2 transform of that name, which takes one
magnitude a call, up to the rounding of values by 1 and of positions halfway between two pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

Operation = Callable[[Tensor, Tensor], Tensor]  # (B, 3, H, W) uint8, (B,) magnitudes


def gather_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take each output pixel from a place of its image; black outside of it.

    Args:
        images: (B, C, H, W).
        rows: (B, H, W) or broadcastable int64 row of each output pixel's source.
        columns: likewise.
    """
    height, width = images.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    index = places.flatten(start_dim=1)[:, None].expand(-1, images.shape[1], -1)
    taken = images.flatten(start_dim=2).gather(2, index).view_as(images)
    return taken * inside[:, None]


def _warp(images: Tensor, matrices: Tensor, *, about_center: bool) -> Tensor:
    """Nearest source pixel under (B, 2, 2) matrices of (x, y), about the centre or a corner."""
    height, width = images.shape[-2:]
    center = (width / 2, height / 2) if about_center else (0.0, 0.0)
    x = torch.arange(width, dtype=torch.float32, device=images.device) + 0.5 - center[0]
    y = torch.arange(height, dtype=torch.float32, device=images.device) + 0.5 - center[1]
    m = matrices[:, :, :, None, None]
    source_x = m[:, 0, 0] * x + m[:, 0, 1] * y[:, None] + (center[0] - 0.5)
    source_y = m[:, 1, 0] * x + m[:, 1, 1] * y[:, None] + (center[1] - 0.5)
    return gather_pixels(images, source_y.round().long(), source_x.round().long())


def _matrices(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    return torch.stack([torch.stack([xx, xy], dim=1), torch.stack([yx, yy], dim=1)], dim=1)


def shear_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Rows are shifted by magnitude times their height."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _warp(images, _matrices(one, magnitudes, zero, one), about_center=False)


def shear_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Columns are shifted by magnitude times their place."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _warp(images, _matrices(one, zero, magnitudes, one), about_center=False)


def rotate(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Counter-clockwise by so many degrees, about the centre."""
    angle = magnitudes * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    return _warp(images, _matrices(cosine, -sine, sine, cosine), about_center=True)


def translate_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """To the right by so many whole px."""
    rows = torch.arange(images.shape[-2], device=images.device)[None, :, None]
    columns = torch.arange(images.shape[-1], device=images.device) - _whole(magnitudes)
    return gather_pixels(images, rows, columns)


def translate_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Down by so many whole px."""
    rows = torch.arange(images.shape[-2], device=images.device)[:, None] - _whole(magnitudes)
    columns = torch.arange(images.shape[-1], device=images.device)[None, None, :]
    return gather_pixels(images, rows, columns)


def _whole(magnitudes: Tensor) -> Tensor:
    return magnitudes.trunc().long()[:, None, None]


def _blend(images: Tensor, others: Tensor, magnitudes: Tensor) -> Tensor:
    """(1 + magnitude) images - magnitude others, cut to whole numbers in [0, 255]."""
    factor = (1 + magnitudes)[:, None, None, None]
    return (images * factor + others * (1 - factor)).clamp(0, 255).to(torch.uint8)


def brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Away from black."""
    return _blend(images, torch.zeros((), device=images.device), magnitudes)


def color(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Away from grey."""
    return _blend(images, _gray(images), magnitudes)


def contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Away from the mean grey."""
    return _blend(images, _gray(images).mean(dim=(1, 2, 3), keepdim=True), magnitudes)


def sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Away from a smoothed image; the border stays."""
    weights = F.pad(torch.full((1, 1), 4.0, device=images.device), (1, 1, 1, 1)) + 1  # 5 amid ones
    kernel = (weights / 13).expand(images.shape[1], 1, 3, 3)
    smoothed = images.float()
    inner = F.conv2d(smoothed, kernel, groups=images.shape[1]).round()
    smoothed = F.pad(inner, (1, 1, 1, 1))
    edge = torch.ones(images.shape[-2:], dtype=torch.bool, device=images.device)
    edge[1:-1, 1:-1] = False
    return _blend(images, torch.where(edge, images.float(), smoothed), magnitudes)


def _gray(images: Tensor) -> Tensor:
    red, green, blue = images.float().split(1, dim=1)
    return red.mul(0.2989).add(green, alpha=0.587).add(blue, alpha=0.114).floor()


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Keep so many of the 8 bits."""
    dropped = (8 - magnitudes.to(torch.int64))[:, None, None, None]
    return ((images.to(torch.int64) >> dropped) << dropped).to(torch.uint8)


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Invert what is at least magnitude times 255."""
    threshold = (255 * magnitudes)[:, None, None, None]
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Stretch each channel to [0, 255]."""
    return V.autocontrast(images)


def equalize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Even out each channel's histogram."""
    return V.equalize(images)


def invert(images: Tensor, magnitudes: Tensor) -> Tensor:
    """255 minus each pixel."""
    return 255 - images


def identity(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Nothing."""
    return images


# By torchvision's names.
OPERATIONS: dict[str, Operation] = {
    "Identity": identity,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
}
