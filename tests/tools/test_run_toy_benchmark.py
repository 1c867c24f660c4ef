from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from balms_seg.engine import load_config
from balms_seg.evaluation import write_results
from balms_seg.experiments.processes import Process, start_process
from balms_seg.methods import METHODS
from balms_seg.model_zoo import get_config_file

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "run_toy_benchmark.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("run_toy_benchmark", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _write_run(folder: Path, ap: float) -> None:
    values = {"AP": ap, "APr": ap - 10, "APc": ap, "APf": ap + 10}
    write_results(
        folder / "results.json",
        metrics={"glyphs_val": {"segm": values, "bbox": values}},
        commit="c0ffee",
        time_seconds=1.0,
        versions={},
    )


def test_tables_give_means_ranges_and_paired_differences(tool: ModuleType, tmp_path: Path) -> None:
    table = tool.TABLES["methods"]
    base = {"softmax": 20.0, "balanced_softmax": 22.0, "sigmoid": 19.0, "balanced_sigmoid": 21.0}
    for run in table.runs():
        # seeds shift both sides alike; the gap grows by 1 a seed
        gap = run.seed if run.row == "balanced_softmax" else 0
        _write_run(tmp_path / "runs" / run.name, base[run.row] + 5 * run.seed + gap)
    tool.collect("methods", table, tmp_path / "runs", tmp_path / "results")
    content = json.loads((tmp_path / "results" / "toy_methods.json").read_text())
    softmax = next(row for row in content["rows"] if row["row"] == "softmax")
    spread = softmax["segm/AP"]
    assert (spread["mean"], spread["min"], spread["max"]) == (30.0, 20.0, 40.0)
    assert spread["standard_deviation"] == pytest.approx(62.5**0.5)
    pair = content["paired_differences"][0]
    assert (pair["left"], pair["right"], pair["seeds"]) == ("balanced_softmax", "softmax", 5)
    assert pair["segm/APr"]["mean"] == pytest.approx(4.0)
    assert pair["segm/APr"]["standard_error"] == pytest.approx(0.5**0.5)
    text = (tmp_path / "results" / "toy_methods.md").read_text()
    assert "| 30.0 ± 7.9 (20.0 to 40.0) |" in text
    assert "| +4.0 ± 0.7 (+2.0 to +6.0) |" in text  # 2.776 errors of four degrees of freedom


def test_rows_without_a_run_are_left_out(tool: ModuleType, tmp_path: Path) -> None:
    table = tool.TABLES["methods"]
    _write_run(tmp_path / "runs" / table.runs()[0].name, 20.0)
    tool.collect("methods", table, tmp_path / "runs", tmp_path / "results")
    content = json.loads((tmp_path / "results" / "toy_methods.json").read_text())
    assert [row["row"] for row in content["rows"]] == ["softmax"]


def test_every_run_of_a_table_has_its_own_folder(tool: ModuleType) -> None:
    for table in tool.TABLES.values():
        names = [run.name for run in table.runs()]
        assert len(set(names)) == len(names) == table.seeds * len(table.rows)


def test_a_stage_is_trained_once_a_seed_and_before_what_starts_from_it(
    tool: ModuleType, tmp_path: Path
) -> None:
    commands = []

    def train(command: list[str], *how: Any) -> Process:
        settings = dict(zip(command[7::2], command[8::2], strict=True))
        weights = settings.get("MODEL.WEIGHTS")
        assert weights is None or Path(weights).is_file()
        folder = Path(settings["OUTPUT_DIR"])
        _write_run(folder, 20.0)
        (folder / "model_final.pth").touch()
        commands.append((folder.name, weights))
        return start_process(["true"], *how)

    table = tool.TABLES["balms"]
    tool.train_all(table.runs(), tmp_path, tool._command, places=tool.places(2), start=train)
    names = [name for name, _ in commands]
    features = {f"softmax_1000_seed{seed}" for seed in range(table.seeds)}
    assert len(set(names)) == len(names) == len(table.runs()) + len(features)
    assert features < set(names)
    started = {Path(weights).parent.name for _, weights in commands if weights}
    assert started == features
    for run in table.runs():
        if run.after:
            assert run.seed == run.after.seed


def test_a_stage_with_a_seed_of_its_own_serves_all_runs(tool: ModuleType) -> None:
    runs = tool.TABLES["lengths"].runs()
    assert len({run.after.name for run in runs}) == 1
    assert {(run.seed, run.num_iters) for run in runs} == {
        (seed, length) for seed in range(3) for length in (300, 1000, 3000)
    }


def test_the_zoo_has_every_method_in_a_configuration_that_holds(tool: ModuleType) -> None:
    """At LVIS's defaults some would be refused, or have no class that is rare."""
    tables = sys.modules["toy_benchmark_tables"]
    rows = tool.TABLES["zoo"].rows
    assert [row.partition(",")[0] for row in rows] == list(METHODS)
    on_collages = tables._zoo_rows(METHODS, tables._FOR_COLLAGES, config="collages")
    for recipe in (*rows.values(), *on_collages.values()):
        cfg = load_config(get_config_file(f"toy/{recipe.config}.yaml"), recipe.overrides)
        assert recipe.overrides[1] == cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER


def test_collages_are_made_of_photographs_where_a_table_asks_for_them(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tool.TABLES["collages"].runs()
    assert not {run.name for run in runs} & {run.name for run in tool.TABLES["zoo"].runs()}
    monkeypatch.setattr(tool, "make_glyph_dataset", lambda *_: pytest.fail("no glyphs needed"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 is not in .*DETECTRON2_DATASETS"):
        tool.make_data({run.config for run in runs})


def test_published_runs_are_kept_and_only_missing_ones_are_trained(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tool.TABLES["methods"]
    results, trained = tmp_path / "results", []
    for run in table.runs():
        if run.seed < 4:
            _write_run(tmp_path / "first" / run.name, 20.0 + run.seed)
    tool.collect("methods", table, tmp_path / "first", results)
    monkeypatch.setattr(tool, "make_glyph_dataset", lambda *_: None)
    monkeypatch.setattr(tool, "train_all", lambda runs, *_, **__: trained.extend(runs))
    argv = ["tool", "--table", "methods", "--output", str(tmp_path / "second")]
    monkeypatch.setattr(sys, "argv", [*argv, "--results", str(results)])
    tool.main()
    assert {run.seed for run in trained} == {4}
    assert len(trained) == len(table.rows)
    content = json.loads((results / "toy_methods.json").read_text())
    assert [row["seeds"] for row in content["rows"]] == [4] * len(table.rows)
