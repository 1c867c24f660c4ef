"""Compressed run lengths (RLE) of many masks at once: taken apart and checked, before C code is.

Symbols: n masks, V runs of all of them, B characters of all of them.

A run is written in groups of five bits, low ones first, as characters from "0" on; the sixth bit
says that the run goes on, the fifth of the last group is its sign. From the fourth run of a mask
on, the difference to the run before the last one is written.

Source: the format of cocoapi's maskApi.c, `rleToString`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_ZERO = ord("0")
_GOES_ON = 1 << 5
_SIGN = 1 << 4
_MOST_GROUPS = 7  # 35 bits hold any run of fewer than 2**32 pixels
_CHARACTERS_AT_ONCE = 1 << 17  # whose arrays stay in a processor's cache


def run_length_problems(
    characters: np.ndarray, offsets: np.ndarray, num_pixels: np.ndarray
) -> dict[int, str]:
    """Say what is wrong with each mask that is not what its format says.

    Args:
        characters: (B,) uint8, the `counts` of all masks behind each other.
        offsets: (n + 1,) int64, where each mask's begin and end.
        num_pixels: (n,) int64, height x width of each.

    Returns:
        Mask -> what is wrong, in words that follow "segmentation counts"; whole masks are left out.
    """
    problems: dict[int, str] = {}
    cuts = np.flatnonzero(np.diff(offsets[:-1] // _CHARACTERS_AT_ONCE, prepend=-1))
    for first, last in pairwise([*cuts.tolist(), len(num_pixels)]):
        part = characters[offsets[first] : offsets[last]]
        bounds = offsets[first : last + 1] - offsets[first]
        for place, problem in _problems_of_part(part, bounds, num_pixels[first:last]).items():
            problems[first + place] = problem
    return problems


def _problems_of_part(
    characters: np.ndarray, offsets: np.ndarray, num_pixels: np.ndarray
) -> dict[int, str]:
    codes = characters - np.uint8(_ZERO)  # what comes before "0" gets beyond 63
    ends = np.flatnonzero(codes < _GOES_ON)
    broken = _broken_masks(codes, ends, offsets)
    if len(broken):
        problem = "that are cut short or no RLE; expected compressed RLE"
        problems = dict.fromkeys(broken.tolist(), problem)
        is_kept = np.ones(len(num_pixels), bool)
        is_kept[broken] = False
        lengths = np.diff(offsets)
        bounds = np.concatenate([[0], np.cumsum(lengths[is_kept])])
        others = characters[np.repeat(is_kept, lengths)]
        whole = np.flatnonzero(is_kept).tolist()
        found = _problems_of_part(others, bounds, num_pixels[is_kept])
        return problems | {whole[place]: problem for place, problem in found.items()}
    totals, is_negative = _sum_runs(*_decode_values(codes, ends, offsets))
    problems = {}
    for place in np.flatnonzero((totals != num_pixels) | is_negative).tolist():
        is_sum = not is_negative[place]
        what = f"whose runs sum to {totals[place]}" if is_sum else "with a negative run"
        expected = f"runs that sum to height x width {num_pixels[place]}"
        problems[place] = f"{what}; expected {expected}"
    return problems


def _broken_masks(codes: np.ndarray, ends: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Masks that are empty, have a foreign character, a run too long, or one that does not end."""
    is_empty = np.diff(offsets) == 0
    last = offsets[1:][~is_empty] - 1
    cut = last[codes[last] >= _GOES_ON]
    stops = np.union1d(ends, cut) if len(cut) else ends
    too_long = stops[np.diff(stops, prepend=-1) > _MOST_GROUPS]
    wrong = [np.flatnonzero(codes >= 2 * _GOES_ON), too_long, cut]
    owners = np.searchsorted(offsets, np.concatenate(wrong), side="right") - 1
    return np.union1d(np.flatnonzero(is_empty), owners)


def _decode_values(
    codes: np.ndarray, ends: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is written for each run, (V,) int64, and the (n + 1,) bounds of each mask's."""
    values = codes[ends].astype(np.int64)
    values ^= _SIGN
    values -= _SIGN
    # From the last group of each run to the first. Before the first character stands the last one,
    # which ends a run as any character before a run does.
    at = ends - 1
    longer = np.flatnonzero(codes[at] >= _GOES_ON)
    at = at[longer]
    while len(longer):
        values[longer] = (values[longer] << 5) | (codes[at] & (_GOES_ON - 1))
        at -= 1
        goes_on = codes[at] >= _GOES_ON
        longer, at = longer[goes_on], at[goes_on]
    return values, np.searchsorted(ends, offsets)


def _sum_runs(values: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of each mask's runs, (n,) int64, and whether one of them is negative, (n,) bool.

    The first run stands for itself; of the others every second one is a running sum of its own.
    """
    firsts = bounds[:-1]
    totals, lowest = values[firsts], values[firsts]
    values[firsts] = 0
    for parity in (0, 1):
        own_totals, own_lowest = _sum_chains(values[parity::2], (bounds + 1 - parity) // 2)
        totals += own_totals
        lowest = np.minimum(lowest, own_lowest)
    return totals, lowest < 0


def _sum_chains(values: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and smallest of the running sums of each chain, both (n,) int64; 0 for an empty chain.

    One running sum goes over all chains; what it was before a chain began is taken off.
    """
    totals, lowest = np.zeros((2, len(bounds) - 1), np.int64)
    lengths = np.diff(bounds)
    own = np.flatnonzero(lengths)
    starts = bounds[own]
    sums = np.cumsum(values)
    before = sums[starts] - values[starts]
    totals[own] = np.add.reduceat(sums, starts) - before * lengths[own]
    lowest[own] = np.minimum.reduceat(sums, starts) - before
    return totals, lowest
