"""What finished runs say, and means, spreads and paired differences over their seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balms_seg.evaluation.output.results_file import read_results
from balms_seg.evaluation.uncertainty.seed_differences import mean_difference
from balms_seg.experiments.cost import read_cost
from balms_seg.experiments.runs import RESULTS_FILE

Record = Mapping[str, Any]  # "row", "seed", and the columns

BOX_COLUMNS = tuple(f"{t}/{m}" for t in ("segm", "bbox") for m in ("AP", "APr", "APc", "APf"))
IMAGE_COLUMNS = ("top1", "top1-many", "top1-medium", "top1-few", "ece")
_IMAGE_TASK = "classification"


def read_record(folder: Path, row: str, seed: int, data_set: str | None = None) -> dict[str, Any]:
    """What the table keeps of a finished run.

    Args:
        folder: of the run.
        row: of the table.
        seed: of the run.
        data_set: whose metrics; None: of all, those of several with their names before them.
    """
    results = read_results(folder / RESULTS_FILE)
    sets = results["metrics"] if data_set is None else {data_set: results["metrics"][data_set]}
    values = {
        f"{name}: {column}" if len(sets) > 1 else column: value
        for name, metrics in sets.items()
        for column, value in _columns(metrics).items()
    }
    record = {"row": row, "seed": seed, **values}
    record |= {key: results[key] for key in ("iteration", "commit", "versions", "time_seconds")}
    cost = read_cost(folder)
    if cost is not None:
        record |= {"time_seconds": cost.seconds, "processor_seconds": cost.processor_seconds}
    return record


def _columns(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Values by the columns' names, boxes and masks after their task; those without one go."""
    if _IMAGE_TASK in metrics:
        values = {column: metrics[_IMAGE_TASK].get(column) for column in IMAGE_COLUMNS}
    else:
        values = {
            column: metrics.get(task, {}).get(metric)
            for column in BOX_COLUMNS
            for task, metric in [column.split("/")]
        }
    return {name: value for name, value in values.items() if value is not None and value == value}


def summarise(records: Sequence[Record], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Per row: seeds, and of each column mean, standard deviation, least and greatest value."""
    rows = []
    for row in dict.fromkeys(record["row"] for record in records):
        mine = [record for record in records if record["row"] == row]
        entry: dict[str, Any] = {"row": row, "seeds": len(mine)}
        for column in columns:
            values = [record[column] for record in mine]
            entry[column] = {
                "mean": statistics.fmean(values),
                "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
            }
        rows.append(entry)
    return rows


def paired_difference(
    records: Sequence[Record], columns: Sequence[str], left: str, right: str
) -> dict[str, Any]:
    """What left has more than right over the seeds that both have, where two or more.

    Returns:
        left, right, seeds; per column mean, standard error and 95 % interval (Student's t).
    """
    by_seed = {(record["row"], record["seed"]): record for record in records}
    seeds = [s for row, s in by_seed if row == left and (right, s) in by_seed]
    result: dict[str, Any] = {"left": left, "right": right, "seeds": len(seeds)}
    for column in columns:
        gaps = [by_seed[left, s][column] - by_seed[right, s][column] for s in seeds]
        if len(gaps) > 1:
            one = mean_difference(gaps)
            result[column] = {
                "mean": one.mean,
                "standard_error": one.standard_error,
                "interval": [one.low, one.high],
            }
    return result
