import csv
import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from lvis_cases import random_case
from made_up_world import World

from balms_seg.evaluation import write_results
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING
from balms_seg.evaluation.predictions.match_file import StoredMatches, write_matches
from balms_seg.evaluation.uncertainty.operating_points import (
    OperatingPoint,
    _spreads,
    _widened,
    choose_operating_points,
    wilson_interval,
)
from balms_seg.evaluation.uncertainty.score_counts import Curves
from balms_seg.evaluation.uncertainty.stored_thresholds import (
    choose_stored_thresholds,
)
from balms_seg.evaluation.uncertainty.threshold_advice import format_groups
from balms_seg.evaluation.uncertainty.threshold_choice import Objective

WORLD = World(30)


def test_set(num_images: int, seed: int) -> StoredMatches:
    rng = np.random.default_rng(seed)
    return WORLD.detect(WORLD.draw_objects(num_images, rng), rng)


test_set.__test__ = False  # type: ignore[attr-defined]


def rates(stored: StoredMatches, class_: int, threshold: float) -> tuple[float, float]:
    """Precision and recall of a class at IoU 0.5, counted one by one."""
    right = {int(r) for r, m in zip(stored.rows, stored.is_matched[:, 0], strict=True) if m}
    kept = [
        i
        for i in np.flatnonzero(stored.classes == class_)
        if stored.scores[i] >= np.float32(threshold)
    ]
    hits = sum(i in right for i in kept)
    objects = int((stored.annotation_classes == class_).sum())
    return hits / len(kept) if kept else math.nan, hits / objects if objects else math.nan


def f_score(precision: float, recall: float, beta: float = 1.0) -> float:
    square = beta * beta
    total = square * precision + recall
    return (1 + square) * precision * recall / total if total else 0.0


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_without_a_prior_no_candidate_has_a_better_f_score(beta: float) -> None:
    stored = test_set(300, 0)
    points = choose_operating_points(stored, Objective("f", beta), prior_objects=0)
    for class_ in (0, 29):
        own = f_score(*rates(stored, class_, points[class_].threshold), beta)
        scores = np.unique(stored.scores[stored.classes == class_])
        best = max(f_score(*rates(stored, class_, float(s)), beta) for s in scores)
        # Candidates are quantiles of all scores, so that a class's own best may lie between two.
        assert best - 0.02 <= own <= best


def test_precision_and_recall_are_reached_at_the_end_that_keeps_the_other_high() -> None:
    stored = test_set(400, 1)
    precise = choose_operating_points(stored, Objective("precision", 0.8), prior_objects=0)
    thorough = choose_operating_points(stored, Objective("recall", 0.5), prior_objects=0)
    for class_ in (10, 29):
        assert precise[class_].is_reached
        assert rates(stored, class_, precise[class_].threshold)[0] >= 0.8
        assert rates(stored, class_, thorough[class_].threshold)[1] >= 0.5
    lower = choose_operating_points(stored, Objective("precision", 0.3), prior_objects=0)
    assert lower[29].threshold < precise[29].threshold
    unreachable = choose_operating_points(stored, Objective("recall", 1.0), prior_objects=0)
    assert not unreachable[29].is_reached
    assert unreachable[29].threshold == 0


def test_a_class_without_objects_takes_its_groups_threshold() -> None:
    stored = test_set(200, 2)
    absent = stored.annotation_classes != 3
    gone = np.flatnonzero(stored.classes == 3)
    keep = ~np.isin(stored.rows, gone)
    bare = StoredMatches(
        **{
            **vars(stored),
            "annotation_images": stored.annotation_images[absent],
            "annotation_classes": stored.annotation_classes[absent],
            "rows": stored.rows[keep],
            "is_matched": stored.is_matched[keep],
            "is_ignored": stored.is_ignored[keep],
            "counts_unmatched": np.where(stored.classes == 3, False, stored.counts_unmatched),
        }
    )
    points = choose_operating_points(bare, Objective("f", 1.0))
    strong = choose_operating_points(bare, Objective("f", 1.0), prior_objects=1e9)
    assert points[3].num_objects == 0
    assert math.isnan(points[3].recall)
    assert points[3].threshold == strong[3].threshold
    assert 0.2 < points[3].threshold < 0.95


def test_the_prior_brings_rare_classes_closer_to_what_endless_images_would_choose() -> None:
    endless = test_set(20_000, 3)
    alone, joined = [], []
    for seed in range(4, 9):
        stored = test_set(100, seed)
        for found, prior in ((alone, 0.0), (joined, 20.0)):
            points = choose_operating_points(
                stored, Objective("precision", 0.8), prior_objects=prior
            )
            found += [abs(rates_fast(endless, k, points[k].threshold) - 0.8) for k in range(10)]
    assert np.mean(joined) < np.mean(alone) - 0.01


def rates_fast(stored: StoredMatches, class_: int, threshold: float) -> float:
    """Precision of one class of a large set."""
    is_true = np.zeros(len(stored.scores), dtype=bool)
    is_true[stored.rows] = stored.is_matched[:, 0]
    kept = (stored.classes == class_) & (stored.scores >= np.float32(threshold))
    return float(is_true[kept].mean()) if kept.any() else 1.0


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["f1", "precision=0.8", "recall=0.6"])
@pytest.mark.parametrize("num_images", [100, 400])
def test_intervals_hold_the_precision_of_endless_images(objective: str, num_images: int) -> None:
    endless = test_set(40_000, 0)
    held = []
    for seed in range(1, 13):
        points = choose_operating_points(test_set(num_images, seed), Objective.parse(objective))
        for class_, point in enumerate(points):
            if point.num_kept and not math.isnan(point.precision):
                low, high = point.precision_interval
                held.append(low <= rates_fast(endless, class_, point.threshold) <= high)
    assert 0.92 <= np.mean(held) <= 1


def test_interval_of_a_share_is_wilsons() -> None:
    # Agresti and Coull 1998: 0 of 10 and 5 of 10 at 95%.
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 0) == (0, 1)


def test_two_images_will_do() -> None:
    points = choose_operating_points(test_set(2, 0), Objective.parse("f1"))
    assert len(points) == 30
    with pytest.raises(ValueError, match="at least 2 images .* on 1 image"):
        choose_operating_points(test_set(1, 0), Objective.parse("f1"))


@pytest.mark.parametrize("text", ["f", "f0", "precision", "precision=1.5", "accuracy=0.5", "f-1"])
def test_unknown_objectives_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as f1, f0\.5.*but got"):
        Objective.parse(text)


def test_files_name_every_class_and_the_fragment_is_a_configuration(tmp_path: Path) -> None:
    stored = test_set(60, 0)
    write_matches(tmp_path / "matches_bbox.npz", stored)
    chosen = choose_stored_thresholds(tmp_path, "f1", output=tmp_path / "out")
    assert "rare" in chosen.table
    assert chosen.class_names == stored.class_names
    with (tmp_path / "out" / "thresholds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(stored.class_names)
    fragment = yaml.safe_load((tmp_path / "out" / "thresholds.yaml").read_text())
    thresholds = fragment["MODEL"]["ROI_BOX_HEAD"]["CLASS_THRESHOLDS"]
    assert thresholds == pytest.approx([float(row["threshold"]) for row in rows], abs=1e-5)
    again = choose_stored_thresholds(tmp_path / "matches_bbox.npz", "f1", output=tmp_path / "out")
    assert again == chosen
    assert chosen.values == thresholds
    assert chosen.table.endswith(
        f"Next: balms-seg predict RUN IMAGES --thresholds {tmp_path}/out/thresholds.yaml --output "
        "found  (RUN: output folder or checkpoint of the model)"
    )


def test_the_next_command_has_the_evaluated_weights_and_these_thresholds(tmp_path: Path) -> None:
    held_out, model = tmp_path / "held_out", tmp_path / "model_final.pth"
    model.touch()
    write_matches(tmp_path / "matches_bbox.npz", test_set(60, 0))
    config = yaml.safe_dump({"MODEL": {"WEIGHTS": str(model)}})
    write_results(held_out / "results.json", metrics={}, config=config)
    (tmp_path / "matches_bbox.npz").rename(held_out / "matches_bbox.npz")
    file = held_out / "thresholds.yaml"
    cases = [(held_out, model), (held_out, held_out), (tmp_path, tmp_path)]
    for run, taken in cases:
        if taken == held_out:
            (held_out / "config.yaml").touch()  # predict takes the folder from then on
        command = f"balms-seg predict {taken} IMAGES --thresholds {file} --output found"
        table = choose_stored_thresholds(run, "f1", output=held_out).table
        assert table.splitlines()[-1] == f"Next: {command}"
        assert file.read_text().splitlines()[1] == f"#   {command}"


def test_a_model_that_finds_next_to_nothing_has_no_next_command(tmp_path: Path) -> None:
    stored = test_set(60, 0)
    nothing = dataclasses.replace(stored, is_matched=np.zeros_like(stored.is_matched))
    write_matches(tmp_path / "matches_bbox.npz", nothing)
    table = choose_stored_thresholds(tmp_path, "f1", output=tmp_path).table
    assert table.splitlines()[-1] == FINDS_NOTHING
    assert "Next:" not in table


def odd_classes() -> StoredMatches:
    """Class 1 is never found; class 4 is, with a score below 0.05 and nothing wrong above it."""
    stored = test_set(60, 0)
    own = stored.classes[stored.rows]
    is_matched = stored.is_matched & (own != 1)[:, None]
    is_right = np.zeros(len(stored.scores), dtype=bool)
    is_right[stored.rows] = is_matched[:, 0]
    is_fourth = stored.classes == 4
    assert (is_fourth & is_right).any()
    scores = stored.scores.copy()
    scores[is_fourth] *= np.where(is_right[is_fourth], np.float32(0.05), np.float32(0.001))
    return replace(stored, is_matched=is_matched, scores=scores)


@pytest.mark.parametrize("prior_objects", [0.0, 20.0])
@pytest.mark.parametrize("objective", ["f1", "precision=0.9", "recall=0.6"])
def test_the_words_are_true_of_the_written_thresholds(
    objective: str, prior_objects: float, tmp_path: Path
) -> None:
    stored = odd_classes()
    write_matches(tmp_path / "matches_bbox.npz", stored)
    table = choose_stored_thresholds(
        tmp_path, objective, prior_objects=prior_objects, output=tmp_path
    ).table
    written = yaml.safe_load((tmp_path / "thresholds.yaml").read_text())
    thresholds = written["MODEL"]["ROI_BOX_HEAD"]["CLASS_THRESHOLDS"]
    counted = [rates(stored, k, threshold) for k, threshold in enumerate(thresholds)]
    everything = [rates(stored, k, 0.0) for k in range(30)]
    never = [k for k in range(30) if everything[k][1] == 0]
    cut_off = [k for k in range(30) if everything[k][1] > 0 and counted[k][1] == 0]
    assert 1 in never
    assert (4 in cut_off) == (prior_objects > 0 and objective != "recall=0.6")
    for classes, words in ((never, " never found: "), (cut_off, " found, but cut off: ")):
        lines = [line for line in table.splitlines() if words in line]
        assert bool(lines) == bool(classes)
        for line in lines:
            assert line.startswith(f"{len(classes)} of 30 classes ")
            assert f": {', '.join(f'class {k}' for k in classes[:10])}" in line
    name, _, goal = objective.partition("=")
    shares = [one[name == "recall"] for one, (_, recall) in zip(counted, everything, strict=True)]
    if goal:
        objects = [k for k in range(30) if not math.isnan(everything[k][1])]
        reached = sum(shares[k] >= float(goal) for k in objects)
        said = f"reach {objective} for {reached} of the {len(objects)} classes with objects"
        assert said in table
        best = [max(share_at(stored, k, name)) for k in objects]
        assert f"for {sum(share < float(goal) for share in best)} no threshold does." in table
        assert ("leans on other classes" in table) == (prior_objects > 0)
    with (tmp_path / "thresholds.csv").open() as file:
        rows = list(csv.DictReader(file))
    for k, row in enumerate(rows):
        assert float(row["threshold"]) == thresholds[k]
        kept, right = int(row["kept"]), int(row["kept_right"])
        assert (right / kept if kept else math.nan) == pytest.approx(counted[k][0], nan_ok=True)


def share_at(stored: StoredMatches, class_: int, name: str) -> list[float]:
    """Precision or recall of a class at each of its scores; 0 where it has none."""
    scores = np.unique(stored.scores[stored.classes == class_])
    return [0.0, *(rates(stored, class_, float(s))[name == "recall"] for s in scores)]


def test_runs_without_matches_or_detections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        choose_stored_thresholds(tmp_path / "absent", "f1", output=tmp_path)
    stored = test_set(60, 0)
    write_matches(tmp_path / "matches_bbox.npz", stored)
    with pytest.raises(ValueError, match="one evaluation of segm .* found 0"):
        choose_stored_thresholds(tmp_path, "f1", task="segm", output=tmp_path)
    empty = {
        name: value[:0] if name in ("images", "classes", "scores", "counts_unmatched") else value
        for name, value in vars(stored).items()
    }
    for name in ("rows", "is_matched", "is_ignored"):
        empty[name] = empty[name][:0]
    with pytest.raises(ValueError, match="0 detections on 60 images"):
        choose_operating_points(StoredMatches(**empty), Objective("f", 1.0))


def test_scores_of_an_evaluation_are_kept_with_its_matches(tmp_path: Path) -> None:
    from balms_seg.evaluation import load_ground_truth
    from balms_seg.evaluation.lvis.analysis import analyse_task

    content, detections = random_case(0)
    stored = analyse_task(load_ground_truth(json.loads(json.dumps(content))), detections, "bbox")
    scores = stored.matches.scores
    for class_ in range(len(stored.matches.class_names)):
        own = scores[stored.matches.classes == class_]
        assert (np.diff(own) <= 0).all()
    assert set(np.float32(scores)) <= {np.float32(found["score"]) for found in detections}


def test_an_independent_error_widens_the_interval_as_deviations_add_up() -> None:
    low, high = _widened(5, 10, 0.1)
    assert 0.5 - low == pytest.approx(math.hypot(0.5 - 0.2366, 1.96 * 0.1), abs=1e-4)
    assert high - 0.5 == pytest.approx(math.hypot(0.7634 - 0.5, 1.96 * 0.1), abs=1e-4)
    assert _widened(5, 10, 0.0) == pytest.approx(wilson_interval(5, 10))
    assert _widened(0, 0, 0.1) == (0, 1)


@pytest.mark.parametrize("objective", ["f1", "precision=0.9", "recall=0.8"])
def test_where_nothing_is_found_a_threshold_does_not_keep_everything(objective: str) -> None:
    world = test_set(60, seed=0)
    letters = np.array(world.frequency)[world.classes]
    is_rare = letters[world.rows] == "r"
    blind = dataclasses.replace(world, is_matched=world.is_matched & ~is_rare[:, None])
    points = choose_operating_points(blind, Objective.parse(objective))
    rare = [p for p, letter in zip(points, world.frequency, strict=True) if letter == "r"]
    others = [p for p, letter in zip(points, world.frequency, strict=True) if letter != "r"]
    # A group of which nothing is found takes what serves all classes.
    assert min(p.threshold for p in rare) >= min(p.threshold for p in others)
    nothing = dataclasses.replace(world, is_matched=np.zeros_like(world.is_matched))
    points = choose_operating_points(nothing, Objective.parse(objective))
    assert {p.threshold for p in points} == {float(world.scores.max())}
    assert not any(p.is_reached for p in points)


def test_spreads_are_those_of_the_shares_at_the_drawn_thresholds() -> None:
    curves = Curves(
        true=np.array([[1.0, 0.0], [6.0, 2.0]]),
        false=np.array([[3.0, 0.0], [2.0, 2.0]]),
        objects=np.array([1.0, 8.0]),
    )
    precision, recall = _spreads(curves, np.array([[0, 0], [1, 1]]))
    assert precision.tolist() == [np.std([0.25, 0]), np.std([0.75, 0.5])]
    assert recall.tolist() == [np.std([1, 0]), np.std([0.75, 0.25])]


def test_a_group_has_a_line_of_its_own_classes() -> None:
    def point(num_objects: int, threshold: float) -> OperatingPoint:
        return OperatingPoint(
            *(threshold, (0.1, 0.9), 0.5, (0, 1), 0.25, (0, 1), num_objects),
            num_right=num_objects // 2,
            num_kept=4,
            num_kept_right=num_objects // 20,
            is_reached=num_objects > 1,
            is_reachable=True,
        )

    points = [point(1, 0.2), point(10, 0.4), point(100, 0.8)]
    rows = format_groups(["r", "f", "f"], points).replace("|", " ").splitlines()[-2:]
    assert [row.split() for row in rows] == [
        ["rare", "1", "1", "0.200", "0.500", "0.250", "1", "0", "1"],
        ["frequent", "2", "110", "0.600", "0.500", "0.250", "0", "1", "0"],
    ]


@pytest.mark.parametrize(("objective", "expected"), [("f1", "n/a"), ("precision=0.3", "no")])
def test_what_its_group_reaches_is_not_reached_by_a_class_of_which_nothing_is_found(
    objective: str, expected: str, tmp_path: Path
) -> None:
    stored = test_set(60, 0)
    is_class = stored.classes[stored.rows] == 20
    blind = replace(stored, is_matched=stored.is_matched & ~is_class[:, None])
    write_matches(tmp_path / "matches_bbox.npz", blind)
    table = choose_stored_thresholds(tmp_path, objective, output=tmp_path).table
    with (tmp_path / "thresholds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[20]["objective_reached"] == expected
    assert float(rows[20]["recall_unseen"]) == 0
    columns = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:7]]
    assert ("not reached" in columns[0]) == (expected == "no")
    if expected == "no":
        missed = [int(row[columns[0].index("not reached")]) for row in columns[2:]]
        assert sum(missed) == sum(row["objective_reached"] == "no" for row in rows)
