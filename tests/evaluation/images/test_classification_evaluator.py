"""The evaluator of image classification: what it takes in, writes, and says."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from gloo_ranks import gloo_rank

from balms_seg.class_statistics import ClassStatistics
from balms_seg.config import add_balms_config
from balms_seg.evaluation import ClassificationEvaluator
from balms_seg.evaluation.evaluator_choice import build_evaluator
from balms_seg.evaluation.images.classifier_predictions import read_predictions
from balms_seg.evaluation.output.per_class import read_per_class_json
from balms_seg.image_batch import ImageBatch

NAME = "classification_test_set"
NAMES = ["cat", "dog", "eel"]
STATISTICS = ClassStatistics.from_labels(np.repeat([0, 1, 2], [150, 50, 5]), 3, class_names=NAMES)


def batch(labels: torch.Tensor, samples: list[int]) -> ImageBatch:
    """A batch as the loader gives it; the evaluator does not look at the pixels."""
    indices = torch.tensor(samples)
    unknown = torch.full((len(samples),), float("nan"), dtype=torch.float64)
    keys = tuple(f"{NAMES[sample % 3]}/{sample}.png" for sample in samples)
    pixels = torch.zeros(len(samples), 3, 2, 2)
    return ImageBatch(pixels, labels, indices, indices, unknown, keys=keys)


@pytest.fixture(autouse=True)
def dataset() -> Iterator[None]:
    MetadataCatalog.get(NAME).set(thing_classes=NAMES, evaluator_type="image_classification")
    yield
    MetadataCatalog.pop(NAME)


def outputs_of(samples: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and probabilities that depend on the sample alone."""
    generators = [torch.Generator().manual_seed(sample) for sample in samples]
    logits = torch.stack([torch.randn(3, generator=one) for one in generators])
    return torch.tensor([sample % 3 for sample in samples]), logits.softmax(1)


def evaluate(
    batches: list[list[int]], output_dir: Path, statistics: ClassStatistics | None = STATISTICS
) -> dict[str, Any]:
    evaluator = ClassificationEvaluator(NAME, statistics, str(output_dir))
    evaluator.reset()
    for samples in batches:
        labels, probabilities = outputs_of(samples)
        evaluator.process(batch(labels, samples), probabilities)
    return evaluator.evaluate()


def test_files_hold_what_the_metrics_summarise(tmp_path: Path) -> None:
    metrics = evaluate([list(range(40)), list(range(40, 60))], tmp_path)["classification"]
    assert list(metrics)[:3] == ["top1", "top5", "balanced_error"]
    rows = read_per_class_json(tmp_path / "per_class_classification.json")
    assert [row["name"] for row in rows] == NAMES
    assert [row["group"] for row in rows] == ["many", "medium", "few"]
    assert np.mean([row["accuracy"] for row in rows]) == pytest.approx(metrics["top1"])
    with (tmp_path / "confusion_classification.csv").open() as file:
        confusion = list(csv.DictReader(file))
    right = sum(int(one["images"]) for one in confusion if one["label"] == one["predicted"])
    assert sum(int(one["images"]) for one in confusion) == 60
    assert 100 * right / 60 == pytest.approx(metrics["top1"])
    groups = json.loads((tmp_path / "calibration_classification.json").read_text())["groups"]
    assert list(groups) == ["all", "many", "medium", "few"]
    assert 100 * groups["all"]["expected_calibration_error"] == pytest.approx(metrics["ece"])
    stored = read_predictions(tmp_path / "predictions_classification.npz")
    assert (stored.class_names, stored.groups) == (tuple(NAMES), ("many", "medium", "few"))
    assert 100 * stored.predictions.is_right.mean() == pytest.approx(metrics["top1"])
    with (tmp_path / "predictions_classification.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == [f"{NAMES[i % 3]}/{i}.png" for i in range(60)]
    assert 100 * np.mean([line["label"] == line["class1"] for line in lines]) == pytest.approx(
        metrics["top1"]
    )
    probabilities = outputs_of([7])[1][0]
    best = int(probabilities.argmax())
    assert lines[7]["class1"] == NAMES[best]
    assert float(lines[7]["score1"]) == pytest.approx(float(probabilities[best]), abs=1e-6)
    assert {lines[7][f"class{rank}"] for rank in (1, 2, 3)} == set(NAMES)
    assert (tmp_path / "per_class_classification.csv").read_text().count("\n") == 4


def test_without_training_counts_there_are_no_groups(tmp_path: Path) -> None:
    metrics = evaluate([[0, 1, 2]], tmp_path, statistics=None)["classification"]
    assert not [name for name in metrics if "-" in name]
    rows = read_per_class_json(tmp_path / "per_class_classification.json")
    assert {(row["group"], row["train_image_count"]) for row in rows} == {(None, None)}


def run_rank(rank: int, folder: str, shares: list[list[list[int]]]) -> None:
    MetadataCatalog.get(NAME).set(thing_classes=NAMES)
    with gloo_rank(rank, folder, ranks=len(shares)):
        results = evaluate(shares[rank], Path(folder, "many"))
        Path(folder, f"rank{rank}.json").write_text(json.dumps(results))


@pytest.mark.slow
@pytest.mark.parametrize("first_share", [0, 5, 60])
def test_two_processes_give_the_results_of_one(first_share: int, tmp_path: Path) -> None:
    """To the last bit, also when a process got no image."""
    samples = list(range(60))
    halves = (samples[first_share:], samples[:first_share])
    shares = [[half] if half else [] for half in halves]
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), shares), nprocs=2)
    expected = evaluate([samples[:7], samples[7:]], tmp_path / "one")
    assert json.loads((tmp_path / "rank0.json").read_text()) == expected
    assert json.loads((tmp_path / "rank1.json").read_text()) == {}
    written = [
        {path.name: json.loads(path.read_text()) for path in (tmp_path / run).glob("*.json")}
        for run in ("one", "many")
    ]
    for files in written:
        assert files.pop("evaluation.json")  # another one of the same predictions
        for content in files.values():
            content.pop("evaluation", None)
    assert written[0] == written[1]


def test_nothing_processed_gives_no_result(tmp_path: Path) -> None:
    assert evaluate([], tmp_path) == {}


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], torch.full((2, 4), 0.25), "3 classes.*but got 4; set MODEL.IMAGE_CLASSIFIER"),
        ([0, 3], torch.full((2, 3), 1 / 3), r"labels in \[0, 2\].*from 0 to 3"),
        ([0, -1], torch.full((2, 3), 1 / 3), "from -1 to 0"),
        ([0, 1], torch.full((2, 3), float("nan")), "diverged"),
        ([0, 1], torch.full((1, 3), 1 / 3), r"shape \(2, K\)"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(
    labels: list[int], probabilities: torch.Tensor, message: str
) -> None:
    evaluator = ClassificationEvaluator(NAME, STATISTICS)
    with pytest.raises(ValueError, match=message):
        evaluator.process(batch(torch.tensor(labels), [0, 1]), probabilities)


def test_names_have_to_be_those_of_the_statistics() -> None:
    statistics = ClassStatistics.from_labels([0, 1], 2)
    with pytest.raises(ValueError, match="names of the 2 classes of the training set, but got 3"):
        ClassificationEvaluator(NAME, statistics, class_names=NAMES)


def test_the_names_are_the_models_whatever_the_data_set_has(tmp_path: Path) -> None:
    MetadataCatalog.get(NAME).thing_classes.reverse()
    try:
        evaluate([list(range(6))], tmp_path)
    finally:
        MetadataCatalog.get(NAME).thing_classes.reverse()
    rows = read_per_class_json(tmp_path / "per_class_classification.json")
    assert [(row["name"], row["val_images"]) for row in rows] == [(name, 2) for name in NAMES]


def test_images_without_names_are_refused() -> None:
    unnamed = dataclasses.replace(batch(torch.tensor([0]), [0]), keys=())
    with pytest.raises(ValueError, match="to name its 1 images"):
        ClassificationEvaluator(NAME).process(unnamed, torch.eye(3)[:1])


def test_half_precision_outputs_are_taken(tmp_path: Path) -> None:
    evaluator = ClassificationEvaluator(NAME)
    evaluator.process(batch(torch.tensor([0]), [0]), torch.eye(3)[:1].bfloat16())
    assert evaluator.evaluate()["classification"]["top1"] == 100


def test_the_evaluator_type_chooses_it() -> None:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.CLASSES = NAMES
    assert isinstance(build_evaluator(cfg, NAME), ClassificationEvaluator)
