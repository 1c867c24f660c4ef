"""`KEY VALUE`: configuration keys at the end of a command, whatever flag stands before them.

argparse gives a flag of several values, such as `--methods`, every word up to the next flag, keys
included. So the words are parted where the keys begin. A word that ends as an image or a zip does,
DSC_0001.JPG, is a file.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence

_DEST = "opts"
# Keys of detectron2's that stand in no node; other words in capitals are names that people give.
_TOP = "CUDNN_BENCHMARK|FLOAT32_PRECISION|OUTPUT_DIR|SEED|VERSION|VIS_PERIOD"
_KEY = re.compile(rf"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+|{_TOP}")


def add_key_arguments(parser: argparse.ArgumentParser, *, after_words: bool = False) -> None:
    """The words after all flags; the last argument of a command.

    Args:
        parser: of the command.
        after_words: the argument before is as many words as there are, without a flag.
    """
    parser.add_argument(
        _DEST,
        # REMAINDER would take the flags that stand behind such words, too.
        nargs="*" if after_words else argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="configuration keys, after all flags",
    )


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command; where it takes keys, no flag takes them for its values.

    Args:
        parser: of the command.
        words: all of them.

    Raises:
        ValueError: a flag stands behind a key; names the command in the right order.
    """
    if parser.get_default(_DEST) is None:
        return parser.parse_args(words)
    start = next(
        (
            place
            for place, (word, before) in enumerate(zip(words, ["", *words], strict=False))
            if _is_key(word) and not before.startswith("-")
        ),
        len(words),
    )
    args = parser.parse_args(words[:start])
    args.opts = [*args.opts, *words[start:]]
    flags, pairs = _parted(args.opts)
    if flags and pairs and _KEY.fullmatch(pairs[0]):
        before = words[: len(words) - len(args.opts)]
        raise ValueError(
            f"{flags[0]} stands behind the first KEY VALUE pair ({pairs[0]}), where only pairs are "
            "read; put all flags before the first KEY: "
            f"{parser.prog} {shlex.join([*flags, *before, *pairs])}"
        )
    return args


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and the pairs between which they stand."""
    flags: list[str] = []
    pairs: list[str] = []
    belongs_to = pairs
    for word in words:
        if word.startswith("--"):
            belongs_to = flags
        elif _is_key(word):
            belongs_to = pairs
        belongs_to.append(word)
    return flags, pairs


def _is_key(word: str) -> bool:
    from balms_seg.data.images.image_files import IMAGE_SUFFIXES

    return bool(_KEY.fullmatch(word)) and not word.lower().endswith((*IMAGE_SUFFIXES, ".zip"))
