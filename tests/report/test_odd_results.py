"""Result folders with odd files: report and compare say so in one line, whatever is in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from report_runs import DATASET, write_run

from balms_seg.commands.command_line import run_command

TEXTS = {
    "empty": b"",
    "cut off": b"{",
    "list": b"[]",
    "null": b"null",
    "number": b"3",
    "not text": b"\xff\xfe\x00",
    "deep": b'{"a":' * 2000,
    "no entries": b'{"schema_version": 1}',
    "classes": b'{"schema_version": 1, "classes": [3]}',
    "rows": b'{"schema_version": 1, "classes": [{"name": "a"}]}',
    "groups": b'{"schema_version": 1, "groups": {"all": 3}}',
}
FILES = (
    *("results.json", "metrics.json", "meta_rates.csv", "thresholds.csv"),
    *(f"inference/{name}_segm.json" for name in ("per_class", "calibration")),
    *("inference/matches_segm.npz", "inference/lvis_instances_results.json"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def one_line_or_none(*words: str) -> None:
    """A command ends well, or in one line."""
    said = ""
    try:
        run_command(words[0], [*words[1:], "--resamples", "2"])
    except SystemExit as error:
        said = str(error.code)
    assert len(said) < 1000
    assert "\n" not in said.strip()


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_file_with_odd_content_is_told_in_a_line(
    file: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    for name, content in TEXTS.items():
        odd = tmp_path / name
        shutil.copytree(run, odd)
        (odd / file).write_bytes(content)
        one_line_or_none("report", str(odd))
        one_line_or_none("compare", str(run), str(odd))


def test_a_metric_that_is_no_number_is_named_with_its_file(run: Path, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(run, tmp_path / "odd"))
    record = json.loads((odd / "results.json").read_text())
    record["metrics"][DATASET]["segm"]["AP"] = "33.1"
    (odd / "results.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="numbers as metrics in .*results.json, but 'AP' is a str"):
        run_command("report", [str(odd)])


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {DATASET: 3}},
        {"metrics": {DATASET: {"segm": 3}}},
        {"metrics": {DATASET: {"segm": {"AP": "x"}}}},
        {"group_sizes": 4},
        {"evaluations": [1]},
        {"config": "a: [b"},
        {"config": "DATASETS: 3"},
        {"detections": 7},
        {"seed": [], "iteration": {}},
    ],
)
def test_a_record_with_odd_entries_is_told_in_a_line(
    change: dict, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    odd = Path(shutil.copytree(run, tmp_path / "odd"))
    record = json.loads((odd / "results.json").read_text()) | change
    (odd / "results.json").write_text(json.dumps(record))
    (odd / "inference" / "lvis_instances_results.json").unlink()
    one_line_or_none("report", str(odd))
    one_line_or_none("compare", str(run), str(odd))
