"""`compare-methods`: what it refuses before it trains, and what it leaves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import image_sets
import pytest
from made_up_data import SMALL, words, write_data_sets

from balms_seg.commands import command_line
from balms_seg.experiments.comparison_checks import check_comparison, keep_settings
from balms_seg.experiments.method_comparison import Comparison
from balms_seg.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
BREAKS = """
from balms_seg.methods import METHODS, register

@register("breaks")
class Breaks(METHODS["softmax"]):
    def loss(self, logits, targets, context):
        raise ValueError("this method breaks")
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings of runs of a tiny image classifier."""
    data = image_sets.write_image_sets(tmp_path_factory.mktemp("images"))
    settings = {**image_sets.SMALL, **data, "SOLVER.CHECKPOINT_PERIOD": 1}
    del settings["SEED"]
    return tuple(words(settings))


def comparison(images: tuple[str, ...], *methods: str, **more: object) -> Comparison:
    return Comparison("classification/base.yaml", methods, 2, images, **more)


def test_an_unknown_method_is_told_before_any_data_are_read(tmp_path: Path) -> None:
    call = ["compare-methods", "--config-file", "toy/base.yaml", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="did you mean balanced_softmax"):
        command_line.main([*call, "--methods", "softmax", "balanced_sofmax"])
    with pytest.raises(SystemExit, match="keys that all runs share, but got SEED"):
        command_line.main([*call, "--methods", "softmax", "--seeds", "1", "SEED", "2"])
    assert not (tmp_path / "out").exists()


def test_all_methods_that_go_with_the_data_are_compared(
    images: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, cfg, left_out = check_comparison(comparison(images, "sigmoid", "all"))
    assert cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == image_sets.NUM_CLASSES
    assert found.methods[0] == "sigmoid"
    assert len(set(found.methods)) == len(found.methods)
    reasons = dict(reason.split(": ", 1) for reason in left_out)
    assert set(found.methods) | reasons.keys() == set(METHODS)
    assert "MODEL.METHODS.FEDERATED.CLASSES" in reasons["federated"]
    assert "MODEL.METHODS.BAGS.BOUNDS" in reasons["bags"]
    assert {run.seed for run in found.plan(cfg).runs()} == {0, 1}
    assert not list(tmp_path.iterdir())  # a check leaves nothing


def test_a_named_method_that_does_not_go_with_the_data_is_an_error(images: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"(?s)^federated: .*MODEL.METHODS.FEDERATED.CLASSES"):
        check_comparison(comparison(images, "softmax", "federated"))


def test_broken_data_are_told_once_and_first(tmp_path: Path) -> None:
    data = write_data_sets(tmp_path)
    next((tmp_path / "train").glob("*.png")).unlink()
    boxes = Comparison("toy/base.yaml", ("softmax",), 1, tuple(words({**SMALL, **data})))
    with pytest.raises(ValueError, match=r"1\.png|2\.png|3\.png|4\.png|5\.png|6\.png"):
        check_comparison(boxes)


def test_a_folder_is_of_one_setting(images: tuple[str, ...], tmp_path: Path) -> None:
    keep_settings(comparison(images, "softmax"), tmp_path)
    keep_settings(comparison(images, "focal", "softmax"), tmp_path)
    longer = (*images, "SOLVER.MAX_ITER", "9")
    with pytest.raises(ValueError, match=r"SOLVER.MAX_ITER was 2 and is 9.* another --output"):
        keep_settings(comparison(longer, "softmax"), tmp_path)


def test_the_command_of_a_table_makes_it_again(images: tuple[str, ...], tmp_path: Path) -> None:
    wanted = comparison(("SOLVER.STEPS", "(3, 4)"), "softmax", "focal", imports=("mine",))
    assert wanted.command() == (
        "balms-seg compare-methods --config-file classification/base.yaml --import mine "
        "--methods softmax focal --seeds 2 SOLVER.STEPS '(3, 4)'"
    )


def compare(folder: Path, *rest: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "balms_seg", "compare-methods", "--num-gpus", "0"]
    return subprocess.run(
        [*command, "--output", "out", *rest],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_methods_and_seeds_are_trained_resumed_and_compared(
    images: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "breaking.py").write_text(BREAKS)
    call = ["--config-file", "classification/base.yaml", "--import", "breaking", "--jobs", "2"]
    call += ["--methods", "softmax", "balanced_softmax", "breaks", "--seeds", "2", *images]
    first = compare(tmp_path, *call)
    assert first.returncode == 1, first.stderr
    assert "6 runs, 0 of them finished; 2 side by side, a CPU core each" in first.stdout
    assert first.stdout.count(": done in ") == 4
    assert first.stdout.count("breaks: FAILED") + first.stdout.count("FAILED (exit") == 2
    assert "this method breaks" in first.stdout
    assert "2 of 6 runs failed: breaks_seed" in first.stderr
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [(row["row"], row["seeds"]) for row in table["rows"]] == [
        ("softmax", 2),
        ("balanced_softmax", 2),
    ]
    pair = table["paired_differences"][0]
    assert (pair["left"], pair["right"], pair["seeds"]) == ("balanced_softmax", "softmax", 2)
    for run in table["runs"]:
        assert 0 < run["processor_seconds"] <= 2 * run["time_seconds"]
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)].count("softmax") == 2

    # One run has lost its results; another was ended after its first iteration.
    (tmp_path / "out" / "softmax_seed0" / "results.json").unlink()
    ended = tmp_path / "out" / "balanced_softmax_seed1"
    kept = {path: path.read_bytes() for path in ended.glob("model_0*.pth")}
    shutil.rmtree(ended)
    ended.mkdir()
    path, content = min(kept.items())
    path.write_bytes(content)
    (ended / "last_checkpoint").write_text(path.name)
    without = [word for word in call if word != "breaks"]
    second = compare(tmp_path, *without)
    assert second.returncode == 0, second.stderr
    assert "4 runs, 2 of them finished" in second.stdout
    assert second.stdout.count(": done in ") == 2
    assert f"{path.name}" in (ended / "log.txt").read_text()
    again = json.loads((tmp_path / "out" / "table.json").read_text())
    for before, after in zip(table["runs"], again["runs"], strict=True):
        assert {key: before[key] for key in ("row", "seed", "top1", "ece")} == {
            key: after[key] for key in ("row", "seed", "top1", "ece")
        }


@pytest.mark.slow
def test_detectors_have_a_column_for_each_task_and_group(tmp_path: Path) -> None:
    settings = words({**SMALL, **write_data_sets(tmp_path / "data")})
    call = ["--config-file", "toy/base.yaml", "--methods", "softmax", "sigmoid", "--seeds", "1"]
    ended = compare(tmp_path, *call, "--minutes", "0", *settings)
    assert ended.returncode == 75
    assert "2 of 2 runs are left" in ended.stdout
    done = compare(tmp_path, *call, *settings)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert {"segm/AP", "bbox/AP", "bbox/APr", "processor_seconds"} <= table["rows"][0].keys()
    assert "| row | seeds | segm/AP |" in done.stdout
    assert "Nothing was learnt: no AP reaches 1" in done.stdout
