"""The residual network of the CIFAR experiments: three stages of basic blocks, no shortcut weights.

Source: He et al. 2016 (arXiv 1512.03385), section 4.2, option A.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STAGE_WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """Depth 6 n + 2 with n blocks a stage, global average pooling at the end.

    Attributes:
        out_channels: D features of an image.
    """

    def __init__(self, depth: int = 32, *, width: int = 1) -> None:
        """Initialise by He et al. 2015 (fan in).

        Args:
            depth: 6 n + 2: 20, 32, 44, 56, ...
            width: factor on the channels of every layer.

        Raises:
            ValueError: no number of blocks has that depth.
        """
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"Expected a depth of 6 n + 2 such as 20 or 32, but got {depth}.")
        channels = STAGE_WIDTHS[0] * width
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        blocks = []
        for stage, stage_width in enumerate(STAGE_WIDTHS):
            for place in range((depth - 2) // 6):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(_BasicBlock(channels, stage_width * width, stride))
                channels = stage_width * width
        self.blocks = nn.Sequential(*blocks)
        self.out_channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, D)."""
        maps = F.relu(self.stem_norm(self.stem(images)))
        return self.blocks(maps).mean(dim=(2, 3))


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.stride, self.new_channels = stride, out_channels - in_channels

    def forward(self, maps: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(maps)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self._shortcut(maps))

    def _shortcut(self, maps: Tensor) -> Tensor:
        """Every stride-th pixel, with zeros for the new channels on both sides."""
        if self.stride == 1 and self.new_channels == 0:
            return maps
        before = self.new_channels // 2
        pads = (0, 0, 0, 0, before, self.new_channels - before)
        return F.pad(maps[:, :, :: self.stride, :: self.stride], pads)
