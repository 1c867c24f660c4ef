"""What is raised where an annotation file cannot be used, and how values stand in messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from balms_seg.wording import counted

NUM_NAMED = 5
_LONGEST_VALUE = 60


class AnnotationError(ValueError):
    """An annotation file that cannot be used; the message names the file and what to do."""


class FieldError(ValueError):
    """A field whose value cannot be taken; whoever knows the file and the entry adds them."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        self.field = field
        super().__init__(f"{field} {shown(got)}; expected {expected}")


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = value if isinstance(value, str) and len(value) > _LONGEST_VALUE else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def shortened(values: Iterable[object], limit: int = NUM_NAMED, *, total: int | None = None) -> str:
    """The first few values, and how many more there are, of `total` where not all are given."""
    texts = [str(value) for value in values]
    number = len(texts) if total is None else total
    more = f" and {number - limit} more" if number > limit else ""
    return ", ".join(texts[:limit]) + more


def check_unique(ids: Sequence[int | str], kind: str, path: str) -> None:
    """Raise AnnotationError where entries of a kind share an id."""
    if len(set(ids)) == len(ids):
        return
    repeated = [value for value, times in Counter(ids).items() if times > 1]
    raise AnnotationError(
        f"{path} uses {counted(len(repeated), f'{kind} id')} more than once: "
        f"{shortened(repeated)}. Ids must be unique."
    )
