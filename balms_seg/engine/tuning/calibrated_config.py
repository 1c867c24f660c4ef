"""A tuned calibration as a configuration that evaluation and use take as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from balms_seg.data.instances.registration import make_paths_absolute
from balms_seg.engine.config_files import find_config_file

if TYPE_CHECKING:
    from detectron2.config import CfgNode

BASE_KEY = "_BASE_"  # of detectron2's configurations; a run's own config.yaml has none


def write_calibrated_config(
    path: Path,
    cfg: CfgNode,
    calibration: Mapping[str, Any],
    *,
    config_file: str,
    overrides: Sequence[str] = (),
    comments: Sequence[str] = (),
) -> str:
    """Write a configuration that builds on another one, calibrates it and lacks nothing.

    Besides the calibration it has what the command line said and the weights, so that
    `balms-seg train --eval-only --config-file` and `balms-seg predict` need no more, and an
    OUTPUT_DIR of its own, so that the run's own results stay.

    Args:
        path: yaml to write; its folder is made where missing.
        cfg: the configuration that was calibrated, the overrides in it.
        calibration: keys below MODEL.
        config_file: the file that it builds on.
        overrides: KEY VALUE pairs of the command line.
        comments: lines at its top.

    Returns:
        Its OUTPUT_DIR, where an evaluation of it goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Path(find_config_file(config_file)).resolve()
    whole = cfg.clone()
    whole.defrost()
    make_paths_absolute(whole)
    whole.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}_calibrated"
    whole.MODEL.STAGE_ONE_CONFIG = ""  # the weights are those of this stage
    if "://" not in cfg.MODEL.WEIGHTS:
        whole.MODEL.WEIGHTS = os.path.abspath(cfg.MODEL.WEIGHTS)
    content: dict[str, Any] = {BASE_KEY: os.path.relpath(base, path.parent.resolve())}
    said = [*overrides[::2], "MODEL.WEIGHTS", "MODEL.STAGE_ONE_CONFIG", "OUTPUT_DIR"]
    for key in dict.fromkeys(said):
        _set(content, key, _plain(_value(whole, key)))
    content["MODEL"] = _merged(content["MODEL"], calibration)
    text = "".join(f"# {line}\n" for line in comments)
    path.write_text(
        text + yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    return whole.OUTPUT_DIR


def is_calibrated_config(path: Path) -> bool:
    """Whether `write_calibrated_config` has written a configuration, whatever became of it since.

    Args:
        path: of a configuration that can be read.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = content.get("MODEL") or {}
    parts = [model.get(name) or {} for name in ("ROI_BOX_HEAD", "IMAGE_CLASSIFIER")]
    return BASE_KEY in content and any("CALIBRATION" in part for part in parts)


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        content = content.setdefault(part, {})
    content[last] = value


def _plain(value: Any) -> Any:
    """With lists for tuples, which yaml does not know."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second one's values where they differ."""
    merged = dict(one)
    for key, value in other.items():
        is_nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if is_nested else value
    return merged
