"""Means, spreads and paired differences of the runs of a table."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]  # "row", "seed", and the columns

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom; then the normal's.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


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
            mean, error = statistics.fmean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
            half = error * (_T_QUANTILES[len(gaps) - 2] if len(gaps) < 11 else 1.96)
            interval = [mean - half, mean + half]
            result[column] = {"mean": mean, "standard_error": error, "interval": interval}
    return result


def write_csv(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    """One line a run: row, seed and the columns."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", "seed", *columns], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records)


def hardware(*, gpu: bool = False) -> str:
    """What this machine computes with, in words."""
    if gpu:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            return f"one {found.stdout.splitlines()[0].strip()}"
        except (OSError, subprocess.SubprocessError, IndexError):
            return "one GPU of unknown name"
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(
            line.split(":")[1].strip() for line in text.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, one thread a run"
