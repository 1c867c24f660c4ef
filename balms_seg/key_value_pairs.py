"""KEY VALUE pairs of a command line, which change a configuration."""

from __future__ import annotations

from collections.abc import Sequence


def require_pairs(words: Sequence[str]) -> None:
    """Stop where words are no pairs; commands ask before they load what takes seconds.

    Args:
        words: what follows the flags.

    Raises:
        ValueError: a flag stands among them, which would not be heeded, or their number is odd.
    """
    flags = [word for word in words if word.startswith("--")]
    if flags:
        raise ValueError(
            f"{flags[0]} stands behind the first KEY VALUE pair ({words[0]}), where only pairs "
            f"are read; put it before the first KEY: {flags[0]} {words[0]} ..."
        )
    if len(words) % 2:
        raise ValueError(
            f"Expected KEY VALUE pairs after the flags, but got {len(words)} words: "
            f"{' '.join(words)}"
        )
