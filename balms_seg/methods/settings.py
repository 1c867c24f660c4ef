"""Settings of methods: frozen dataclasses that become configuration keys and check themselves.

The field `max_margin` of the method `ldam` is the key `MODEL.METHODS.LDAM.MAX_MARGIN`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# Which training counts are the prior: of images, of instances, of instances weighted by the
# sampler's expected repeats, or what the method was made for. Statistics hold "sampled" counts only
# where a setting called `prior` asks for them.
PRIORS = ("auto", "image", "instance", "sampled")


class SettingError(ValueError):
    """A setting whose value means nothing.

    Attributes:
        name: of the field.
        value: what it has.
        expected: what it may have, in words.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        """See the class."""
        super().__init__(f"{name} is {value!r}; expected {expected}.")
        self.name, self.value, self.expected = name, value, expected


def place_of(method: str, field: str) -> str:
    """Where a setting is chosen: a configuration's key, or in code an argument."""
    key = f"MODEL.METHODS.{method.upper()}.{field.upper()}"
    return f'{key} (in code METHODS["{method}"].Settings({field}=...))'


@dataclass(frozen=True)
class MethodSettings:
    """A method's settings; each field has a default and is one key of the configuration.

    Fields are numbers, truth values, texts, or tuples and lists of them. `__post_init__` checks
    them, with the help of `check_choice` and `check_range`.
    """

    def check_classes(self, num_classes: int) -> None:
        """Raise SettingError where a field does not go with so many classes."""

    def check_choice(self, name: str, allowed: Collection[str]) -> None:
        """Raise SettingError unless a field is one of some words."""
        if getattr(self, name) not in allowed:
            raise SettingError(name, getattr(self, name), f"one of {', '.join(allowed)}")

    def check_range(self, name: str, is_inside: bool, expected: str) -> None:
        """Raise SettingError unless the caller found a field inside its range, named in words."""
        if not is_inside:
            raise SettingError(name, getattr(self, name), expected)
