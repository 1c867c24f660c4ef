"""Subsets of features: which images runs train and are judged on; and runs in forks."""

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

from balms_seg.experiments.cost import read_cost
from balms_seg.experiments.feature_subsets import FeatureSubset
from balms_seg.experiments.forked_runs import start_fork
from balms_seg.experiments.machine import places
from balms_seg.experiments.runs import train_all

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


def images_of(subset: FeatureSubset, seed: int) -> dict[str, dict[str, int]]:
    """Data set -> key -> label, of the lists that a run reads."""
    _, value = subset.opts(seed)
    found = {}
    for name, source, _ in literal_eval(value):
        if source.endswith(".txt"):
            lines = [line for line in Path(source).read_text().splitlines() if line[0] != "#"]
            found[name] = {key: int(label) for key, label in map(str.split, lines)}
    return found


def test_subsets_follow_the_seed_and_settings_are_chosen_on_other_images(features: Path) -> None:
    files = [str(features / f"cifar10_{part}.npz") for part in ("train", "test")]
    whole, other = (images_of(FeatureSubset(*files, RHO), seed) for seed in range(2))
    counts = Counter(whole["features_train"].values())
    assert (counts[0], counts[9], len(whole)) == (PER_CLASS, PER_CLASS // RHO, 1)
    assert whole["features_train"].keys() != other["features_train"].keys()
    parted = images_of(FeatureSubset(*files, RHO, parted=True), 0)
    rest, meta = parted["features_train"], parted["features_meta"]
    assert rest | meta == whole["features_train"]
    assert Counter(meta.values())[0] == PER_CLASS // 5
    assert set(meta.values()) == set(range(10))
    held = [images_of(FeatureSubset(*files, RHO, held_out=True), seed) for seed in range(2)]
    assert held[0]["features_test"] == held[1]["features_test"]
    assert Counter(held[0]["features_test"].values()) == dict.fromkeys(range(10), PER_CLASS // 10)
    for own in held:
        assert not own["features_test"].keys() & own["features_train"].keys()


def test_features_that_are_not_there_are_told(tmp_path: Path) -> None:
    subset = FeatureSubset(str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), RHO)
    with pytest.raises(FileNotFoundError, match=r"train\.npz.* balms-seg features makes them"):
        subset.read()


TABLE = """
title: Made up
note: Nothing.
seeds: 2
num_gpus: 0
config_file: classification/cifar10_features/base.yaml
against: softmax
features: {{train: {0}/cifar10_train.npz, test: {0}/cifar10_test.npz, rho: 10}}
rows:
  softmax: {{SOLVER.MAX_ITER: 3}}
  tau: {{after: softmax, eval_only: true, MODEL.INIT_CLASSIFIER: tau_norm}}
"""


@pytest.mark.slow
def test_runs_train_in_turn_and_say_what_they_cost(features: Path, tmp_path: Path) -> None:
    (tmp_path / "made_up.yaml").write_text(TABLE.format(features))
    # In a process of its own: forks of one that has computed with torch may hang.
    command = [sys.executable, "-m", "balms_seg", "compare-methods", "--jobs", "1"]
    command += ["--table", str(tmp_path / "made_up.yaml"), "--output", str(tmp_path / "runs")]
    subprocess.run(command, check=True)
    content = json.loads((tmp_path / "runs" / "made_up.json").read_text())
    assert [(r["row"], r["seed"]) for r in content["runs"]] == [
        (name, seed) for seed in range(2) for name in ("softmax", "tau")
    ]
    for softmax, tau in zip(content["runs"][::2], content["runs"][1::2], strict=True):
        assert 0 < softmax["processor_seconds"] < tau["processor_seconds"]
    assert content["paired_differences"][0]["seeds"] == 2
    assert "| processor seconds |" in (tmp_path / "runs" / "made_up.md").read_text()


def test_forks_run_modules_to_their_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "made_up_module.py").write_text(
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
        lambda run, output: [
            sys.executable,
            "-m",
            "made_up_module",
            run.name,
            str(output / run.name),
        ],
        places=places(1),
        start=start_fork,
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
