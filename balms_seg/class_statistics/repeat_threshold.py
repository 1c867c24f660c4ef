"""From which threshold on repeat-factor sampling repeats a given share of the classes."""

from __future__ import annotations

import math

import numpy as np

from balms_seg.wording import agreeing, counted


def threshold_that_repeats(frequency: np.ndarray, share: float = 1 / 3) -> float:
    """A threshold, of three digits, below which `share` of the present classes lie.

    It is the frequency of the next class above them, or twice that of the most frequent of them
    where that is less. So of 40 classes in one image each and 20 in two, the 40 are drawn sqrt(2)
    times as often, where a threshold just above theirs would change nothing.

    Args:
        frequency: (K,) share of images that show each class; 0 for absent classes.
        share: in (0, 1].

    Returns:
        A threshold above the frequency of the rarest ceil(share * present) classes; just above
        where no class is more frequent, and inf where none is present.
    """
    present = np.sort(frequency[frequency > 0])
    if present.size == 0:
        return math.inf
    bound = float(present[math.ceil(share * present.size) - 1])
    above = present[present > bound * (1 + 1e-9)]
    threshold = bound
    if above.size:
        threshold = _three_digits(min(float(above[0]), 2 * bound), up=False)
    return threshold if threshold > bound else _three_digits(bound, up=True)


def describe_threshold(threshold: float, frequency: np.ndarray) -> str:
    """Say what a threshold that was chosen for a data set does.

    Args:
        threshold: of `threshold_that_repeats`.
        frequency: (K,) share of images that show each class; 0 for absent classes.
    """
    present = frequency[frequency > 0]
    if not present.size or present.min() == present.max():
        return (
            f"DATALOADER.REPEAT_THRESHOLD is {threshold:g}, but no image is repeated: equally many "
            "images show each class."
        )
    times = math.sqrt(threshold / present.min())
    number = int((present < threshold).sum())
    return (
        f"DATALOADER.REPEAT_THRESHOLD is {threshold:g}: {number} of "
        f"{counted(len(present), 'class')} {agreeing(number, 'is', 'are')} in a smaller share of "
        f"the images, and images of the rarest come {times:.3g} times as often."
    )


def _three_digits(value: float, *, up: bool) -> float:
    """The number of three digits next to a value: above it, or the value or below."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    digits = max(0, -round(math.log10(step)))
    return round((math.floor(value / step * (1 + 1e-9)) + up) * step, digits)
