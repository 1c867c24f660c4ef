"""Compressed run lengths (RLE) of many masks at once: taken apart and checked, before C code is.

Symbols: n masks, V runs of all of them, B characters of all of them.

A run is written in groups of five bits, low ones first, as characters from "0" on; the sixth bit
says that the run goes on, the fifth of the last group is its sign. From the fourth run of a mask
on, the difference to the run before the last one is written.

Source: the format of cocoapi's maskApi.c, `rleToString`.
"""

from __future__ import annotations

import numpy as np

_MOST_GROUPS = 7  # 35 bits hold any run of fewer than 2**32 pixels


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
    is_broken = _has_broken_characters(characters, offsets)
    problems = {
        index: "that are cut short or no RLE; expected compressed RLE"
        for index in np.flatnonzero(is_broken).tolist()
    }
    whole = np.flatnonzero(~is_broken)
    kept = np.repeat(~is_broken, np.diff(offsets))
    bounds = np.concatenate([[0], np.cumsum(np.diff(offsets)[whole])])
    runs, run_offsets = decode_runs(characters[kept], bounds)
    totals = np.add.reduceat(runs, run_offsets[:-1]) if len(whole) else runs
    is_negative = np.minimum.reduceat(runs, run_offsets[:-1]) < 0 if len(whole) else runs < 0
    for place in np.flatnonzero((totals != num_pixels[whole]) | is_negative).tolist():
        what = "with a negative run" if is_negative[place] else f"whose runs sum to {totals[place]}"
        expected = num_pixels[whole[place]]
        problems[int(whole[place])] = f"{what}; expected runs that sum to height x width {expected}"
    return problems


def _has_broken_characters(characters: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n,) bool: empty, a foreign character, a run that is too long, or one that does not end."""
    lengths = np.diff(offsets)
    is_broken = lengths == 0
    is_foreign = (characters < 48) | (characters > 48 + 63)
    is_end = ((characters - 48) & 32) == 0
    last = offsets[1:][~is_broken] - 1
    ends = np.flatnonzero(is_end)
    is_long = np.diff(ends, prepend=-1) > _MOST_GROUPS
    for places in (np.flatnonzero(is_foreign), last[~is_end[last]], ends[is_long]):
        is_broken[np.searchsorted(offsets, places, side="right") - 1] = True
    return is_broken


def decode_runs(characters: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of whole masks, (V,) int64, and the (n + 1,) bounds of each mask's."""
    codes = characters - 48
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    num_groups = ends - starts + 1
    groups = codes & 31
    values = groups[starts].astype(np.int64)
    for group in range(1, int(num_groups.max(initial=1))):
        longer = np.flatnonzero(num_groups > group)
        values[longer] |= groups[starts[longer] + group].astype(np.int64) << (5 * group)
    is_negative = np.flatnonzero(codes[ends] & 16)
    values[is_negative] -= np.int64(1) << (5 * num_groups[is_negative])
    run_offsets = np.searchsorted(ends, offsets)
    return _undo_differences(values, run_offsets), run_offsets


def _undo_differences(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum up every second difference within each mask, its first run left out.

    Two running sums go over all masks at once, of every second value each; what they were before a
    mask began is taken off.
    """
    firsts = offsets[:-1][np.diff(offsets) > 0]
    sums = np.concatenate([[0, 0], values])  # a step of two reaches before the first mask
    sums[firsts + 2] = 0
    sums[0::2] = np.cumsum(sums[0::2])
    sums[1::2] = np.cumsum(sums[1::2])
    owner = np.repeat(offsets[:-1], np.diff(offsets))
    is_odd = (np.arange(len(values)) - owner) & 1
    runs = sums[2:] - sums[owner + 2 - is_odd]
    runs[firsts] = values[firsts]
    return runs
