"""Progress bars with rate and time left; quiet where nobody watches."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(
    items: Iterable[Item], *, label: str, unit: str, total: int | None = None
) -> Iterable[Item]:
    """Pass the items on and show how many have passed, if standard error is a terminal.

    Args:
        items: anything to iterate over.
        label: what is being done.
        unit: what an item is.
        total: how many there are, for the time left; not needed where `items` has a length.
    """
    if importlib.util.find_spec("tqdm") is None:
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc=label, unit=unit, leave=False, disable=None)
