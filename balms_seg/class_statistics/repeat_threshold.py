"""From which threshold on repeat-factor sampling repeats a given share of the classes."""

from __future__ import annotations

import math

import numpy as np


def threshold_that_repeats(frequency: np.ndarray, share: float = 1 / 3) -> float:
    """Smallest threshold, to three digits, at which `share` of the present classes repeat.

    Args:
        frequency: (K,) share of images that show each class; 0 for absent classes.
        share: in (0, 1].

    Returns:
        A threshold above the frequency of the rarest ceil(share * present) classes; inf where no
        class is present.
    """
    present = np.sort(frequency[frequency > 0])
    if present.size == 0:
        return math.inf
    bound = float(present[math.ceil(share * present.size) - 1])
    step = 10.0 ** (math.floor(math.log10(bound)) - 2)
    digits = max(0, -round(math.log10(step)))
    return round((math.floor(bound / step * (1 + 1e-9)) + 1) * step, digits)
