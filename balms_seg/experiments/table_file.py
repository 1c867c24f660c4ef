"""A table's plan from a yaml file, such as those in tools/benchmarks/tables/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from balms_seg.engine import load_config
from balms_seg.experiments.feature_subsets import FeatureSubset
from balms_seg.experiments.table_data import MAKERS
from balms_seg.experiments.table_plan import Row, TablePlan

_ABOUT = ("title", "split", "iterations", "subset")  # which its json says, too
_ROW_FIELDS = {field.name for field in fields(Row)} - {"opts"}
_FIELDS = {field.name for field in fields(TablePlan)} - {"about"} | set(_ABOUT)


def read_plan(path: Path) -> TablePlan:
    """Read a file; what it may hold is in `TablePlan`, and what its rows may hold, in `Row`.

    Keys of a configuration stand among a row's other settings. `_BASE_` names a file beside it
    whose fields are taken where it has none.

    Raises:
        FileNotFoundError: there is no such file, or no such `_BASE_`.
        ValueError: it is malformed, or says what no table has.
    """
    content = _read_with_base(path)
    _require_known(content, _FIELDS, str(path))
    for name in ("title", "note", "rows", "seeds"):
        if name not in content:
            raise ValueError(f"{path}: expected {name}, but there is none.")
    if content.get("data") not in {None, *MAKERS}:
        raise ValueError(f"{path}: data are {content['data']!r}, and can be {', '.join(MAKERS)}.")
    own = {name: value for name, value in content.items() if name not in ("title", "subset")}
    own["about"] = {name: content[name] for name in _ABOUT if name in content}
    own["opts"] = _words(content.get("opts") or {})
    own["pairs"] = tuple((left, right) for left, right in content.get("pairs") or ())
    own["features"] = FeatureSubset(**content["features"]) if "features" in content else None
    for kind in ("rows", "stages"):
        recipes = content.get(kind) or {}
        own[kind] = {str(name): _row(recipes[name], f"{path}: {name}") for name in recipes}
    try:
        return TablePlan(**own)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_configurations(plan: TablePlan) -> None:
    """Read the configuration of every row, so that no run is the first to find what is wrong.

    Raises:
        KeyError: a row has a key that does not exist.
        ValueError: or one that does not hold, or contradicts another.
    """
    for run in replace(plan, seeds=1, seeds_of={}).runs():
        try:
            load_config(run.config_file, run.opts)
        except (KeyError, ValueError) as error:
            raise type(error)(f"{run.row}: {error.args[0]}") from error


def _read_with_base(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"Expected a table's yaml at {path}, but there is no such file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not yaml: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the fields of a table, but got {content!r}.")
    base = content.pop("_BASE_", None)
    return {**_read_with_base(path.parent / base), **content} if base else content


def _row(content: Mapping[str, Any] | None, where: str) -> Row:
    content = content or {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected KEY: VALUE pairs, but got {content!r}.")
    keys = {name: value for name, value in content.items() if name[:1].isupper()}
    more = {name: value for name, value in content.items() if name not in keys}
    _require_known(more, _ROW_FIELDS, where)
    return Row(opts=_words(keys), **more)


def _words(keys: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(word for key, value in keys.items() for word in (key, str(value)))


def _require_known(content: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = [name for name in content if name not in known]
    if unknown:
        raise ValueError(
            f"{where}: there is no field {unknown[0]}; there are {', '.join(sorted(known))}."
        )
