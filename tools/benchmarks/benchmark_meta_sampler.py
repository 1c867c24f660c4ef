"""`benchmark.py meta_sampler`: what the Meta Sampler costs, in time and in memory.

The classifier trains on made-up features that are in memory already, so that neither images nor a
trunk, which all schemes would share, play a part.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from benchmark_meta_sampler_reference import ReferenceMetaSampler
from benchmark_timing import Row, measure_alternately, peak_memory_mb
from torch import Tensor, nn

PLAIN, REFERENCE = "no sampler", "the release's scheme"
_BANK = 4096  # rows of features that images share


class Problem:
    """A long-tailed set of the given size, features, a classifier and its optimiser."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Make it up, the same each time."""
        torch.manual_seed(0)
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.counts = long_tailed_counts(arguments.images, arguments.classes)
        self.labels = torch.from_numpy(np.repeat(np.arange(arguments.classes), self.counts))
        self._labels = self.labels.to(self.device)
        self._features = torch.randn(_BANK, arguments.features).to(self.device)
        self.layer = nn.Linear(arguments.features, arguments.classes).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.layer.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
        )

    def images(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Features and labels of images."""
        indices = indices.to(self.device)
        return self._features[indices % _BANK], self._labels[indices]

    def meta_images(self) -> tuple[Tensor, Tensor]:
        """Features and labels of a class-balanced batch."""
        count = self.arguments.meta_batch
        labels = torch.randint(0, len(self.counts), (count,), device=self.device)
        return self._features[:count], labels


def long_tailed_counts(num_images: int, num_classes: int) -> np.ndarray:
    """(K,) counts that fall from the first class to the last about as those of ImageNet-LT do.

    There a thousand classes have 1280 to 5 images. What rounding leaves goes to the first classes.
    """
    shape = 5 + 1275 * np.linspace(1, 0, num_classes) ** 10.5
    counts = (shape * num_images / shape.sum()).astype(int)
    counts[: num_images - counts.sum()] += 1
    return counts


def build_step(scheme: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """One training iteration of a scheme, on a problem of its own."""
    problem = Problem(arguments)
    if scheme == REFERENCE:
        run = ReferenceMetaSampler(
            problem.layer,
            problem.optimizer,
            labels=problem.labels.to(problem.device),
            counts=torch.from_numpy(problem.counts),
            images=problem.images,
            meta_images=problem.meta_images,
            batch_size=arguments.batch,
        ).run_step
    else:
        run = OurStep(problem, None if scheme == PLAIN else scheme).run_step

    def step() -> None:
        run()
        if problem.device.type == "cuda":
            torch.cuda.synchronize()

    return step


class OurStep:
    """The engine's meta step and the classifier's real step on features."""

    def __init__(self, problem: Problem, estimator: str | None) -> None:
        """Without an estimator, images are drawn uniformly and nothing is learned."""
        from balms_seg import ClassStatistics
        from balms_seg.engine.meta.class_learners import LearnedRates
        from balms_seg.engine.meta.meta_step import MetaStep
        from balms_seg.meta import AdamSettings
        from balms_seg.methods import METHODS, LossContext
        from balms_seg.modeling.classifier_rows import ClassifierView
        from balms_seg.sampling import (
            ImageClasses,
            MetaRepeatFactorTrainingSampler,
            SigmoidLink,
            TrainingSampler,
        )

        self.problem, self.meta, self.iteration = problem, None, 0
        labels, num_classes = problem.labels.numpy(), len(problem.counts)
        known = ClassStatistics.from_labels(labels, num_classes)
        self.method = METHODS["balanced_softmax"](num_classes, has_background=False)
        self.method.prepare(known)
        self.method.to(problem.device)
        if estimator is None:
            self.stream: Any = TrainingSampler(len(labels), seed=0)
            return
        image_classes = ImageClasses([{"label": label} for label in labels.tolist()], num_classes)
        self.stream = MetaRepeatFactorTrainingSampler(
            image_classes,
            np.ones(num_classes),
            seed=0,
            link=SigmoidLink(),
            estimator=estimator,
            block_size=problem.arguments.batch,
            lookahead=0,
            adam=AdamSettings(lr=0.01, betas=(0.9, 0.999), weight_decay=0.0),
        )
        classifier = ClassifierView(
            layer=problem.layer,
            method=self.method,
            compute_rows=lambda batch: None,
            context=lambda rows: LossContext(),
            accuracies=lambda logits, labels: {},
        )
        self.meta = MetaStep(
            LearnedRates(self.stream, [str(i) for i in range(num_classes)]),
            MadeUpMetaBatches(problem),
            classifier=classifier,
            optimizer=problem.optimizer,
            objective="plain",
            period=1,
        )

    def run_step(self) -> None:
        """Draw a batch; a meta step where something is learned, and a training step on it."""
        from balms_seg.engine.meta.meta_step import loss_and_residuals
        from balms_seg.methods import LossContext
        from balms_seg.modeling.classifier_rows import ClassifierRows

        problem = self.problem
        drawn = DrawnBatch(self.stream.draw(problem.arguments.batch))
        features, labels = problem.images(torch.from_numpy(drawn.draws().indices))
        rows = ClassifierRows(features, labels, torch.arange(len(drawn), device=problem.device))
        logits = problem.layer(features)
        _, residuals = loss_and_residuals(
            lambda leaf: self.method.training_loss(leaf, labels, LossContext()), logits
        )
        weights = torch.ones(len(drawn), device=problem.device)
        if self.meta is not None:
            weights = self.meta.row_weights(
                self.iteration,
                drawn,
                rows,
                residuals=residuals,
                normaliser=torch.tensor(len(drawn), device=problem.device),
                rows_of=None,
            )
        self.stream.mark_consumed(len(drawn))
        problem.optimizer.zero_grad()
        logits.backward(residuals * (weights / len(drawn))[:, None])
        problem.optimizer.step()
        self.iteration += 1


class DrawnBatch:
    """A batch as far as the sampler knows it."""

    def __init__(self, draws: Any) -> None:
        """Keep the draws."""
        self._draws = draws

    def draws(self) -> Any:
        """What `balms_seg.sampling.draws_of` reads."""
        return self._draws

    def __len__(self) -> int:
        return len(self._draws)


class MadeUpMetaBatches:
    """Meta rows of a problem, in place of a loader's."""

    def __init__(self, problem: Problem) -> None:
        """Use its meta images."""
        self.problem = problem

    def has_samples(self) -> Tensor:
        """All classes."""
        return torch.ones(len(self.problem.counts), dtype=torch.bool)

    def next_rows(self, iteration: int, rows_of: Any) -> Any:
        """The next meta batch."""
        from balms_seg.modeling.classifier_rows import ClassifierRows

        features, labels = self.problem.meta_images()
        return ClassifierRows(features, labels, torch.arange(len(labels), device=labels.device))

    def add(self, batch: Any, features: Any, places: Any) -> None:
        """Nothing to note."""


def benchmark_meta_sampler(arguments: argparse.Namespace) -> Iterator[Row]:
    """Each estimator of the Meta Sampler against the release's scheme, in time and extra memory."""
    # First of all: a process is born with its parent's peak, which has to be small still.
    schemes = (PLAIN, REFERENCE, *arguments.estimators)
    peaks = {scheme: peak_memory_mb(build_step, scheme, arguments, calls=3) for scheme in schemes}
    extra_mb = {scheme: peak - peaks[PLAIN] for scheme, peak in peaks.items()}
    plain, reference = (build_step(scheme, arguments) for scheme in (PLAIN, REFERENCE))
    for estimator in arguments.estimators:
        ours = build_step(estimator, arguments)
        settings = {"repetitions": arguments.repetitions, "clock": arguments.clock}
        reference_seconds, seconds = measure_alternately(reference, ours, **settings)
        _, plain_seconds = measure_alternately(ours, plain, **settings)
        reference_mb = extra_mb[REFERENCE]
        ratios = [r / o for r, o in zip(reference_seconds, seconds, strict=True)]
        yield {
            "estimator": estimator,
            "seconds": statistics.median(seconds),
            "no_sampler_seconds": statistics.median(plain_seconds),
            "reference_seconds": statistics.median(reference_seconds),
            "times_faster": statistics.median(ratios),
            "extra_mb": extra_mb[estimator],
            "reference_extra_mb": reference_mb,
            # Small problems need less than a MiB.
            "share_of_memory": extra_mb[estimator] / reference_mb if reference_mb else None,
        }


def add_meta_sampler_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `meta_sampler`; the defaults are ImageNet-LT's and those of its ResNet-10."""
    estimators = ("score", "gumbel_class", "gumbel_image")
    parser.add_argument("--images", type=int, default=115_846)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--meta-batch", type=int, default=1024)
    parser.add_argument("--estimators", nargs="+", choices=estimators, default=list(estimators))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: busy machine"
    )
