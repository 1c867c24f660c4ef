"""What of a training batch enters the feature bank."""

from __future__ import annotations

import pytest
import torch

from balms_seg.engine.meta.meta_batches import BankedBatches, RowPlaces
from balms_seg.meta import FeatureBank

K = 3


def banked(classes: list[int], images: list[int], num_images: int) -> tuple[list[int], list[float]]:
    """Sizes by class (background last), and the first feature of the background rows kept."""
    bank = FeatureBank(K, 1, per_class=50, background=50, max_memory_mb=1)
    batches = BankedBatches(
        bank, num_foreground=1, num_background=1, seed=0, device=torch.device("cpu")
    )
    places = RowPlaces(gt_classes=torch.tensor(classes), images=torch.tensor(images))
    rows = torch.arange(len(classes), dtype=torch.float32)[:, None]
    batches.add([{"stream_position": i} for i in range(num_images)], rows, places)
    features, kept = bank.draw(200, 400, torch.Generator().manual_seed(0))
    background = sorted({value for value in features[kept == K].flatten().tolist()})
    return bank.sizes.tolist(), background


@pytest.mark.parametrize(
    ("classes", "images", "sizes", "background"),
    [
        # as many of an image as it has foreground, the first ones
        ([0, 1, K, K, K, K], [0] * 6, [1, 1, 0, 2], [2, 3]),
        ([2, K, K, K, 0, 0, 1, K, K, K, K], [0] * 4 + [1] * 7, [2, 1, 1, 4], [1, 7, 8, 9]),
        # none of an image without foreground, and all where there are few
        ([K, K, K, 0, 0, 0, K], [0] * 3 + [1] * 4, [3, 0, 0, 1], [6]),
        ([K, K], [0, 1], [0, 0, 0, 0], []),
    ],
    ids=["one image", "two images", "no foreground", "background alone"],
)
def test_background_enters_in_the_number_of_its_images_foreground(
    classes: list[int], images: list[int], sizes: list[int], background: list[int]
) -> None:
    assert banked(classes, images, max(images) + 1) == (sizes, background)
