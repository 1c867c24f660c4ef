"""The configuration files that come with the package."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

# In a wheel the files lie in the package, in a checkout beside it.
_ROOTS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def get_config_file(name: str) -> str:
    """Path of a configuration file that ships with the package.

    Args:
        name: relative to configs/, such as "lvis_v1/balanced_softmax_mask_rcnn_R_50_FPN_1x.yaml".

    Returns:
        Its path.

    Raises:
        FileNotFoundError: there is no such file; the message lists the nearest ones.
    """
    root = _root()
    if (root / name).is_file():
        return str(root / name)
    known = sorted(str(path.relative_to(root)) for path in root.rglob("*.yaml"))
    folder = name.split("/")[0] + "/"
    near = [path for path in known if path.startswith(folder)] or known
    raise FileNotFoundError(
        f"There is no configuration {name!r} in {root}; there are {', '.join(near)}."
    )


def configs_that_start_from(weights: str) -> list[str]:
    """Names of the second stages whose MODEL.WEIGHTS is that path."""
    root = _root()
    found = [path for path in root.rglob("*.yaml") if _weights_of(path) == weights]
    return sorted(str(path.relative_to(root)) for path in found)


def _weights_of(path: Path) -> str:
    """MODEL.WEIGHTS of a file, or else of the one that it builds on."""
    text = path.read_text(encoding="utf-8")
    own = re.search(r"^  WEIGHTS: (\S+)", text, re.MULTILINE)
    base = re.search(r"^_BASE_: (\S+)", text, re.MULTILINE)
    if own or not base:
        return own[1] if own else ""
    return _weights_of(path.parent / base[1])


def describe_config_files() -> str:
    """The configurations that can be run, a line each: name and the first sentence on what it is.

    Those that begin with a command can be run; the others are what they build on.
    """
    root = _root()
    lines = {}
    for path in sorted(root.rglob("*.yaml")):
        comments = _head(path)
        if comments and _is_command(comments[0]):
            lines[str(path.relative_to(root))] = _description(comments)
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in lines.items())


def _root() -> Path:
    return next(path for path in _ROOTS if path.is_dir())


def _head(path: Path) -> list[str]:
    """The comments a file begins with."""
    text = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), text)]


def _is_command(comment: str) -> bool:
    return comment.startswith(("python tools/train_net.py ", "balms-seg train "))


def _description(comments: list[str]) -> str:
    """The first sentence that is no command or number, and about hardware only if need be."""
    while comments and (_is_command(comments[0]) or comments[0].startswith("  ")):
        comments = comments[1:]  # the command and its continuation
    sentences: list[str] = []
    paragraph: list[str] = []
    for comment in comments:
        paragraph.append(comment)
        if comment.endswith("."):
            sentences.append(" ".join(paragraph).split(". ")[0].removesuffix(".") + ".")
            paragraph = []
    told = [one for one in sentences if not one.startswith(("Mask AP", "Top-1", "Published"))]
    return min(told, key=lambda one: one.startswith("Hardware:"), default="")
