"""Image files of a training set that cannot be read, named once, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UnreadableImageError(OSError):
    """An image file cannot be read; the message names it."""


class MissingImageError(UnreadableImageError, FileNotFoundError):
    """An image file does not exist; the message names it."""


@contextmanager
def naming_image(name: str) -> Iterator[None]:
    """Say which image could not be read, unless an inner one has said it of its own.

    Raises:
        MissingImageError: in place of a FileNotFoundError.
        UnreadableImageError: in place of what PIL raises on broken files.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except FileNotFoundError as error:
        raise MissingImageError(
            f"Image file {name} of the training set does not exist ({error}); "
            "restore it or check the image root that the data set was registered with; if only "
            "the folders differ, set DATASETS.MATCH_FILE_NAMES to basename."
        ) from error
    except (OSError, SyntaxError, EOFError) as error:
        raise UnreadableImageError(
            f"Cannot read image file {name} of the training set ({error}); "
            "replace it or take it out of the annotations."
        ) from error
