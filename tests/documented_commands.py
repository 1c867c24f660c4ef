"""The command lines that the documents show, as a reader would paste them."""

from __future__ import annotations

import argparse
import contextlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from balms_seg.commands import command_line

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "datasets/README.md",
    *sorted(
        path.relative_to(ROOT).as_posix()
        for kind in ("*.md", "*.sh")
        for path in (ROOT / "docs").rglob(kind)
    ),
]
# What is not ours and cannot be checked here.
FOREIGN = {"pip", "git", "export", "[", "curl", ".ci/run"}

_OF_SCRIPTS = {"$rank": "0", "${SLURM_GPUS_ON_NODE:-8}": "8", "${@:2}": "", "${@:4}": ""}
_OF_SCRIPTS["${BALMS_FLAG:---resume}"] = "--resume"
_STARTS = r"(balms-seg|python|make|srun|torchrun|pip|git|curl|export|\.ci/run|[A-Z]\w*=\S*)( |$)"


def commands_of(document: str) -> list[list[str]]:
    """Words of each command in the document's shell blocks, without a launcher before it."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if document.endswith(".sh"):
        for variable, value in _OF_SCRIPTS.items():
            text = text.replace(f'"{variable}"', value)
        blocks = [("bash", text)]
    found = []
    for block in (content for language, content in blocks if language in ("", "bash", "sh")):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(_STARTS, line):
                found.append(_without_launcher(shlex.split(line, comments=True)))
    return found


def _without_launcher(words: list[str]) -> list[str]:
    """Without variables, srun and torchrun, which start what follows."""
    while re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words = words[1:]
    if "-m" in words and words[words.index("-m") + 1] == "balms_seg":
        return ["balms-seg", *words[words.index("-m") + 2 :]]
    return words[1:] if words[0] == "srun" else words


class Parsed(Exception):
    """A command has understood its words."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.found = args


def parse(words: list[str]) -> argparse.Namespace:
    """Let a command of ours read its words, and stop it there.

    Raises:
        SystemExit: it does not understand them.
    """
    original = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *arguments: object) -> None:
        raise Parsed(original(self, *arguments))  # type: ignore[arg-type]

    with patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            start(words)
        except Parsed as parsed:
            return parsed.found
    raise AssertionError(f"{shlex.join(words)} read no words")


def start(words: list[str]) -> None:
    """Run `balms-seg ...` or `python FILE ...` in this process, paths of files from the root."""
    if words[0] == "balms-seg":
        command_line.main(words[1:])
        return
    script = ROOT / words[1]
    with _as_script(script, words[2:]):
        runpy.run_path(str(script), run_name="__main__")


@contextlib.contextmanager
def _as_script(script: Path, arguments: list[str]) -> Iterator[None]:
    """Words and import path as python gives them to a script."""
    with (
        patch.object(sys, "argv", [str(script), *arguments]),
        patch.object(sys, "path", [str(script.parent), *sys.path]),
    ):
        yield
