from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.evaluation.output.results_file import add_to_results
from balms_seg.evaluation.uncertainty.stored_runs import short_names

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "evaluation"))

from lvis_cases import random_case  # noqa: E402


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders good and bad of one data set, other of another, as tools/evaluate.py leaves them."""
    root = tmp_path_factory.mktemp("runs")
    content, detections = random_case(0)
    worse = [{**found, "score": 1 - found["score"] / 2} for found in detections[::8]]
    other, found_there = random_case(1)
    for name, truth, found in [
        ("good", content, detections),
        ("bad", content, worse),
        ("other", other, found_there),
    ]:
        (root / f"{name}.json").write_text(json.dumps(truth))
        (root / f"{name}_found.json").write_text(json.dumps(found))
        run_command(
            "evaluate",
            [str(root / f"{name}_found.json"), "--ground-truth", str(root / f"{name}.json")]
            + ["--tasks", "bbox", "--output", str(root / name / "inference")],
        )
    return root


def test_says_which_differences_are_larger_than_chance(
    runs: Path, capsys: pytest.CaptureFixture
) -> None:
    run_command(
        "compare", [str(runs / "good"), str(runs / "bad" / "inference"), "--resamples", "40"]
    )
    out = capsys.readouterr().out
    assert "bbox, 25 images; difference: inference minus good" in out
    assert "good and inference: their training seeds are not known; seeds alone move AP" in out
    row = next(line for line in out.split("\n") if line.startswith("|     AP |"))
    assert row.rstrip(" |").endswith("yes")
    file = str(runs / "good" / "inference" / "matches_bbox.npz")
    run_command(
        "compare", [file, str(runs / "good" / "inference" / "results.json"), "--resamples", "40"]
    )
    assert "yes" not in capsys.readouterr().out


@pytest.mark.parametrize(("seeds", "said"), [((3, 3), ""), ((3, 4), "a of seed 3 and b of seed 4")])
def test_says_where_seeds_do_not_pair_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, seeds: tuple[int, int], said: str
) -> None:
    for name, seed in zip("ab", seeds, strict=True):
        shutil.copytree(runs / "good" / "inference", tmp_path / name / "inference")
        (tmp_path / name / "inference" / "results.json").rename(tmp_path / name / "results.json")
        record = json.loads((tmp_path / name / "results.json").read_text())
        record |= {"seed": seed, "iteration": 300 if name == "a" else 299}
        (tmp_path / name / "results.json").write_text(json.dumps(record))
    run_command("compare", [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "10"])
    out = capsys.readouterr().out
    assert ("Not paired in training" in out) == bool(said)
    assert said in out
    assert "Trained for few iterations: b for 299." in out


def test_says_that_runs_which_find_nothing_do_not_differ_yet(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = json.loads((runs / "good_found.json").read_text())
    aside = [{**one, "bbox": [0.0, 0.0, 1.0, 1.0]} for one in found]
    (tmp_path / "aside.json").write_text(json.dumps(aside))
    truth = ["--ground-truth", str(runs / "good.json"), "--tasks", "bbox"]
    nothing = str(tmp_path / "nothing")
    run_command("evaluate", [str(tmp_path / "aside.json"), *truth, "--output", nothing])
    said = "Both runs find next to nothing (AP below 1)"
    for other, is_said in ((nothing, True), (str(runs / "good"), False)):
        capsys.readouterr()
        run_command("compare", [nothing, other, "--resamples", "10"])
        assert (said in capsys.readouterr().out) == is_said


def test_says_where_both_evaluate_the_same_weights(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, weights in (("a", "x"), ("again", "x"), ("b", "y")):
        shutil.copytree(runs / "good" / "inference", tmp_path / name)
        record = json.loads((tmp_path / name / "results.json").read_text())
        (tmp_path / name / "results.json").write_text(json.dumps({**record, "weights": weights}))
    said = {}
    for name in ("again", "b"):
        run_command("compare", [str(tmp_path / "a"), str(tmp_path / name), "--resamples", "10"])
        said[name] = capsys.readouterr().out
    assert "a and again evaluate the same weights" in said["again"]
    assert "seeds are not known" not in said["again"]
    assert "a and b: their training seeds are not known" in said["b"]


def test_bad_runs_are_explained(runs: Path, tmp_path: Path) -> None:
    good = str(runs / "good")
    with pytest.raises(SystemExit, match="different data sets .*bbox on 25 images and 9 classes"):
        run_command("compare", [good, str(runs / "other")])
    with pytest.raises(SystemExit, match="absent does not exist"):
        run_command("compare", [good, str(tmp_path / "absent")])
    with pytest.raises(SystemExit, match="found none. Evaluate the run"):
        run_command("compare", [good, str(tmp_path)])
    with pytest.raises(SystemExit, match="at least 2 resamples"):
        run_command("compare", [good, good, "--resamples", "1"])
    content = (runs / "good" / "inference" / "matches_bbox.npz").read_bytes()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "matches_bbox.npz").write_bytes(content)
    with pytest.raises(SystemExit, match="two evaluations of bbox .*name the one"):
        run_command("compare", [good, str(tmp_path)])


def test_an_interrupted_evaluation_is_said_to_be_one(runs: Path, tmp_path: Path) -> None:
    """And how it goes on; one that an earlier run left behind does not count."""
    parts = tmp_path / "run" / "inference" / "parts"
    parts.mkdir(parents=True)
    (parts / "predictions_0f_0.jsonl").touch()
    said = r"evaluation was interrupted.*/run/inference/parts\..*--eval-only as it was"
    with pytest.raises(SystemExit, match=rf"matches_TASK\.npz in .*{said}"):
        run_command("compare", [str(runs / "good"), str(tmp_path / "run")])
    with pytest.raises(SystemExit, match=rf"no finished run.*{said}"):
        run_command("report", [str(tmp_path / "run")])
    (tmp_path / "run" / "inference").rename(tmp_path / "run" / "earlier_run_1")
    with pytest.raises(SystemExit, match=r"found none\. Evaluate the run"):
        run_command("compare", [str(runs / "good"), str(tmp_path / "run")])


@pytest.mark.parametrize("last", ["model_0000099.pth", "model_final.pth"])
def test_an_interrupted_training_is_said_to_be_one(runs: Path, tmp_path: Path, last: str) -> None:
    """And how it goes on; a finished one that was not evaluated needs an evaluation."""
    run = tmp_path / "run"
    run.mkdir()
    for name, text in [("config.yaml", ""), (last, ""), ("last_checkpoint", last)]:
        (run / name).write_text(text)
    said = "training was interrupted.* --resume"
    if last == "model_final.pth":
        said = "valuate .*balms-seg train --eval-only"
    for command in ("report", "thresholds"):
        with pytest.raises(SystemExit, match=said):
            run_command(command, [str(run)])
    with pytest.raises(SystemExit, match=said):
        run_command("compare", [str(runs / "good"), str(run)])


def test_links_that_lead_out_of_a_run_are_not_followed(runs: Path, tmp_path: Path) -> None:
    good, file = str(runs / "good"), runs / "bad" / "inference" / "matches_bbox.npz"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / file.name).symlink_to(file)
    command = [good, str(tmp_path / "run"), "--resamples", "2"]
    with pytest.raises(SystemExit, match=r"leads out of .* --read-outside"):
        run_command("compare", command)
    run_command("compare", [*command, "--read-outside"])
    with pytest.raises(SystemExit, match="leads out of"):
        run_command("thresholds", [str(tmp_path / "run")])


def test_thresholds_of_images_that_were_trained_on_are_warned_of(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "good" / "inference", run)
    record = json.loads((run / "results.json").read_text())
    (name,) = record["metrics"]
    for trained, is_said in ((name, True), ("another", False)):
        record["config"] = f"DATASETS: {{TRAIN: ['{trained}']}}"
        (run / "results.json").write_text(json.dumps(record))
        run_command("thresholds", [str(run), "--objective", "recall=0.999"])
        out = capsys.readouterr().out
        assert (f"The model was trained on {name} and is surer there" in out) == is_said
        assert re.search(r"thresholds reach recall=0.999 for [0-7] of the 8 classes with obj", out)


def test_evaluations_alone_are_paired_by_the_seed_of_their_checkpoint(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, seed in zip("ab", (3, 3), strict=True):
        shutil.copytree(runs / "good" / "inference", tmp_path / name)
        add_to_results(
            tmp_path / name / "results.json", checkpoint={"seed": seed, "iteration": 300}
        )
    run_command("compare", [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "10"])
    assert "paired" not in capsys.readouterr().out
    add_to_results(tmp_path / "b" / "results.json", checkpoint={"seed": 4, "iteration": 300})
    run_command("compare", [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "10"])
    assert "Not paired in training: a of seed 3 and b of seed 4" in capsys.readouterr().out


def test_seeds_that_a_configuration_alone_names_are_said_to_be_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """b is the folder of a training by another trainer: it has no results.json."""
    for name in "ab":
        shutil.copytree(runs / "good" / "inference", tmp_path / name)
    add_to_results(
        tmp_path / "a" / "results.json",
        checkpoint={"seed": None, "iteration": 20, "configured_seed": 3},
    )
    (tmp_path / "b" / "results.json").unlink()
    said = {}
    for seed in (3, 4, -1):
        config = f"SEED: {seed}\nSOLVER: {{MAX_ITER: 50, IMS_PER_BATCH: 2}}\n"
        (tmp_path / "b" / "config.yaml").write_text(config)
        run_command("compare", [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "10"])
        said[seed] = capsys.readouterr().out
    assert "Both of SEED 3, a and b by the config.yaml beside the weights: paired if" in said[3]
    assert "Not paired in training: a of seed 3 and b of seed 4" in said[4]
    assert "Perhaps not paired in training: a of seed 3 and b of unknown seed" in said[-1]
    assert "Trained for few iterations: a for 20, b for 50." in said[3]
    assert said[3].startswith(
        "Not trained equally long: a for 20 iterations; b for 50 iterations of 2 images, 100 in "
        "all (by its config.yaml). Their differences are of that, too.\n"
    )


def test_other_groups_are_told(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The first run's groups serve both, so the order of the runs changes APr, APc and APf."""
    truth = json.loads((runs / "good.json").read_text())
    for number, category in enumerate(truth["categories"]):
        category["image_count"] = number + 1
        category.pop("frequency", None)
    (tmp_path / "good.json").write_text(json.dumps(truth))
    evaluate = [str(runs / "good_found.json"), "--ground-truth", str(tmp_path / "good.json")]
    evaluate += ["--tasks", "bbox", "--output"]
    run_command("evaluate", [*evaluate, str(tmp_path / "usual")])
    run_command("evaluate", [*evaluate, str(tmp_path / "thirds"), "--group-bounds", "3", "6"])
    capsys.readouterr()
    for first, second, said in (
        ("usual", "usual", ""),
        ("thirds", "thirds", ""),
        (
            *("usual", "thirds"),
            "Groups are those of usual (training images a class: rare 1-9) for thirds too; its own "
            "evaluation had rare 1-3, common 4-6, frequent 7-9, and 6 of 9 classes in other "
            "groups. Evaluate both with one training set and one TEST.LONG_TAILED.GROUP_BOUNDS",
        ),
        ("thirds", "usual", "Groups are those of thirds (training images a class: rare 1-3, com"),
    ):
        run_command("compare", [str(tmp_path / first), str(tmp_path / second), "--resamples", "5"])
        out = capsys.readouterr().out
        assert said in out
        assert ("Groups are those of" in out) == bool(said)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (
            ("x/paper_balms_reweighter_R_50_FPN", "x/paper_classifier_R_50_FPN"),
            ("paper_balms_reweighter", "paper_classifier"),
        ),
        (("x/first_run", "x/second_run"), ("first_run", "second_run")),
        (("x/run", "y/run"), ("x/run", "y/run")),
        (
            ("a_of_more_than_twenty_letters", "letters"),
            ("a_of_more_than_twenty_letters", "letters"),
        ),
        (("x/run", "x/run/earlier_evaluation_1"), ("run", "run/earlier_evaluation_1")),
        (
            ("x/run/earlier_evaluation_1", "x/other/earlier_evaluation_1"),
            ("run/earlier_evaluation_1", "other/earlier_evaluation_1"),
        ),
    ],
)
def test_long_names_go_without_what_both_end_in(
    paths: tuple[str, str], names: tuple[str, str]
) -> None:
    assert short_names(Path(paths[0]), Path(paths[1])) == names


def test_a_mixed_set_is_refused(runs: Path, tmp_path: Path) -> None:
    good, bad = (runs / name / "inference" for name in ("good", "bad"))
    shutil.copytree(good, tmp_path / "run")
    shutil.copy(bad / "matches_bbox.npz", tmp_path / "run")
    for command in (["compare", str(good), str(tmp_path / "run")], ["thresholds", str(tmp_path)]):
        with pytest.raises(SystemExit, match="matches_bbox.npz is of another evaluation"):
            run_command(command[0], command[1:])
