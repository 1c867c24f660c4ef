"""Writes what an evaluation found: results.json, and per class a csv for each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .evaluation_set import EvaluationSet
from .lvis_ap import LVISResult
from .results import write_results
from .table import write_per_class_csv


def in_percent(results: Mapping[str, LVISResult]) -> dict[str, dict[str, float]]:
    """Metrics in percent per task."""
    return {
        task: {name: 100 * value for name, value in result.metrics.items()}
        for task, result in results.items()
    }


def write_evaluation(
    output_dir: str | Path,
    evaluation_set: EvaluationSet,
    results: Mapping[str, LVISResult],
    **extra: Any,
) -> None:
    """Write results.json and per_class_{task}.csv.

    Args:
        output_dir: made where missing.
        evaluation_set: what was evaluated on.
        results: per task.
        **extra: further entries of results.json.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    class_ids = {id_: i for i, id_ in enumerate(evaluation_set.ground_truth.category_ids)}
    for task, result in results.items():
        write_per_class_csv(
            folder / f"per_class_{task}.csv",
            result,
            class_ids=class_ids,
            train_image_counts=evaluation_set.training.images,
        )
    sizes = next((result.group_sizes for result in results.values()), None)
    write_results(
        folder / "results.json",
        metrics={evaluation_set.name: in_percent(results)},
        group_sizes={evaluation_set.name: sizes},
        **extra,
    )
