"""One metric of two runs, and whether chance explains how they differ."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Fewest classes with objects of which a mean is judged. Of exchangeable runs on made-up sets of 60
#: and 200 images 9 to 32 % were called different where one class had objects, 3 to 4 % where two
#: had, and no more with further ones.
MIN_CLASSES = 2


def too_few_classes(things: str = "objects") -> str:
    """Why a mean over classes is not judged, in words; `things` are what the classes lack."""
    return f"fewer than {MIN_CLASSES} classes have {things}"


@dataclass(frozen=True)
class Difference:
    """How a second run's metric differs from a first one's; nan where it is not defined.

    Attributes:
        first: of the first run, on the images as they are.
        second: of the second.
        low: lower end of the interval of second - first.
        high: upper end.
        num_classes: classes with objects, which the metric is a mean over; None: it is none.
    """

    first: float
    second: float
    low: float
    high: float
    num_classes: int | None = field(default=None, kw_only=True)

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def can_be_judged(self) -> bool:
        """Whether the interval has a width and does not rest on fewer than `MIN_CLASSES`.

        One without a width saw the same objects in each resample, so it knows no chance.
        """
        has_classes = self.num_classes is None or self.num_classes >= MIN_CLASSES
        return self.high > self.low and has_classes

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out 0; never where it cannot be judged."""
        return self.can_be_judged and (self.low > 0 or self.high < 0)
