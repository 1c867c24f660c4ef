"""The report on image classifiers: what it shows, how sure it is, and who is ahead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import MetadataCatalog
from report_runs import write_run

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.frequency_groups import group_by_bounds
from balms_seg.commands.command_line import run_command
from balms_seg.evaluation import ClassificationEvaluator, write_results
from balms_seg.evaluation.uncertainty.run_differences import TrainedClasses, describe_differences
from balms_seg.image_batch import ImageBatch
from balms_seg.report.image_accuracy import accuracy_changes, accuracy_intervals
from balms_seg.report.run_files import read_run

DATASET = "image_report_test_set"
NAMES = ["cat", "dog", "</script><b>axe"]
COUNTS = [150, 50, 5]
PER_CLASS = 40


def write_image_run(
    folder: Path,
    *,
    right_of_last: int,
    bounds: tuple[int, int] | None = None,
    counts: Sequence[int] = COUNTS,
) -> Path:
    """A run that gets 40, 30 and so many images of its classes right; the others are class 0.

    With bounds of its groups, where given, and training images of each class.
    """
    labels = torch.arange(3).repeat_interleave(PER_CLASS)
    right = torch.cat([torch.arange(PER_CLASS) < n for n in (PER_CLASS, 30, right_of_last)])
    predicted = torch.where(right, labels, 0)
    logits = 2.0 * torch.nn.functional.one_hot(predicted, 3)
    MetadataCatalog.get(DATASET).set(thing_classes=NAMES)
    statistics = ClassStatistics.from_labels(np.repeat(range(3), counts), 3, class_names=NAMES)
    if bounds:
        groups = group_by_bounds(statistics.image_counts, bounds)
        statistics = replace(statistics, group_ids=groups)
    try:
        evaluator = ClassificationEvaluator(DATASET, statistics, str(folder / "inference"))
        places = torch.arange(len(labels))
        unknown = torch.full((len(labels),), float("nan"), dtype=torch.float64)
        pixels = torch.zeros(len(labels), 3, 2, 2)
        keys = tuple(f"{place}.png" for place in places.tolist())
        batch = ImageBatch(pixels, labels, places, places, unknown, keys=keys)
        evaluator.process(batch, logits.softmax(1))
        results = evaluator.evaluate()
    finally:
        MetadataCatalog.pop(DATASET)
    write_results(
        folder / "results.json",
        metrics={DATASET: results},
        group_sizes={DATASET: evaluator.group_sizes},
        config=yaml.safe_dump(
            {"SEED": 3, "TEST": {"LONG_TAILED": {"GROUP_BOUNDS": list(bounds or ())}}}
        ),
        commit="0123abc",
    )
    lines = [{"iteration": i, "total_loss": 5.0 / (i + 1), "lr": 0.1} for i in range(5)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def _without_plotting_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the plotting library's script takes seconds, and only a browser needs it."""
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")


def page_of(*runs: Path) -> tuple[str, dict]:
    run_command("report", [*map(str, runs)])
    text = (runs[0] / "report.html").read_text()
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_page_of_a_classifier_has_every_part(tmp_path: Path) -> None:
    text, data = page_of(write_image_run(tmp_path / "run", right_of_last=10))
    assert re.findall(r'<section id="(\w+)"', text) == [
        *("verdict", "headline", "groups", "classes", "errors", "reliability", "curves"),
        "provenance",
    ]
    assert set(re.findall(r'data-figure="([\w-]+)"', text)) == set(data["figures"])
    assert "Top-1 accuracy is 66.7 (many 100.0, medium 75.0, few 25.0)." in text
    assert "The few group trails the many group by 75.0 points." in text
    assert [(row["name"], row["accuracy0"], row["taken"]) for row in data["classes"]] == [
        *(("cat", 100, [None]), ("dog", 75, ["cat"]), (NAMES[2], 25, ["cat"])),
    ]
    squares = data["figures"]["confusion-0"]["data"]["values"]
    assert {(s["label"], s["predicted"], s["images"]) for s in squares} == {
        *(("cat", "cat", 40), ("dog", "dog", 30), ("dog", "cat", 10)),
        *((NAMES[2], NAMES[2], 10), (NAMES[2], "cat", 30)),
    }
    assert 'data-group-filter="few"' in text
    assert f"evaluated on {DATASET}: {PER_CLASS * len(NAMES)} images<" in text
    assert "<b>axe" not in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)


def test_two_classifiers_are_compared_on_the_same_images(tmp_path: Path) -> None:
    runs = [write_image_run(tmp_path / n, right_of_last=k) for n, k in (("a", 10), ("b", 20))]
    text, data = page_of(*runs)
    assert re.search(r"b against a: top-1 \+8.3 \(\+[34]\.\d to \+1[234]\.\d, larger than", text)
    assert "few +25.0" in text
    assert "many +0.0 (+0.0 to +0.0, within chance)" in text
    assert data["classes"][2]["accuracy1"] == 50


def test_groups_of_the_first_run_are_those_of_the_whole_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the page of a second run that was itself evaluated with the first one's bounds."""
    first = write_image_run(tmp_path / "a", right_of_last=10, bounds=(20, 60))
    pages = []
    for folder, bounds in (("own", (60, 140)), ("shared", (20, 60))):
        run = write_image_run(tmp_path / folder / "b", right_of_last=20, bounds=bounds)
        text, data = page_of(first, run)
        pages.append((re.sub('(?s)<section id="provenance".*', "", text), data))
    said = (
        "Groups are those of a (training images a class: many 150-150, medium 50-50, few 5-5) for "
        "b too; its own evaluation had many 150-150, few 5-50, and 1 of 3 classes in other groups. "
        "Evaluate both with one training set and one TEST.LONG_TAILED.GROUP_BOUNDS (balms-seg "
        "evaluate: --training, --group-bounds)."
    )
    assert "Top-1 accuracy is 75.0 (many 100.0, medium 75.0, few 50.0)." in pages[0][0]
    assert (pages[0][0].replace(f"<p>{said}</p>", ""), pages[0][1]) == pages[1]
    capsys.readouterr()
    run_command("compare", [str(first), str(tmp_path / "own" / "b"), "--resamples", "20"])
    out = capsys.readouterr().out
    assert said in out
    assert re.search(r"top1-medium \| +75.00 \| +75.00", out)
    folders = [str(run / "inference") for run in (first, tmp_path / "own" / "b")]
    run_command("compare", [*folders, "--resamples", "20"])
    assert "(training images a class: many 150-150, medium 50-50, few 5-5)" in (
        capsys.readouterr().out
    )


def test_other_training_images_and_classes_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_image_run(tmp_path / "a", right_of_last=10)
    second = write_image_run(tmp_path / "b", right_of_last=10, counts=[150, 39, 5])
    said = (
        "a and b were trained on different images: of 1 of 3 classes they had other numbers, dog "
        "(50 and 39)."
    )
    assert said in page_of(first, second)[0]
    capsys.readouterr()
    run_command("compare", [str(first), str(second), "--resamples", "20"])
    assert said in capsys.readouterr().out
    known = TrainedClasses("a", {"cat": "few", "dog": "few"}, {"cat": 1, "dog": 1})
    other = TrainedClasses("b", {"cat": "few", "owl": "few"}, {"cat": 1, "owl": 1})
    assert describe_differences(known, known) == []
    assert describe_differences(known, other) == [
        "a and b know different classes; only a: dog; only b: owl."
    ]


def test_intervals_are_those_of_a_share(tmp_path: Path) -> None:
    run = read_run(write_image_run(tmp_path / "run", right_of_last=10))
    intervals = accuracy_intervals(run)
    for metric, value, number in (
        ("top1-few", 25, 40),
        ("top1-many", 100, 40),
        ("top1", 200 / 3, 120),
    ):
        low, high = intervals[metric]
        assert low < value <= high
        for end in {low, high} - {100.0}:  # where the score test is just passed
            error = 1.959964 * math.sqrt(end * (100 - end) / number)
            assert abs(value - end) == pytest.approx(error, abs=1e-4)


def test_nothing_right_is_not_surely_nothing(tmp_path: Path) -> None:
    run = read_run(write_image_run(tmp_path / "run", right_of_last=0))
    low, high = accuracy_intervals(run)["top1-few"]
    assert (low, high) == (0, pytest.approx(8.76, abs=0.01))  # of 40 images


def test_groups_are_as_sure_as_their_images_allow() -> None:
    """How often they hold the true mean, over made-up sets with classes of any size."""
    rng = np.random.default_rng(0)
    images = np.array([1, 2, 4, 9, 20, 40])
    held = dict.fromkeys(("top1", "top1-few"), 0)
    for _ in range(400):
        truth = rng.uniform(0.1, 0.9)
        share = rng.binomial(images, truth) / images
        rows = [
            {"val_images": n, "accuracy": 100 * s, "group": "few"}
            for n, s in zip(images.tolist(), share.tolist(), strict=True)
        ]
        run = SimpleNamespace(
            tasks={"classification": SimpleNamespace(classes=rows)},
            groups=("few", "medium", "many"),
        )
        for metric, (low, high) in accuracy_intervals(run).items():
            held[metric] += low <= 100 * truth <= high
    assert min(held.values()) > 0.92 * 400, held


def test_runs_on_other_images_are_not_compared(tmp_path: Path) -> None:
    first, second = (
        write_image_run(tmp_path / name, right_of_last=10) for name in ("first", "second")
    )
    path = second / "inference" / "predictions_classification.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "keys": np.roll(arrays["keys"], 1)})
    (path.parent / "evaluation.json").unlink()  # it would tell that the file was changed
    changes, reason = accuracy_changes(read_run(first), read_run(second))
    assert changes == {}
    assert "3 of 120 images differ, such as 39.png (cat and dog)" in reason
    text, _ = page_of(first, second)
    assert "second against first: not compared, as Expected the same labels in both runs" in text


def test_what_a_classifier_lacks_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    run = write_image_run(tmp_path / "run", right_of_last=10)
    for path in (run / "inference").iterdir():
        path.unlink()
    text, _ = page_of(run)
    assert "No results per class" in text
    assert "No confusion" in text
    assert '<section id="headline"' in text
    assert '<section id="classes"' not in text


def test_the_two_jobs_do_not_share_a_page(tmp_path: Path) -> None:
    classifier = write_image_run(tmp_path / "run", right_of_last=10)
    results = json.loads((classifier / "results.json").read_text())
    results["metrics"] = {"made_up_val": results["metrics"][DATASET]}
    (classifier / "results.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit, match="runs of one job"):
        run_command("report", [str(classifier), str(write_run(tmp_path / "detector"))])
