"""How class parameters get their gradient from a loss of weighted draws.

Symbols: N images, K classes, B draws; psi (K,) the class parameters, r(I) the rate of image I,
p(I) = r(I) / sum of r, w_b = p(I_b) / p_draw(I_b) the weight of draw b. Float64 numpy, no state.

- `score_gradient`: the derivative of the weights themselves (likelihood ratio), unbiased.
- `gumbel_image_gradient`: the paper's. A draw is the largest of log r + Gumbel noise over all
  images; backwards, the one-hot row is replaced by the softmax y of the same sums over a
  temperature, 1 in the paper (straight-through). A draw's weight is 1 and has the derivative of
  y(I_b).
- `gumbel_class_gradient`: the same with a class drawn in place of an image, and any of its images
  then. Images come by the same law, at O(K) a draw.

The noise behind a draw need not be kept. With T = e^-(log p + Gumbel), independent exponentials of
rates p, a draw is the smallest T; given which it is, it has rate 1, and each of the others lies
above it by an exponential of its own rate. So the noise is drawn afterwards, from generators keyed
by the draw's stream position, at the rates that hold by then: no queue goes along with a batch.

Source: Ren et al. 2020 (arXiv 2007.10740), section 3.2; Jang et al. 2017 (arXiv 1611.01144). The
conditional noise, and the draws of a class, are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from balms_seg.sampling.image_rates import ImageClasses, ImageRates, compute_loss_weights
from balms_seg.sampling.streams import Block

# Some of the draws, and how many numbers for each, to that many exponentials (b, count) of rate 1.
Noise = Callable[[slice, int], np.ndarray]
# The last argument is the temperature.
Estimator = Callable[[np.ndarray, Block, ImageRates, ImageClasses, Noise, float], np.ndarray]

_CHUNK = 2**18  # noise values in memory at a time


def score_gradient(
    weight_gradient: np.ndarray,
    draws: Block,
    rates: ImageRates,
    image_classes: ImageClasses,
    noise: Noise | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    """Gradient by psi of a loss that depends on psi through the draws' weights.

    With a_I the sum of weight * gradient over the draws of image I, dL / dlog r(I) is
    a_I - p(I) * sum of a: the second term is the normaliser's. The weights' expectation over the
    draws is that of p whatever p_draw was, so this is the score-function (likelihood ratio)
    estimator, which needs the loss's derivative only.

    Args:
        weight_gradient: (B,) derivative of the loss by each draw's weight.
        draws: the B draws with their probabilities.
        rates: the rates that gave the weights.
        image_classes: of all N images.
        noise: not used.
        temperature: not used.

    Returns:
        (K,) dL / dpsi. Linear in the draws: those of several ranks add up.
    """
    changes = weight_gradient * compute_loss_weights(draws, rates)
    by_image = np.bincount(draws.indices, weights=changes, minlength=image_classes.num_images)
    by_image -= rates.probabilities * by_image.sum()
    return _by_class(by_image, rates, image_classes)


def gumbel_image_gradient(
    weight_gradient: np.ndarray,
    draws: Block,
    rates: ImageRates,
    image_classes: ImageClasses,
    noise: Noise,
    temperature: float = 1.0,
) -> np.ndarray:
    """Straight-through gradient by psi, with Gumbel noise over all images; O(B N) time.

    Args:
        weight_gradient: (B,) derivative of the loss by each draw's weight.
        draws: the B draws with their probabilities.
        rates: the rates that gave the weights.
        image_classes: of all N images.
        noise: gives N exponentials for each draw.
        temperature: of the softmax, above 0.

    Returns:
        (K,) as for `score_gradient`.
    """
    changes = weight_gradient * compute_loss_weights(draws, rates)
    by_image = np.zeros(image_classes.num_images)
    chunk = max(1, _CHUNK // len(by_image))
    for start in range(0, len(draws), chunk):
        rows = slice(start, start + chunk)
        by_image += _straight_through(
            changes[rows],
            draws.indices[rows],
            rates.probabilities,
            noise(rows, len(by_image)),
            temperature,
        )
    return _by_class(by_image, rates, image_classes)


def gumbel_class_gradient(
    weight_gradient: np.ndarray,
    draws: Block,
    rates: ImageRates,
    image_classes: ImageClasses,
    noise: Noise,
    temperature: float = 1.0,
) -> np.ndarray:
    """Straight-through gradient by psi, with Gumbel noise over the classes; O(B K) time.

    Args:
        weight_gradient: (B,) derivative of the loss by each draw's weight.
        draws: the B draws with their probabilities.
        rates: the rates that gave the weights.
        image_classes: of all N images, each of one class.
        noise: gives K exponentials for each draw.
        temperature: as for `gumbel_image_gradient`.

    Returns:
        (K,) as for `score_gradient`.

    Raises:
        ValueError: an image shows no class, or several.
    """
    if len(image_classes.images) != image_classes.num_images or image_classes.has_several:
        raise ValueError(
            "Expected images of exactly one class each for META.ESTIMATOR gumbel_class, but some "
            "show none or several; set it to score or gumbel_image."
        )
    changes = weight_gradient * compute_loss_weights(draws, rates)
    num_classes = image_classes.num_classes
    probabilities = np.bincount(
        image_classes.classes, weights=rates.probabilities, minlength=num_classes
    )
    classes = image_classes.classes[draws.indices]
    numbers = noise(slice(0, len(draws)), num_classes)
    by_class = _straight_through(changes, classes, probabilities, numbers, temperature)
    return by_class * rates.log_derivative


ESTIMATORS: dict[str, Estimator] = {
    "score": score_gradient,
    "gumbel_image": gumbel_image_gradient,
    "gumbel_class": gumbel_class_gradient,
}


def conditional_softmax(
    probabilities: np.ndarray,
    drawn: np.ndarray,
    exponentials: np.ndarray,
    temperature: float = 1.0,
) -> np.ndarray:
    """Softmax of (log p + Gumbel noise) / temperature, given which item has the largest sum.

    Args:
        probabilities: (n,) of sum 1; an item of probability 0 gets 0.
        drawn: (b,) the item with the largest sum.
        exponentials: (b, n) of rate 1.
        temperature: above 0.

    Returns:
        (b, n) rows of sum 1, the largest entry at `drawn`.
    """
    rows = np.arange(len(drawn))
    smallest = np.maximum(exponentials[rows, drawn], np.finfo(np.float64).tiny)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = (smallest / (smallest + exponentials / probabilities)) ** (1 / temperature)
    ratios[:, probabilities == 0] = 0
    ratios[rows, drawn] = 1
    return ratios / ratios.sum(axis=1, keepdims=True)


def _straight_through(
    changes: np.ndarray,
    drawn: np.ndarray,
    probabilities: np.ndarray,
    exponentials: np.ndarray,
    temperature: float,
) -> np.ndarray:
    """(n,) sum over draws of changes_b * d y_b(drawn_b) / d log r; d y_i = y_i (1_i - y) / t."""
    soft = conditional_softmax(probabilities, drawn, exponentials, temperature)
    changes = changes * soft[np.arange(len(drawn)), drawn] / temperature
    return np.bincount(drawn, weights=changes, minlength=len(probabilities)) - changes @ soft


def _by_class(by_image: np.ndarray, rates: ImageRates, image_classes: ImageClasses) -> np.ndarray:
    """(N,) derivative by log r(I) to the (K,) derivative by psi."""
    by_class = np.bincount(
        image_classes.classes,
        weights=rates.shares * by_image[image_classes.images],
        minlength=image_classes.num_classes,
    )
    return by_class * rates.log_derivative
