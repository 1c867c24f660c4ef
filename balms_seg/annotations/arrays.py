"""Lists of unequal length, texts and ids as flat arrays, which processes can share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Ragged:
    """n lists behind each other.

    Attributes:
        values: of all of them.
        offsets: (n + 1,) int64 where each begins and ends.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of_lengths(cls, values: np.ndarray, lengths: Sequence[int] | np.ndarray) -> Ragged:
        """Lists of these lengths."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(np.asarray(lengths, np.int64), out=offsets[1:])
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Texts:
    """n texts, in UTF-8."""

    characters: Ragged

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """The texts."""
        # A lone surrogate, which json can hold, has to survive.
        encoded = [text.encode("utf-8", errors="surrogatepass") for text in texts]
        values = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(Ragged.of_lengths(values, list(map(len, encoded))))

    def __len__(self) -> int:
        return len(self.characters)

    def __getitem__(self, index: int) -> str:
        return self.characters[index].tobytes().decode("utf-8", errors="surrogatepass")


@dataclass(frozen=True, eq=False)
class Ids:
    """n ids: integers, texts, or None.

    Attributes:
        numbers: (n,) int64; empty where some are not integers.
        texts: the ids as json where some are not integers, else empty.
    """

    numbers: np.ndarray
    texts: Texts

    @classmethod
    def of(cls, ids: np.ndarray | Sequence[int | str | None]) -> Ids:
        """The ids, integers of at most 64 bits."""
        if isinstance(ids, np.ndarray):
            return cls(ids, Texts.of([]))
        if all(type(value) is int for value in ids):
            return cls(np.array(ids, np.int64), Texts.of([]))
        return cls(np.zeros(0, np.int64), Texts.of([json.dumps(value) for value in ids]))

    def __len__(self) -> int:
        return max(len(self.numbers), len(self.texts))

    def __getitem__(self, index: int) -> int | str | None:
        return int(self.numbers[index]) if len(self.numbers) else json.loads(self.texts[index])

    def to_list(self) -> list[int | str | None]:
        """All of them."""
        return self.numbers.tolist() if len(self.numbers) else [self[i] for i in range(len(self))]
