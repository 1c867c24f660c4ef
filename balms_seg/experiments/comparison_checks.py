"""What can be known to be wrong with a comparison of methods before the first of its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from balms_seg.config.meta_learning import check_meta_training
from balms_seg.durable_files import write_whole
from balms_seg.engine import load_config
from balms_seg.engine.batch_size import scaled_to
from balms_seg.engine.required_weights import require_weights
from balms_seg.engine.run_data import DataSets, RunData
from balms_seg.engine.settled_settings import settle_settings
from balms_seg.experiments.method_comparison import METHOD_KEYS, Comparison
from balms_seg.methods import METHODS
from balms_seg.methods.registry import build_method, find_method

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics

ALL = "all"
SETTINGS_FILE = "settings.yaml"


def check_comparison(wanted: Comparison) -> tuple[Comparison, CfgNode, list[str]]:
    """Check configuration, data and methods as `balms-seg train` would, once.

    Args:
        wanted: may have "all" among its methods, for those not named that go with the data.

    Returns:
        The comparison of the methods that can be trained, the configuration as the data and one
        process settle it, and why which other methods are left out.

    Raises:
        ValueError: a method that is named does not exist or does not go with the data, or the
            configuration or the data cannot be used.
    """
    cfg = load_config(wanted.config_file, wanted.overrides)
    named = [name for name in wanted.methods if name != ALL]
    for name in named:
        find_method(name)
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name the set to compare the methods on.")
    statistics = _read_data(cfg, wanted)
    names, left_out = [], []
    for name in dict.fromkeys(n for w in wanted.methods for n in (METHODS if w == ALL else [w])):
        try:
            _check_method(wanted, name, statistics)
            names.append(name)
        except ValueError as error:
            if name in named:
                raise ValueError(f"{name}: {error}") from error
            left_out.append(f"{name}: {error}")
    return replace(wanted, methods=tuple(names)), scaled_to(cfg, 1), left_out


def _read_data(cfg: CfgNode, wanted: Comparison) -> ClassStatistics:
    sets = DataSets()
    settle_settings(cfg, sets, training=True)
    require_weights(cfg, resume=False, eval_only=False, num_gpus=wanted.num_gpus)
    with TemporaryDirectory() as cfg.OUTPUT_DIR:  # which is tried, and is no run's own
        return RunData(cfg, training=True, sets=sets).training_set.statistics


def _check_method(wanted: Comparison, name: str, statistics: ClassStatistics) -> None:
    cfg, of_images = wanted.load(name), wanted.of_images
    check_meta_training(cfg, of_images=of_images)
    nodes, num_classes = cfg.MODEL.METHODS, statistics.num_classes
    build_method(nodes, name, num_classes, has_background=not of_images).prepare(statistics)


def keep_settings(wanted: Comparison, output: Path) -> None:
    """Stop where a folder has runs of other settings; else keep there what these are.

    Raises:
        ValueError: names what differs.
    """
    cfg = load_config(wanted.config_file, wanted.overrides)
    ours = _flat(yaml.safe_load(cfg.dump()))
    for key in (*METHOD_KEYS.values(), "OUTPUT_DIR", "SEED"):
        del ours[key]
    path = output / SETTINGS_FILE
    if path.is_file():
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
        changed = [key for key in ours if key in theirs and ours[key] != theirs[key]]
        if changed:
            told = "; ".join(f"{k} was {theirs[k]!r} and is {ours[k]!r}" for k in changed[:4])
            raise ValueError(
                f"{output} holds runs of other settings: {told}. Set these back, or give another "
                "--output."
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(yaml.safe_dump(ours).encode()))


def _flat(node: Any, before: str = "") -> dict[str, Any]:
    """Values by keys such as SOLVER.MAX_ITER."""
    if not isinstance(node, dict):
        return {before: node}
    parts = [_flat(value, f"{before}.{key}" if before else key) for key, value in node.items()]
    return {key: value for part in parts for key, value in part.items()}
