"""`compare --with`: pairs of runs over their training seeds."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.evaluation.output.results_file import add_to_results, read_results

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "evaluation"))

from lvis_cases import random_case  # noqa: E402

T_975_OF_2_DEGREES = 4.3027


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs of evaluations, a1 to a3 with some detections and b1 to b3 with others."""
    root = tmp_path_factory.mktemp("pairs")
    content, detections = random_case(0)
    (root / "truth.json").write_text(json.dumps(content))
    for seed in (1, 2, 3):
        for name, found in (("a", detections[seed::4]), ("b", detections[:: seed + 1])):
            (root / "found.json").write_text(json.dumps(found))
            evaluate(root / "found.json", root / "truth.json", root / f"{name}{seed}")
            trained = {"seed": seed, "iteration": 400, "batch_size": 8}
            add_to_results(root / f"{name}{seed}" / "results.json", checkpoint=trained)
    return root


def evaluate(found: Path, truth: Path, output: Path, *tasks: str) -> None:
    words = ["--ground-truth", str(truth), "--tasks", *(tasks or ("bbox",)), "--output"]
    run_command("evaluate", [str(found), *words, str(output)])


def compare(capsys: pytest.CaptureFixture[str], first: list[Path], second: list[Path]) -> str:
    capsys.readouterr()
    run_command("compare", [*map(str, first), "--with", *map(str, second)])
    return capsys.readouterr().out


def rows(text: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {cells[0]: cells[1:] for cells in lines if cells}


def test_differences_are_pooled_over_seeds_as_students_interval_has_it(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = compare(capsys, sorted(runs.glob("a?")), sorted(runs.glob("b?")))
    found = rows(out)
    assert found["2"] == [str(runs / "a2"), str(runs / "b2"), "2"]
    for metric in ("AP", "APr", "APc", "APf"):
        values = {
            name: next(iter(read_results(runs / name / "results.json")["metrics"].values()))
            for name in ("a1", "a2", "a3", "b1", "b2", "b3")
        }
        gaps = [
            values[f"b{k}"]["bbox"][metric] - values[f"a{k}"]["bbox"][metric] for k in (1, 2, 3)
        ]
        mean = sum(gaps) / 3
        half = T_975_OF_2_DEGREES * (sum((gap - mean) ** 2 for gap in gaps) / 2 / 3) ** 0.5
        classes, first, second, *pairs, pooled, interval, larger = found[metric]
        assert [float(gap) for gap in pairs] == pytest.approx(gaps, abs=0.006)
        assert float(pooled) == pytest.approx(mean, abs=0.006)
        assert float(second) - float(first) == pytest.approx(mean, abs=0.011)
        ends = [float(end) for end in interval.split(" to ")]
        assert ends == pytest.approx([mean - half, mean + half], abs=0.006)
        if int(classes) < 2:
            assert larger == "not judged"
        else:
            assert larger == ("yes" if ends[0] > 0 or ends[1] < 0 else "no")
    assert "Student's over 3 pairs of trainings, on one set of images" in out
    assert "paired" not in out
    assert "Not trained" not in out


def test_one_pair_is_compared_over_the_images_as_ever(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = compare(capsys, [runs / "a1"], [runs / "b1"])
    run_command("compare", [str(runs / "a1"), str(runs / "b1")])
    assert one == capsys.readouterr().out
    assert "95% interval |" in one


def test_a_seed_that_comes_twice_is_warned_of(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "b2", tmp_path / "again")
    out = compare(capsys, [runs / "a1", runs / "a2"], [runs / "b2", tmp_path / "again"])
    assert (
        "B1 and B2 are of one seed. The intervals take each pair for a training of its own" in out
    )
    assert "A1 and A2 are" not in out
    assert "Not paired in training: A1 of seed 1 and B1 of seed 2." in out
    assert "A2 of seed 2 and B2" not in out


def test_a_run_that_is_compared_with_itself_is_warned_of(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = runs / "link"
    link.symlink_to(runs / "a2")
    out = compare(capsys, [runs / "a1", runs / "a2"], [runs / "b1", link])
    assert f"A2 and B2 are the same run, {runs / 'a2'}: compare it with another." in out
    assert "A1 and B1 are" not in out
    assert "A and B are the same run" in compare(capsys, [runs / "a1"], [runs / "a1"])


def test_pairs_that_cannot_be_pooled_are_explained(runs: Path, tmp_path: Path) -> None:
    a, b = [str(runs / "a1"), str(runs / "a2")], [str(runs / "b1"), str(runs / "b2")]
    with pytest.raises(SystemExit, match="2 runs and 1 after --with"):
        run_command("compare", [*a, "--with", b[0]])
    with pytest.raises(SystemExit, match="got 4; .*compare A1 A2 A3 --with B1 B2 B3"):
        run_command("compare", [*a, *b])
    with pytest.raises(SystemExit, match="got 2 and 1.5"):
        run_command("compare", [*a, "--with", *b, "--level", "1.5"])
    with pytest.raises(SystemExit, match="no --resamples and no --seed"):
        run_command("compare", [*a, "--with", *b, "--resamples", "10"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"empty, but found none. Evaluate the run"):
        run_command("compare", [*a, "--with", b[0], str(tmp_path / "empty")])
    content, detections = random_case(1)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    evaluate(tmp_path / "found.json", tmp_path / "truth.json", tmp_path / "other")
    with pytest.raises(SystemExit, match=r"a1 and \S*other have no evaluation in common"):
        run_command("compare", [*a, "--with", b[0], str(tmp_path / "other")])


def test_a_task_that_one_run_lacks_is_said_to_be_left_out(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, detections = random_case(0)
    (tmp_path / "found.json").write_text(json.dumps(detections))
    evaluate(tmp_path / "found.json", runs / "truth.json", tmp_path / "both", "bbox", "segm")
    both = tmp_path / "both"
    out = compare(capsys, [both, runs / "a2"], [runs / "b1", runs / "b2"])
    assert out.count("differences: B minus A") == 1
    assert "segm is left out: A2 was not evaluated in it on the same images." in out


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        (((400, 8), (400, 8)), ""),
        (
            ((400, 8), (500, None)),
            "equally long: A1 for 400 iterations of 8 images, 3200 in all; A2",
        ),
        (((400, 8), (400, None)), ""),
        (((400, 8), (200, 16)), "in equal batches: A1 for 400 iterations of 8 images, 3200 in"),
    ],
)
def test_unequal_lengths_of_training_are_said_first(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lengths: tuple[tuple[int, int | None], ...],
    said: str,
) -> None:
    for name, (iteration, batch_size) in zip("ab", lengths, strict=True):
        shutil.copytree(runs / f"{name}1", tmp_path / f"{name}1")
        trained = {"seed": 1, "iteration": iteration, "batch_size": batch_size}
        add_to_results(tmp_path / f"{name}1" / "results.json", checkpoint=trained)
    out = compare(capsys, [tmp_path / "a1", runs / "a2"], [tmp_path / "b1", runs / "b2"])
    assert ("Not trained" in out) == bool(said)
    assert said in out
    assert out.find("Not trained") < out.index("differences: B minus A")
    one = compare(capsys, [tmp_path / "a1"], [tmp_path / "b1"])
    assert one.startswith("Not trained") == bool(said)


def test_the_first_stage_is_not_counted_in_a_runs_length(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training's own results.json names the batch and the stage in its configuration."""
    for name, iteration, stage in (("a1", 10, ""), ("b1", 50, "configs/first.yaml")):
        shutil.copytree(runs / name, tmp_path / name)
        config = f"SOLVER: {{IMS_PER_BATCH: 4}}\nMODEL: {{STAGE_ONE_CONFIG: '{stage}'}}"
        add_to_results(tmp_path / name / "results.json", iteration=iteration, seed=1, config=config)
    out = compare(capsys, [tmp_path / "a1"], [tmp_path / "b1"])
    assert out.startswith(
        "Not trained equally long: a1 for 10 iterations of 4 images, 40 in all; b1 for 50 "
        "iterations of 4 images, 200 in all. "
    )
    assert "The first stage of b1 is not counted." in out
