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
    codes = characters.astype(np.int16) - 48
    is_broken = lengths == 0
    owner = np.repeat(np.arange(len(lengths)), lengths)
    is_broken[owner[(codes < 0) | (codes > 63)]] = True
    goes_on = (codes & 32) > 0
    last = offsets[1:][lengths > 0] - 1
    is_broken[owner[last[goes_on[last]]]] = True
    ends = np.flatnonzero(~goes_on)
    is_broken[owner[ends[np.diff(ends, prepend=-1) > _MOST_GROUPS]]] = True
    return is_broken


def decode_runs(characters: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of whole masks, (V,) int64, and the (n + 1,) bounds of each mask's."""
    codes = characters.astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((codes & 31) << (5 * place), starts) if len(ends) else codes[:0]
    is_negative = (codes[ends] & 16) > 0
    values -= np.where(is_negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    run_offsets = np.searchsorted(ends, offsets)
    return _undo_differences(values, run_offsets), run_offsets


def _undo_differences(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum up every second difference within each mask, its first run left out."""
    mask = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    place = np.arange(len(values)) - offsets[mask]
    series = 3 * mask + np.where(place == 0, 0, 1 + place % 2)
    order = np.argsort(series, kind="stable")
    sums = np.cumsum(values[order])
    is_first = np.diff(series[order], prepend=-1) > 0
    before = (sums - values[order])[is_first]
    runs = np.empty_like(values)
    runs[order] = sums - before[np.cumsum(is_first) - 1]
    return runs
