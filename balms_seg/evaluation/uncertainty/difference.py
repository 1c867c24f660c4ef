"""One metric of two runs, and whether chance explains how they differ."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """How a second run's metric differs from a first one's; nan where it is not defined.

    Attributes:
        first: of the first run, on the images as they are.
        second: of the second.
        low: lower end of the interval of second - first.
        high: upper end.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0
