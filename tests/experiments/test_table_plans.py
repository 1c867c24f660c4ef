"""Tables' files: what their rows take, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from balms_seg.experiments.table_file import check_configurations, read_plan
from balms_seg.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "tools" / "benchmarks" / "tables"
NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))
PUBLISHED = [path for path in ROOT.glob("docs/results/*.json") if path.stem in NAMES]
GOOD = """
title: Made up
note: Of nothing.
seeds: 2
config_file: toy/base.yaml
against: softmax
stages:
  features: {SOLVER.MAX_ITER: 3}
rows:
  softmax: {MODEL.ROI_BOX_HEAD.CLASSIFIER: softmax}
  focal: {after: features, MODEL.ROI_BOX_HEAD.CLASSIFIER: focal, MODEL.METHODS.FOCAL.GAMMA: 1.0}
"""


def plan_of(text: str, tmp_path: Path):  # noqa: ANN201
    path = tmp_path / "table.yaml"
    path.write_text(text)
    return read_plan(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_table_has_a_configuration_that_holds(name: str) -> None:
    """Of methods at LVIS's defaults some would be refused, or have no class that is rare."""
    plan = read_plan(TABLES / f"{name}.yaml")
    check_configurations(plan)
    names = [run.name for run in plan.runs()]
    assert len(set(names)) == len(names)


def test_runs_are_found_in_the_folders_that_they_were_begun_in() -> None:
    with (Path(__file__).parent / "run_folders.tsv").open(newline="") as file:
        begun = list(csv.reader(file, delimiter="\t"))
    assert {name for name, _, _ in begun} <= set(NAMES)
    for name in NAMES:
        plan = replace(read_plan(TABLES / f"{name}.yaml"), seeds=1, seeds_of={})
        folders = {run.row: run.name for run in plan.runs()}
        assert folders.items() >= {row: folder for n, row, folder in begun if n == name}.items()


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_runs_are_rows_of_their_table(path: Path) -> None:
    plan, content = read_plan(TABLES / f"{path.stem}.yaml"), json.loads(path.read_text())
    rows = {(run.row, run.seed) for run in plan.runs()}
    assert {(run["row"], run["seed"]) for run in content["runs"]} <= rows
    for name in ("split", "iterations", "subset"):
        assert content.get(name) == plan.about.get(name)


def test_the_zoo_has_every_method_on_glyphs_and_on_collages() -> None:
    for name in ("toy_zoo", "toy_collages"):
        plan = read_plan(TABLES / f"{name}.yaml")
        assert [row.partition(",")[0] for row in plan.rows] == list(METHODS)
        assert ("balanced_softmax", "softmax") in plan.all_pairs()
        assert len(plan.all_pairs()) >= len(METHODS) - 1


def test_seeds_come_one_by_one_and_rows_may_have_more(tmp_path: Path) -> None:
    plan = plan_of(
        GOOD.replace("seeds: 2", "seeds: 1\nfirst_seed: 5\nseeds_of: {focal: 3}"), tmp_path
    )
    runs = [(run.row, run.seed) for run in plan.runs()]
    assert runs == [("softmax", 5), ("focal", 5), ("focal", 6), ("focal", 7)]


def test_settings_reach_the_training_of_rows_and_stages(tmp_path: Path) -> None:
    plan = plan_of(GOOD + "opts: {SOLVER.STEPS: [4]}\niterations: 9\n", tmp_path)
    plan = plan.with_opts(["TEST.AUG.ENABLED", "True"])
    assert plan.note == "Of nothing. With TEST.AUG.ENABLED True."
    run = plan.runs()[-1]
    words = run.train_command(tmp_path, num_gpus=1, imports=["mine"])
    assert words[1:6] == ["-m", "balms_seg", "train", "--config-file", "toy/base.yaml"]
    assert words[6:11] == ["--num-gpus", "1", "--import", "mine", "--resume"]
    settings = dict(zip(words[11::2], words[12::2], strict=True))
    weights = settings.pop("MODEL.WEIGHTS")
    assert settings == {
        "SOLVER.MAX_ITER": "9",
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "focal",
        "MODEL.METHODS.FOCAL.GAMMA": "1.0",
        "SOLVER.STEPS": "[4]",
        "TEST.AUG.ENABLED": "True",
        "SEED": "1",
        "OUTPUT_DIR": str(
            tmp_path / "toy-base_CLASSIFIER-focal_GAMMA-1.0_STEPS-4_ENABLED-True_9_seed1"
        ),
        "MODEL.DEVICE": "cuda",  # whatever the configuration names
    }
    assert weights == str(tmp_path / run.after.name / "model_final.pth")
    assert run.after.opts == ("SOLVER.MAX_ITER", "3", "TEST.AUG.ENABLED", "True")
    assert "MODEL.DEVICE" not in run.train_command(tmp_path)


def test_a_stage_with_a_seed_of_its_own_serves_all_runs() -> None:
    runs = read_plan(TABLES / "toy_lengths.yaml").runs()
    assert len({run.after.name for run in runs}) == 1
    assert {(run.seed, run.iterations) for run in runs} == {
        (seed, length) for seed in range(3) for length in (300, 1000, 3000)
    }


def test_second_stages_start_from_the_stage_of_their_seed() -> None:
    for name in ("toy_balms", "cifar_rho200"):
        runs = [run for run in read_plan(TABLES / f"{name}.yaml").runs() if run.after]
        assert all(run.seed == run.after.seed for run in runs)
        assert len({run.after.name for run in runs}) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "seed: 2", r"table\.yaml: there is no field seed; there are .*seeds_of"),
        ("seeds: 2\n", "", r"table\.yaml: expected seeds, but there is none"),
        ("{after:", "{befor:", r"table\.yaml: focal: there is no field befor; there are after"),
        ("after: features", "after: future", r"Expected rows or stages out of .*, but got future"),
        (
            "against: softmax",
            "against: sotmax",
            r"Expected rows out of softmax; focal, but got sot",
        ),
        ("{SOLVER.MAX_ITER: 3}", "[3]", r"features: expected KEY: VALUE pairs, but got \[3\]"),
        (
            "seeds: 2",
            "seeds: 2\nfolder: x",
            r"softmax and focal differ, but the folder of both is x",
        ),
        (
            "seeds: 2",
            "seeds: 2\ndata: real",
            r"data are 'real', and can be glyphs, glyphs_lvis, collages",
        ),
        ("config_file: toy/base.yaml", "", r"Expected a config_file of the table or of its row"),
        ("rows:", "rows: [", r"table\.yaml is not yaml"),
    ],
)
def test_what_no_table_has_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert plan_of(GOOD, tmp_path).all_pairs() == [("focal", "softmax")]
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        plan_of(GOOD.replace(old, new), tmp_path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"table's yaml at .*none\.yaml, but there is no"):
        read_plan(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match=r"base\.yaml, but there is no"):
        plan_of("_BASE_: base.yaml\n" + GOOD, tmp_path)


def test_a_wrong_setting_is_told_with_its_row_before_the_first_run(tmp_path: Path) -> None:
    plan = plan_of(GOOD.replace("GAMMA: 1.0", "GAMMA: -1.0"), tmp_path)
    with pytest.raises(ValueError, match=r"(?s)focal: .*GAMMA"):
        check_configurations(plan)
    plan = plan_of(GOOD.replace("GAMMA", "GAMA"), tmp_path)
    with pytest.raises(KeyError, match=r"focal: .*GAMA"):
        check_configurations(plan)
