"""Reading a configuration: the yaml, the keys of the command line, and what is wrong with them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from typing import IO, Any

from detectron2.config import CfgNode, get_cfg

from balms_seg.config import add_balms_config, check_config, check_known_keys
from balms_seg.config.methods import EXAMPLES
from balms_seg.model_zoo import get_config_file
from balms_seg.sampling.repeat_factor import AUTO_REPEAT_THRESHOLD
from balms_seg.wording import plain_path

# Keys that a run computes from another one, unless the command line names them and not the other;
# the value is what switches the other off.
DERIVED_FROM = {
    "SOLVER.MAX_ITER": ("SOLVER.EPOCHS", "0"),
    "SOLVER.WARMUP_ITERS": ("SOLVER.WARMUP_SHARE", "0.0"),
}

_MOST_NAMED = 5  # keys, where one is unknown


def load_config(config_file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> CfgNode:
    """Read a configuration file (safely: a yaml cannot run code) and apply overrides.

    Args:
        config_file: yaml with this package's and detectron2's keys; `_BASE_` is followed. Where
            there is no such file, the name of one that comes with the package.
        overrides: KEY VALUE pairs.

    Returns:
        The configuration, checked for contradictions, not frozen.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: a key does not exist, or is one of the authors' release.
        ValueError: the yaml is malformed, holds python objects, or contradicts itself; or the file
            is a Python configuration.
    """
    config_file = find_config_file(str(config_file))
    if config_file.endswith(".py"):
        raise ValueError(
            f"Expected a yaml configuration, but {config_file} is Python, which `balms-seg train` "
            "alone takes."
        )
    cfg = get_cfg()
    add_balms_config(cfg)
    try:
        content = _LocalFiles.load_yaml_with_base(str(config_file), allow_unsafe=False)
        content.keys()  # an attribute error where it is no mapping
    except KeyError:
        raise
    except (AttributeError, TypeError) as error:  # of what is no mapping
        raise ValueError(
            f"{config_file} is not a plain yaml configuration: expected KEY: VALUE pairs, in it "
            "and in its _BASE_; is one of them empty?"
        ) from error
    except Exception as error:  # yaml raises a family of its own
        raise ValueError(f"{config_file} is not a plain yaml configuration: {error}") from error
    check_known_keys(content, str(config_file))
    cfg.merge_from_file(str(config_file), allow_unsafe=False)
    merge_overrides(cfg, overrides)
    return cfg


class _LocalFiles(CfgNode):
    """Reads configuration files, and stops where `_BASE_` is an address to download from."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        if "://" in filename:
            raise ValueError(
                f"_BASE_ is an address, {filename}; only files are followed: save it beside the "
                "configuration and name that"
            )
        return open(plain_path(filename), encoding="utf-8")


def find_config_file(name: str) -> str:
    """A file as it is named, or else the one of that name that comes with the package.

    Raises:
        FileNotFoundError: there is neither.
    """
    if os.path.isfile(name):
        return name
    try:
        return get_config_file(name.removeprefix("configs/"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Expected a configuration file at {name or '--config-file'}, but there is none, nor "
            "one of that name in the package; `balms-seg train --list` names those."
        ) from None


def refuse_flags(overrides: Sequence[str]) -> None:
    """Raise ValueError where a flag stands among KEY VALUE pairs, which would not be heeded."""
    flags = [word for word in overrides if word.startswith("--")]
    if flags:
        raise ValueError(
            f"{flags[0]} stands behind the first KEY VALUE pair ({overrides[0]}), where only pairs "
            f"are read; put it before the first KEY: {flags[0]} {overrides[0]} ..."
        )


def merge_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Set keys of a configuration, and check it for contradictions.

    Args:
        cfg: configuration, not frozen.
        overrides: KEY VALUE pairs.

    Raises:
        KeyError: as `load_config`.
        ValueError: likewise.
    """
    refuse_flags(overrides)
    if len(overrides) % 2:
        raise ValueError(
            f"Expected KEY VALUE pairs after the flags, but got {len(overrides)} words: "
            f"{' '.join(overrides)}"
        )
    for key in overrides[::2]:
        nested: dict = {}
        for part in reversed(key.split(".")):
            nested = {part: nested}
        check_known_keys(nested, "The command line")
        _require_key(cfg, key)
    named = dict(zip(overrides[::2], overrides[1::2], strict=True))
    if named.get("DATALOADER.REPEAT_THRESHOLD") == "auto":  # the key holds a number
        named["DATALOADER.REPEAT_THRESHOLD"] = str(AUTO_REPEAT_THRESHOLD)
    for number, (source, off) in DERIVED_FROM.items():
        if number in named and source not in named:
            named[source] = off
    for key, word in named.items():
        _merge_override(cfg, key, word)
    check_config(cfg)


def _merge_override(cfg: CfgNode, key: str, word: str) -> None:
    """Set one key; a whole number will do where it holds a fraction."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(node, float) and re.fullmatch(r"[+-]?\d+", word):
        word = f"{word}.0"
    try:
        cfg.merge_from_list([key, word])
    except ValueError as error:
        if not str(error).startswith("Type mismatch"):
            raise
        raise ValueError(
            f"{key} is {word} on the command line; expected {type(node).__name__}, such as "
            f"{EXAMPLES.get(key, repr(node))}."
        ) from None


def _require_key(cfg: CfgNode, key: str) -> None:
    """Raise KeyError for a key that does not exist; yacs asserts."""
    node: Any = cfg
    for part in key.split("."):
        known = list(node) if isinstance(node, CfgNode) else []
        if part not in known:
            near = difflib.get_close_matches(part, known, n=3)
            if not near and len(known) <= _MOST_NAMED:
                near = known
            hint = f"; there are {', '.join(near)}" if near else ""
            raise KeyError(f"There is no key {key} ({part} is unknown{hint}).")
        node = node[part]
