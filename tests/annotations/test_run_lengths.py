"""Checks of compressed RLE, beside a slow decoder and pycocotools."""

import numpy as np
import pycocotools.mask
import pytest

from balms_seg.annotations import run_lengths
from balms_seg.annotations.run_lengths import run_length_problems


def decoded(text: bytes) -> list[int] | None:
    """Runs of one mask, a character at a time; None where it is no RLE."""
    runs: list[int] = []
    value, num_groups = 0, 0
    for character in text:
        code = character - 48
        if not 0 <= code < 64 or num_groups == 7:
            return None
        value |= (code & 31) << (5 * num_groups)
        num_groups += 1
        if code & 32:
            continue
        if code & 16:
            value -= 1 << (5 * num_groups)
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, num_groups = 0, 0
    return None if num_groups or not runs else runs


def problems(texts: list[bytes], num_pixels: int) -> dict[int, str]:
    offsets = np.concatenate([[0], np.cumsum(list(map(len, texts)))]).astype(np.int64)
    characters = np.frombuffer(b"".join(texts), np.uint8)
    return run_length_problems(characters, offsets, np.full(len(texts), num_pixels))


def random_text(rng: np.random.Generator, height: int, width: int) -> bytes:
    mask = rng.random((height, width)) < rng.choice([0.0, 0.01, 0.5, 1.0])
    mask[:, : rng.integers(width)] = rng.random() < 0.5
    return pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def damaged(rng: np.random.Generator, text: bytes) -> bytes:
    characters = bytearray(text)
    place = int(rng.integers(len(characters)))
    kind = rng.integers(5)
    if kind == 0:
        characters[place] = int(rng.integers(256))
    elif kind == 1:
        characters[place] = int(rng.integers(48, 112))
    elif kind == 2:
        del characters[place:]
    elif kind == 3:
        characters[place:place] = b"o" * int(rng.integers(1, 9))
    else:
        del characters[place]
    return bytes(characters)


@pytest.mark.parametrize("at_once", [1, 100, 1 << 17])
def test_problems_are_those_of_a_slow_decoder(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(run_lengths, "_CHARACTERS_AT_ONCE", at_once)
    rng = np.random.default_rng(at_once)
    height, width = 37, 53
    texts = [random_text(rng, height, width) for _ in range(150)]
    texts += [damaged(rng, text) for text in texts for _ in range(3)]
    texts = [texts[place] for place in rng.permutation(len(texts))]
    found = problems(texts, height * width)
    kinds = {"no RLE": 0, "negative": 0, "sum to": 0, "": 0}
    for place, text in enumerate(texts):
        runs = decoded(text)
        if runs is None:
            expected = "no RLE"
        elif min(runs) < 0:
            expected = "negative"
        else:
            expected = "" if sum(runs) == height * width else "sum to"
        assert expected in found.get(place, ""), (text, found.get(place))
        assert (place in found) == bool(expected)
        if expected == "sum to":
            assert f"sum to {sum(runs)};" in found[place]
        kinds[expected] += 1
    assert min(kinds.values()) > 10


def test_masks_of_pycocotools_are_whole() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 300, (60, 2)).tolist()
    texts = [random_text(rng, *size) for size in sizes]
    # A run of more than 2**30 pixels takes seven groups.
    sizes.append([60_000, 60_000])
    large = {"size": sizes[-1], "counts": [3_000_000_000, 7, 599_999_993]}
    texts.append(pycocotools.mask.frPyObjects(large, *sizes[-1])["counts"])
    offsets = np.concatenate([[0], np.cumsum(list(map(len, texts)))])
    characters = np.frombuffer(b"".join(texts), np.uint8)
    assert run_length_problems(characters, offsets, np.prod(sizes, axis=1)) == {}


def test_no_masks_have_no_problems() -> None:
    assert problems([], 100) == {}
    assert set(problems([b"", b""], 100)) == {0, 1}
