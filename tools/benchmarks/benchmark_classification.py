"""`benchmark.py classification`: training on small images beside the reference recipe."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from benchmark_timing import Row, measure_alternately

AUGMENTATIONS = {
    "crop, flip": ["crop_flip"],
    "crop, flip, AutoAugment, Cutout": ["crop_flip", "autoaugment", "cutout"],
}
_NUM_IMAGES = 12_406  # of CIFAR-10-LT at rho 100
_MEAN, _STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def benchmark_classification(arguments: argparse.Namespace) -> list[Row]:
    """ResNet-32 on CIFAR-sized images: our loader and step against PIL image by image, float32."""
    rows = []
    for name, augmentations in AUGMENTATIONS.items():
        runs = [build(augmentations, arguments) for build in (_reference_step, _our_step)]
        seconds = measure_alternately(
            *(step for step, _ in runs), repetitions=arguments.repetitions, clock=arguments.clock
        )
        row: Row = {"augmentation": name, "batch": arguments.batch}
        for side, times, (_, loader) in zip(("reference", "ours"), seconds, runs, strict=True):
            row[f"{side}_images_per_s"] = arguments.batch / statistics.median(times)
            row[f"{side}_data_share"] = statistics.median(loader.seconds[1:]) / statistics.median(
                times
            )
        row["speedup"] = row["ours_images_per_s"] / row["reference_images_per_s"]
        rows.append(row)
    return rows


class _TimedLoader:
    """Passes batches on and notes how long each took."""

    def __init__(self, loader: Iterable[Any], clock: Callable[[], float]) -> None:
        self._loader, self._clock = loader, clock
        self.seconds: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self._loader)
        while True:
            start = self._clock()
            batch = next(iterator)
            self.seconds.append(self._clock() - start)
            yield batch


def _clock(arguments: argparse.Namespace) -> Callable[[], float]:
    return {"wall": time.perf_counter, "cpu": time.process_time}[arguments.clock]


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (_NUM_IMAGES, 3, 32, 32), generator=generator)
    return images.to(torch.uint8), torch.randint(0, 10, (_NUM_IMAGES,), generator=generator)


def _our_step(
    augmentations: list[str], arguments: argparse.Namespace
) -> tuple[Callable[[], None], _TimedLoader]:
    from detectron2.utils.events import EventStorage

    from balms_seg.data.images.image_augmentation import build_batch_augmentation
    from balms_seg.data.loading.image_loader import MemoryLoader
    from balms_seg.engine import load_config
    from balms_seg.engine.step import TrainingStep
    from balms_seg.model_zoo import get_config_file
    from balms_seg.modeling import ImageClassifier
    from balms_seg.sampling import TrainingSampler

    cfg = load_config(get_config_file("classification/base.yaml"))
    cfg.INPUT.IMAGES.AUGMENTATIONS = augmentations
    images, labels = _data()
    loader = MemoryLoader(
        images.to(arguments.device),
        labels,
        TrainingSampler(_NUM_IMAGES, seed=0),
        arguments.batch,
        seed=0,
        augment=build_batch_augmentation(cfg),
    )
    timed = _TimedLoader(loader, _clock(arguments))
    torch.manual_seed(0)
    model = ImageClassifier(cfg).to(arguments.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = TrainingStep(model, timed, optimizer, seed=0, mixed_precision=torch.bfloat16)
    step.iter = 0

    def run() -> None:
        with EventStorage(0):
            step.run_step()
        _wait(arguments)

    return run, timed


def _reference_step(
    augmentations: list[str], arguments: argparse.Namespace
) -> tuple[Callable[[], None], _TimedLoader]:
    """PIL images augmented one by one in the main process; float32, channels first."""
    from PIL import Image
    from torch.utils.data import DataLoader

    from balms_seg.modeling.cifar_resnet import CifarResNet

    images, labels = _data()
    transform = _pil_transform(augmentations)
    samples = [
        (Image.fromarray(image.permute(1, 2, 0).numpy()), int(label))
        for image, label in zip(images, labels, strict=True)
    ]

    def collate(batch: list[tuple[Image.Image, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.stack([transform(image) for image, _ in batch])
        return pixels, torch.tensor([label for _, label in batch])

    load = partial(DataLoader, samples, arguments.batch, shuffle=True, collate_fn=collate)
    endless = (batch for _ in iter(int, 1) for batch in load(drop_last=True))
    timed = _TimedLoader(endless, _clock(arguments))
    batches = iter(timed)
    torch.manual_seed(0)
    backbone = CifarResNet(32)
    model = torch.nn.Sequential(backbone, torch.nn.Linear(64, 10)).to(arguments.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        pixels, targets = next(batches)
        logits = model(pixels.to(arguments.device))
        loss = torch.nn.functional.cross_entropy(logits, targets.to(arguments.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        _wait(arguments)

    return run, timed


def _pil_transform(augmentations: list[str]) -> Callable[[Any], torch.Tensor]:
    from torchvision import transforms

    steps: list[Any] = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    if "autoaugment" in augmentations:
        steps.append(transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10))
    steps.append(transforms.ToTensor())
    if "cutout" in augmentations:
        steps.append(transforms.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)))
    mean, std = ([value / 255 for value in values] for values in (_MEAN, _STD))
    return transforms.Compose([*steps, transforms.Normalize(mean, std)])


def _wait(arguments: argparse.Namespace) -> None:
    if arguments.device.startswith("cuda"):
        torch.cuda.synchronize()


def add_classification_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `classification`."""
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: busy machine"
    )
