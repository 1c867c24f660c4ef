"""The numbers of a table against those computed by hand, and the files it is in."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from balms_seg.evaluation import write_results
from balms_seg.experiments.cost import Cost, write_cost
from balms_seg.experiments.records import paired_difference, read_record, summarise
from balms_seg.experiments.table import (
    build_table,
    published_runs,
    write_table,
)

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = [
    path
    for path in sorted((ROOT / "docs" / "results").glob("*.json"))
    if "paired_differences" in path.read_text()
]
OLD = {0: 50.0, 1: 52.0, 2: 57.0}
NEW = {0: 54.0, 1: 57.0, 2: 63.0}  # 4, 5 and 6 more


def records() -> list[dict]:
    return [
        {"row": row, "seed": seed, "top1": value, "ece": 7.0, "commit": "c0ffee"}
        for row, values in (("old", OLD), ("new", NEW))
        for seed, value in values.items()
    ]


def test_means_and_spreads_are_those_computed_by_hand() -> None:
    old = summarise(records(), ["top1"])[0]
    assert (old["row"], old["seeds"]) == ("old", 3)
    assert old["top1"] == {
        "mean": 53.0,
        "standard_deviation": pytest.approx(13**0.5),  # (9 + 1 + 16) / 2
        "min": 50.0,
        "max": 57.0,
    }


@pytest.mark.parametrize(
    ("num_seeds", "quantile"),
    # 97.5 % quantiles of Student's t, from tables
    [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262), (13, 2.179)],
)
def test_an_interval_is_students(num_seeds: int, quantile: float) -> None:
    pairs = [
        {"row": row, "seed": seed, "top1": 50.0 + (row == "new") * (3 + seed)}
        for row in ("new", "old")
        for seed in range(num_seeds)
    ]
    gap = paired_difference(pairs, ["top1"], "new", "old")["top1"]
    mean = 3 + (num_seeds - 1) / 2
    error = math.sqrt(num_seeds * (num_seeds + 1) / 12 / num_seeds)  # of 0, ..., n - 1
    assert gap["mean"] == pytest.approx(mean)
    assert gap["standard_error"] == pytest.approx(error)
    expected = [mean - quantile * error, mean + quantile * error]
    assert gap["interval"] == pytest.approx(expected, rel=2e-3)


def test_only_seeds_that_both_have_are_paired() -> None:
    few = [record for record in records() if (record["row"], record["seed"]) != ("new", 1)]
    pair = paired_difference(few, ["top1"], "new", "old")
    assert pair["seeds"] == 2
    assert pair["top1"]["mean"] == 5.0  # of 4 and 6


def test_a_table_is_in_three_files(tmp_path: Path) -> None:
    table = build_table(
        [*records(), {"row": "new", "seed": 3, "top1": 58.0, "commit": "c0ffee"}],
        ["top1", "ece"],
        [("new", "old")],
        title="Two",
        command="do it",
        hardware="an abacus",
    )
    text = write_table(table, tmp_path / "t", note="In words.", cited=("paper", {"old": 60.0}))
    assert text == (tmp_path / "t.md").read_text()
    assert "In words. Mean over seeds" in text
    assert "Command: `do it`. Commit c0ffee. Hardware: an abacus." in text
    assert "| row | seeds | top1 | paper |" in text  # one run has no ece
    assert "| old | 3 | 53.0 ± 3.6 (50.0 to 57.0) | 60 |" in text
    assert "| new - old | 3 | +5.0 ± 0.6 (+2.5 to +7.5) | - |" in text
    assert json.loads((tmp_path / "t.json").read_text()) == table
    with (tmp_path / "t.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[-1] == {"row": "new", "seed": "3", "top1": "58.0"}
    assert len(lines) == 7
    assert published_runs(tmp_path / "t.json")["new", 2]["top1"] == 63.0


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("segm/AP", (0.0, 0.9), True),
        ("val: bbox/AP", (0.0, 1.1), False),
        ("segm/APr", (0.0, 0.0), False),
        ("top1", (0.0, 0.0), False),
    ],
)
def test_a_table_without_any_ap_compares_nothing(
    column: str, values: tuple[float, ...], expected: bool, tmp_path: Path
) -> None:
    rows = [{"row": str(one), "seed": 0, column: one, "commit": "c0ffee"} for one in values]
    table = build_table(rows, [column], [], title="T", command="do it", hardware="an abacus")
    text = write_table(table, tmp_path / "t", note="In words.")
    assert ("Nothing was learnt: no AP reaches 1" in text) == expected


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_tables_are_read(path: Path) -> None:
    """And their means are those of their runs."""
    content, runs = json.loads(path.read_text()), published_runs(path)
    assert len(runs) == len(content["runs"])
    columns = [name for name in content["rows"][0] if name not in ("row", "seeds")]
    again = summarise(list(runs.values()), columns)
    for column in columns:
        means = [row[column]["mean"] for row in content["rows"]]
        assert means == pytest.approx([row[column]["mean"] for row in again])


def write_run(folder: Path, metrics: dict) -> None:
    write_results(
        folder / "results.json",
        metrics=metrics,
        commit="c0ffee",
        time_seconds=9.0,
        iteration=10,
        versions={},
    )


def test_records_of_boxes_of_images_and_of_several_sets(tmp_path: Path) -> None:
    boxes = {"bbox": {"AP": 20.0, "APr": None, "APs": 3.0}, "segm": {"AP": 18.0}}
    write_run(tmp_path / "a", {"val": boxes})
    record = read_record(tmp_path / "a", "softmax", 0)
    assert record == {
        "row": "softmax",
        "seed": 0,
        "segm/AP": 18.0,
        "bbox/AP": 20.0,
        "iteration": 10,
        "commit": "c0ffee",
        "versions": {},
        "time_seconds": 9.0,
    }
    write_run(tmp_path / "b", {"one": boxes, "two": {"classification": {"top1": 70.0, "x": 1.0}}})
    write_cost(tmp_path / "b", Cost(11.0, 8.0))
    record = read_record(tmp_path / "b", "softmax", 0)
    assert record["one: bbox/AP"] == 20.0
    assert record["two: top1"] == 70.0
    assert (record["time_seconds"], record["processor_seconds"]) == (11.0, 8.0)
    assert read_record(tmp_path / "b", "softmax", 0, "two")["top1"] == 70.0
