"""From class parameters to image probabilities and to the weights of draws.

Symbols: N images, K classes, P distinct (image, class) pairs; psi (K,) the class parameters;
r(c) = base(c) * link(psi_c) the class rates; r(I) the largest rate among the image's classes;
p(I) = r(I) / sum over all images of r. Everything is float64 numpy and free of state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from balms_seg.sampling.repeat_factor import image_class_pairs
from balms_seg.sampling.streams import Block


class Link(Protocol):
    """A positive factor of the class rate as a function of its parameter."""

    def factor(self, psi: np.ndarray) -> np.ndarray:
        """(K,) positive factors."""

    def log_derivative(self, psi: np.ndarray) -> np.ndarray:
        """(K,) derivative of the factor's logarithm."""


@dataclass(frozen=True)
class BoundedLink:
    """g(psi) = exp(log(max_factor) tanh(psi)): 1 at psi = 0, within [1 / max_factor, max_factor].

    Bounded, because psi need not stop drifting and only ratios of rates count: whatever psi does,
    no class is driven out of the stream or takes it over, and a draw's weight p / p_draw stays
    within [max_factor**-4, max_factor**4]. Symmetric, so that a class is as free to come less
    often as to come more often.

    Args:
        max_factor: above 1.

    Raises:
        ValueError: it is not.
    """

    max_factor: float

    def __post_init__(self) -> None:
        if not 1 < self.max_factor < math.inf:
            raise ValueError(f"Expected META.MAX_FACTOR above 1, but got {self.max_factor}.")

    def factor(self, psi: np.ndarray) -> np.ndarray:
        """(K,) g(psi), never outside the bounds by rounding."""
        factor = np.exp(math.log(self.max_factor) * np.tanh(psi))
        return np.clip(factor, 1 / self.max_factor, self.max_factor)

    def log_derivative(self, psi: np.ndarray) -> np.ndarray:
        """(K,) log(max_factor) / cosh(psi)**2."""
        return math.log(self.max_factor) * (1 - np.tanh(psi) ** 2)


@dataclass(frozen=True)
class SigmoidLink:
    """sigmoid(psi): the class rates of the paper's Meta Sampler (arXiv 2007.10740)."""

    def factor(self, psi: np.ndarray) -> np.ndarray:
        """(K,) in (0, 1); 1/2 at psi = 0."""
        return np.exp(-np.logaddexp(0, -psi))

    def log_derivative(self, psi: np.ndarray) -> np.ndarray:
        """(K,) sigmoid(-psi)."""
        return np.exp(-np.logaddexp(0, psi))


def tilted_start(image_counts: np.ndarray, power: float) -> np.ndarray:
    """Start of the class parameters: sigmoid(psi_c) is in proportion to 1 / n_c^power.

    Args:
        image_counts: (K,) images of each class; a class without any counts as one.
        power: 0 draws all images equally often at first, 1 all classes.

    Returns:
        (K,) such that the smallest and the largest sigmoid add up to 1; zeros where power is 0.

    Source: jiawei-ren/BalancedMetaSoftmax-Classification: data/MetaSampler.py, `init_pow`.
    """
    if power == 0:
        return np.zeros(len(image_counts))
    log_rates = -power * np.log(np.maximum(image_counts, 1))
    log_rates -= np.logaddexp(log_rates.min(), log_rates.max())
    return log_rates - np.log(-np.expm1(log_rates))


class ImageClasses:
    """Which classes each image shows.

    Args:
        dataset_dicts: N data set dicts with "annotations" or "label"; either may be missing.
        num_classes: K.

    Raises:
        ValueError: a class id lies outside [0, K).

    Attributes:
        images: (P,) int64 image of each distinct pair, ascending.
        classes: (P,) int64 class of each pair.
        image_counts: (K,) int64 images that show each class.
        has_several: whether some image shows more than one class.
        are_labels: whether they are labels of whole images, not annotated instances.
    """

    def __init__(self, dataset_dicts: Sequence[dict], num_classes: int) -> None:
        self.num_images = len(dataset_dicts)
        self.num_classes = num_classes
        self.are_labels = any("label" in record for record in dataset_dicts[:1])
        self.images, self.classes = image_class_pairs(dataset_dicts, num_classes)
        self.image_counts = np.bincount(self.classes, minlength=num_classes)
        is_first = np.diff(self.images, prepend=-1) > 0
        self._first_pairs = np.flatnonzero(is_first)
        self._images_with_classes = self.images[is_first]
        self.has_several = not bool(is_first.all())

    def maximum(self, class_rates: np.ndarray) -> np.ndarray:
        """(N,) largest of the (K,) rates among each image's classes; 1 where an image has none."""
        rates = np.ones(self.num_images)
        if len(self._first_pairs):
            pair_rates = class_rates[self.classes]
            rates[self._images_with_classes] = np.maximum.reduceat(pair_rates, self._first_pairs)
        return rates

    def maximum_shares(self, class_rates: np.ndarray, maximum: np.ndarray) -> np.ndarray:
        """(P,) derivative of the maximum by each rate: 1, shared equally among an image's ties."""
        is_largest = class_rates[self.classes] == maximum[self.images]
        ties = np.bincount(self.images, weights=is_largest, minlength=self.num_images)
        return is_largest / ties[self.images]


@dataclass(frozen=True, eq=False)
class ImageRates:
    """All that follows from one psi.

    Attributes:
        class_rates: (K,) r(c).
        log_derivative: (K,) d log r(c) / d psi_c.
        probabilities: (N,) p(I), of sum 1.
        shares: (P,) d log r(I) / d log r(c) of each (image, class) pair.
    """

    class_rates: np.ndarray
    log_derivative: np.ndarray
    probabilities: np.ndarray
    shares: np.ndarray


def compute_image_rates(
    psi: np.ndarray, base_rates: np.ndarray, link: Link, image_classes: ImageClasses
) -> ImageRates:
    """Class rates, image probabilities and their derivatives.

    Args:
        psi: (K,) class parameters.
        base_rates: (K,) positive; the class rates where the link gives 1.
        link: the factor that psi puts on them.
        image_classes: of all N images.
    """
    class_rates = base_rates * link.factor(psi)
    rates = image_classes.maximum(class_rates)
    return ImageRates(
        class_rates,
        link.log_derivative(psi),
        rates / rates.sum(),
        image_classes.maximum_shares(class_rates, rates),
    )


def never_largest(rates: ImageRates, image_classes: ImageClasses) -> np.ndarray:
    """Ids of the classes that have images but the largest rate in none: their psi cannot learn."""
    largest = np.bincount(
        image_classes.classes, weights=rates.shares, minlength=image_classes.num_classes
    )
    return np.flatnonzero((largest == 0) & (image_classes.image_counts > 0))


def compute_loss_weights(draws: Block, rates: ImageRates) -> np.ndarray:
    """(B,) p(I) / p_draw(I): exactly 1 where the draws were made with these rates.

    Weighted so, the mean over draws from any older rates has the expectation of one over draws
    from these: sum over all images of p(I) times whatever is averaged.

    Args:
        draws: B draws with their probabilities.
        rates: the rates now.
    """
    assert draws.probabilities is not None
    return rates.probabilities[draws.indices] / draws.probabilities
