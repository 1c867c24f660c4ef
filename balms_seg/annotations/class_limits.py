"""How many classes, and how long a name, are taken; beyond that is damage or an attack.

Without a bound, a file of few bytes makes tables, pages and messages of gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import AnnotationError, shown

MAX_CLASSES = 100_000  # several times as many as the largest published sets have
MAX_NAME_LENGTH = 1000  # characters


def check_num_classes(number: int, source: str) -> None:
    """Refuse more classes than any data set has.

    Args:
        number: of the classes.
        source: the file they stand in, for the message.

    Raises:
        AnnotationError: there are more than `MAX_CLASSES`.
    """
    if number > MAX_CLASSES:
        raise AnnotationError(
            f"Expected at most {MAX_CLASSES} classes in {source}, but got {number}; is it damaged, "
            "or does each image have a class of its own?"
        )


def check_class_names(names: Sequence[str], source: str) -> None:
    """Refuse more or longer names than classes have.

    Args:
        names: of the classes.
        source: the file they stand in, for the message.

    Raises:
        AnnotationError: there are more than `MAX_CLASSES`, or one has more than
            `MAX_NAME_LENGTH` characters.
    """
    check_num_classes(len(names), source)
    for place, name in enumerate(names):
        if len(name) > MAX_NAME_LENGTH:
            raise AnnotationError(
                f"Expected names of at most {MAX_NAME_LENGTH} characters in {source}, but that of "
                f"class {place} has {len(name)}: {shown(name)}; shorten it."
            )
