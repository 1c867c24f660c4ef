"""The tables of frozen features: which images their runs train and are judged on, and what runs."""

from __future__ import annotations

import json
import subprocess
import sys
from ast import literal_eval
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from balms_seg.engine import load_config
from balms_seg.experiments.cost import read_cost
from balms_seg.experiments.machine import places
from balms_seg.experiments.runs import train_all
from balms_seg.model_zoo import get_config_file

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"
sys.path.insert(0, str(TOOLS))

import feature_tables  # noqa: E402
import forked_runs  # noqa: E402
import run_cifar_table as tool  # noqa: E402
import table_figure  # noqa: E402
from feature_tables import FEATURE_TABLES, FeatureRow, FeatureTable  # noqa: E402

PER_CLASS, RHO = 40, 10


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up features of ten classes, as wide as the trunk's."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), PER_CLASS)
    for part in ("train", "test"):
        np.savez(
            folder / f"cifar10_{part}.npz",
            features=rng.normal(size=(len(labels), 1280)).astype(np.float32) + labels[:, None],
            labels=labels,
            keys=[f"{part}/{i}" for i in range(len(labels))],
            class_names=[f"class {i}" for i in range(10)],
        )
    return folder


def images_of(run: tool.Run, features: Path) -> dict[str, dict[str, int]]:
    """Data set -> key -> label, of the lists that a run reads."""
    _, value = feature_tables.data_overrides(run, features)
    found = {}
    for name, source, _ in literal_eval(value):
        if source.endswith(".txt"):
            lines = [line for line in Path(source).read_text().splitlines() if line[0] != "#"]
            found[name] = {key: int(label) for key, label in map(str.split, lines)}
    return found


def test_subsets_follow_the_seed_and_settings_are_chosen_on_other_images(features: Path) -> None:
    table = FeatureTable("", RHO, {"a": FeatureRow(), "b": FeatureRow(is_parted=True)}, seeds=2)
    whole, parted, other, _ = (images_of(run, features) for run in table.runs())
    counts = Counter(whole["features_train"].values())
    assert (counts[0], counts[9], len(whole)) == (PER_CLASS, PER_CLASS // RHO, 1)
    assert whole["features_train"].keys() != other["features_train"].keys()
    rest, meta = parted["features_train"], parted["features_meta"]
    assert rest | meta == whole["features_train"]
    assert Counter(meta.values())[0] == PER_CLASS // 5
    assert set(meta.values()) == set(range(10))
    tuning = FeatureTable("", RHO, {"a": FeatureRow()}, held_out=True, seeds=2)
    held = [images_of(run, features) for run in tuning.runs()]
    assert held[0]["features_test"] == held[1]["features_test"]
    assert Counter(held[0]["features_test"].values()) == dict.fromkeys(range(10), PER_CLASS // 10)
    for own in held:
        assert not own["features_test"].keys() & own["features_train"].keys()


# In a process of its own: forks of one that has computed with torch may hang.
TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import run_cifar_table as tool
from feature_tables import FEATURE_TABLES, FeatureRow, FeatureTable

rows = {
    "softmax": FeatureRow(("SOLVER.MAX_ITER", "3")),
    "tau": FeatureRow(("MODEL.INIT_CLASSIFIER", "tau_norm"), after="softmax", eval_only=True),
}
table = FeatureTable("Made up", 10, rows, (("tau", "softmax"),), seeds=2)
tool.ALL_TABLES["made_up"] = FEATURE_TABLES["made_up"] = table
tool.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_runs_train_in_turn_and_say_what_they_cost(features: Path, tmp_path: Path) -> None:
    folders = ["--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    names = ["--cpu", "--jobs", "1", "--table", "made_up", "--features", str(features)]
    subprocess.run([sys.executable, "-c", TRAIN, str(TOOLS), *names, *folders], check=True)
    content = json.loads((tmp_path / "results" / "cifar_made_up.json").read_text())
    assert [(r["row"], r["seed"]) for r in content["runs"]] == [
        (name, seed) for seed in range(2) for name in ("softmax", "tau")
    ]
    for softmax, tau in zip(content["runs"][::2], content["runs"][1::2], strict=True):
        assert 0 < softmax["processor_seconds"] < tau["processor_seconds"]
    assert content["paired_differences"][0]["seeds"] == 2
    text = (tmp_path / "results" / "cifar_made_up.md").read_text()
    assert "| processor seconds |" in text
    assert "rho 10, seed that of the run." in text


def test_forks_run_scripts_to_their_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\nprint(sys.argv[1:])\n"
        'results = \'{"schema_version": 1, "metrics": {}}\'\n'
        "if sys.argv[1] == 'good':\n"
        "    pathlib.Path(sys.argv[2], 'results.json').write_text(results)\n"
        "else:\n    sys.exit('a reason')\n"
    )
    runs = [SimpleNamespace(name=name, after=None) for name in ("good", "bad")]
    failed = train_all(
        runs,
        tmp_path,
        lambda run, output: [sys.executable, str(script), run.name, str(output / run.name)],
        places=places(1),
        start=forked_runs.start_fork,
    )
    assert failed == ["bad"]
    printed = capsys.readouterr().out
    assert "[1/2] good: done" in printed
    assert "bad: FAILED (exit status 1)" in printed
    assert printed.endswith("a reason\n")
    assert (tmp_path / "good" / "stdout.txt").read_text().startswith("['good', ")
    assert (tmp_path / "bad" / "stdout.txt").read_text().endswith("a reason\n")
    cost = read_cost(tmp_path / "good")
    assert cost.processor_seconds <= cost.seconds


def test_a_figure_has_a_pair_a_line_and_skips_those_of_one_seed(tmp_path: Path) -> None:
    gap = {"mean": 1.0, "standard_error": 0.5, "interval": [-0.5, 2.5]}
    pairs = [{"left": "a", "right": "b", "top1": gap}, {"left": "c", "right": "b"}]
    table = {"title": "Made up", "paired_differences": pairs}
    assert table_figure.differences(table, "top1") == [("a - b", 1.0, -0.5, 2.5)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    table_figure.main([str(path), str(path), "--output", str(tmp_path / "figure.png")])
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 500


@pytest.mark.parametrize("name", FEATURE_TABLES)
def test_every_row_resolves_and_no_two_runs_are_the_same(name: str) -> None:
    table = FEATURE_TABLES[name]
    runs = table.runs()
    assert len({run.name for run in runs}) == len(runs) == table.seeds * len(table.rows)
    assert {row for pair in table.pairs for row in pair} <= set(table.rows)
    for run in runs[: len(table.rows)]:
        cfg = load_config(get_config_file(f"classification/{run.config}"), run.overrides)
        assert (cfg.META.DATASET == "features_meta") <= ("parted" in run.data)
        assert (cfg.MODEL.INIT_CLASSIFIER in ("lws", "tau_norm")) <= (run.after is not None)
