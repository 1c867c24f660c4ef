"""Random numbers keyed by position in the training stream.

Whatever is random about one training sample comes from generators seeded by (run seed, position),
so that it depends neither on what was drawn before nor on which process draws it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK_64 = (1 << 64) - 1


def _mix(state: int, value: int) -> int:
    """One step of splitmix64 (Steele et al. 2014) after absorbing `value`; 64 bits."""
    state = (state ^ value) + 0x9E3779B97F4A7C15 & _MASK_64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK_64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK_64
    return state ^ (state >> 31)


def position_seed(seed: int, position: int, purpose: str) -> int:
    """Seed of everything that is drawn for one purpose at one stream position.

    Args:
        seed: the run's seed.
        position: position in the global training stream.
        purpose: what it is for, e.g. "proposals"; two purposes get unrelated seeds.

    Returns:
        An int in [0, 2**63): chained splitmix64 steps over seed, position and the purpose's CRC-32.
        The same on every machine and Python version.
    """
    state = _mix(0, seed & _MASK_64)
    state = _mix(state, position & _MASK_64)
    return _mix(state, zlib.crc32(purpose.encode())) >> 1


def keyed_uniforms(seed: int, positions: np.ndarray, purpose: str, count: int) -> np.ndarray:
    """Uniform numbers of many stream positions at once.

    Args:
        seed: the run's seed.
        positions: (B,) int64 positions in the global training stream.
        purpose: as for `position_seed`.
        count: numbers for each position.

    Returns:
        (B, count) float64 in [0, 1), row i a function of seed, positions[i] and purpose alone.
    """
    start = np.uint64(_mix(0, seed & _MASK_64))
    state = _mix_array(start ^ positions.astype(np.uint64))
    state = _mix_array(state ^ np.uint64(zlib.crc32(purpose.encode())))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix_array(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mix_array(state: np.ndarray) -> np.ndarray:
    """As `_mix` of each element with 0."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@contextmanager
def keyed_rng(seed: int, position: int, purpose: str = "map") -> Iterator[None]:
    """Seed numpy's, Python's and torch's global CPU generators; restore them afterwards.

    Generators that code makes for itself and CUDA's are left alone. torch's CPU generator keeps
    only 32 bits of a seed.

    Args:
        seed: the run's seed.
        position: position in the global training stream.
        purpose: as for `position_seed`.
    """
    numpy_state = np.random.get_state()
    python_state = random.getstate()
    torch_generator = torch.default_generator  # torch.manual_seed would seed CUDA as well
    torch_state = torch_generator.get_state()
    try:
        # different seeds: numpy and Python have the same Mersenne Twister, seeded the same way
        numpy_seed = position_seed(seed, position, f"{purpose}/numpy")
        np.random.seed([numpy_seed & 0xFFFFFFFF, numpy_seed >> 32])
        random.seed(position_seed(seed, position, f"{purpose}/python"))
        torch_generator.manual_seed(position_seed(seed, position, f"{purpose}/torch"))
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch_generator.set_state(torch_state)
