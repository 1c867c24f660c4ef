"""Operations equal torchvision's; an image's augmentation depends on its stream position alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from balms_seg.data.images.batch_augmentation import (
    AutoAugment,
    BatchAugmentation,
    CropAndFlip,
    Cutout,
    RandAugment,
)
from balms_seg.data.images.image_augmentation import _worker_transforms
from balms_seg.data.images.pixel_operations import OPERATIONS

THEIRS = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
SPACE = {**THEIRS._AUGMENTATION_SPACE, **v2.RandAugment()._AUGMENTATION_SPACE}
ALL = [CropAndFlip(4), AutoAugment(), Cutout(16)]


def made_up_images(count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("name", SPACE)
def test_an_operation_equals_torchvisions(name: str) -> None:
    values, signed = SPACE[name]
    table = values(10, 32, 32)
    images = made_up_images()
    strengths = torch.zeros(8) if table is None else table[torch.arange(8) + 1].float()
    if signed:
        strengths = strengths * torch.tensor([1.0, -1.0] * 4)
    ours = OPERATIONS[name](images, strengths)
    theirs = torch.stack(
        [
            THEIRS._apply_image_or_video_transform(
                image, name, strength, interpolation=THEIRS.interpolation, fill=THEIRS._fill
            )
            for image, strength in zip(images, strengths.tolist(), strict=True)
        ]
    )
    differences = (ours.int() - theirs.int()).abs()
    assert ours.dtype == torch.uint8
    if name in ("ShearX", "ShearY", "Rotate"):  # a place halfway between two pixels
        assert (differences > 0).float().mean() < 0.01
    else:  # a value that rounding puts on the other side of a whole number
        assert differences.max() <= 1
        assert (differences > 0).float().mean() < 0.05


def test_no_operation_changes_its_input() -> None:
    images = made_up_images()
    before = images.clone()
    for operation in OPERATIONS.values():
        operation(images, torch.full((8,), 0.3))
    assert torch.equal(images, before)


@pytest.mark.parametrize("transforms", [ALL, [RandAugment(2, 9)]], ids=["all", "randaugment"])
def test_an_image_is_augmented_alike_in_any_batch(transforms: list) -> None:
    augment, images = BatchAugmentation(transforms), made_up_images()
    positions = np.arange(40, 48)
    together = augment(images, 5, positions)
    apart = torch.cat([augment(images[i : i + 1], 5, positions[i : i + 1]) for i in range(8)])
    assert torch.equal(together, apart)
    assert not torch.equal(together, augment(images, 6, positions))
    assert not torch.equal(together, augment(images, 5, positions + 8))


def test_a_crop_is_a_window_of_the_padded_image_or_of_its_mirror() -> None:
    images = made_up_images(64)
    cropped = BatchAugmentation([CropAndFlip(2)])(images, 0, np.arange(64))
    places = set()
    for image, crop in zip(images, cropped, strict=True):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(
                crop.flip(-1) if mirrored else crop,
                padded[:, top : top + 32, left : left + 32],
            )
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 20
    assert {mirrored for _, _, mirrored in places} == {False, True}


def test_a_crop_without_padding_and_mirror_is_the_image() -> None:
    images = made_up_images()
    uniforms = np.full((8, 3), 0.9)
    assert torch.equal(CropAndFlip(0)(images, uniforms), images)


def test_cutout_blackens_a_square_about_its_pixel() -> None:
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    cut = Cutout(16)(white, np.array([[0.5, 0.5], [0.0, 0.999]]))
    inner, corner = (cut == 0).all(dim=1)
    assert inner.sum() == 256
    assert inner[8:24, 8:24].all()
    assert corner.sum() == 8 * 9  # cut off at the border
    assert corner[:8, 23:].all()


def test_autoaugment_draws_every_sub_policy() -> None:
    augment = AutoAugment()
    assert len(augment._policies) == 25
    images = made_up_images(1).expand(500, -1, -1, -1)
    uniforms = np.random.default_rng(0).random((500, augment.num_uniforms))
    changed = (augment(images, uniforms) != images).flatten(start_dim=1).any(dim=1)
    assert 0.5 < changed.float().mean() < 1


@pytest.mark.gpu
def test_a_gpu_augments_as_the_cpu() -> None:
    augment, images = BatchAugmentation([*ALL, RandAugment(2, 9)]), made_up_images(64)
    positions = np.arange(64)
    ours = augment(images.cuda(), 0, positions).cpu()
    differences = (ours.int() - augment(images, 0, positions).int()).abs()
    assert (differences > 1).float().mean() < 0.01  # places halfway between two pixels


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("crop_flip", ["RandomResizedCrop", "RandomHorizontalFlip"]),
        ("color_jitter", ["ColorJitter"]),
        ("autoaugment", ["AutoAugment"]),
        ("randaugment", ["RandAugment"]),
        ("cutout", ["RandomErasing"]),
    ],
)
def test_data_workers_have_torchvisions_transforms(name: str, kinds: list[str]) -> None:
    options = SimpleNamespace(SIZE=32, CUTOUT=16, RANDAUGMENT=(2, 9))
    built = _worker_transforms(v2, name, options)
    assert [type(each).__name__ for each in built] == kinds
    if name == "cutout":  # 16 of 32 px, in height and width
        assert (built[0].scale, built[0].ratio, built[0].p) == ((0.25, 0.25), (1.0, 1.0), 1.0)
