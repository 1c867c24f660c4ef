"""What the numbers of an image classifier's evaluation are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from balms_seg.class_statistics import ClassStatistics
from balms_seg.evaluation.images.accuracy import classification_rows, evaluate_classification
from balms_seg.evaluation.images.classifier_predictions import ClassifierPredictions

# Class 0 is frequent, 1 medium, 2 and 3 few; 3 has no image in the evaluation set.
STATISTICS = ClassStatistics.from_labels(np.repeat([0, 1, 2, 3], [101, 100, 19, 1]), 4)
GROUPS = STATISTICS.groups


def judged(
    predicted: list[int], labels: list[int], confidence: float = 0.7
) -> ClassifierPredictions:
    probabilities = np.full((len(labels), 4), (1 - confidence) / 3)
    probabilities[np.arange(len(labels)), predicted] = confidence
    return judge(probabilities, np.array(labels), np.arange(len(labels)))


def judge(
    probabilities: np.ndarray, labels: np.ndarray, samples: np.ndarray
) -> ClassifierPredictions:
    keys = [f"{sample}.png" for sample in samples.tolist()]
    return ClassifierPredictions.from_probabilities(probabilities, labels, samples, keys)


def test_accuracies_of_an_outcome_counted_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, 2]
    predicted = [0, 0, 0, 1, 1, 0, 2, 0]
    result = evaluate_classification(judged(predicted, labels), 4, GROUPS)
    metrics = result.metrics
    assert metrics["top1"] == pytest.approx(100 * 5 / 8)
    assert metrics["top5"] == 100  # of four classes
    assert metrics["balanced_error"] == pytest.approx(100 - 100 * (0.75 + 0.5 + 0.5) / 3)
    assert [metrics[f"top1-{name}"] for name in ("many", "medium", "few")] == [75, 50, 50]
    assert metrics["ece"] == pytest.approx(100 * (0.7 - 5 / 8))
    assert result.confusion.tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0] * 4]
    assert result.group_sizes["few"] == {"classes": 2, "with_ground_truth": 1}


def test_groups_end_at_20_and_100_training_images() -> None:
    counts = [101, 100, 20, 19]
    statistics = ClassStatistics.from_labels(np.repeat(range(4), counts), 4)
    groups = {name: ids.tolist() for name, ids in statistics.groups.items()}
    assert groups == {"few": [3], "medium": [1, 2], "many": [0]}


def test_an_empty_group_has_no_accuracy() -> None:
    groups = {"many": np.array([0, 1]), "few": np.array([], np.int64)}
    metrics = evaluate_classification(judged([0], [0]), 4, groups).metrics
    assert np.isnan(metrics["top1-few"])
    assert metrics["top1-many"] == 100


def test_rank_and_top_five_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand((300, 40), generator=generator, dtype=torch.float64).softmax(1)
    labels = torch.randint(40, (300,), generator=generator)
    own = judge(probabilities.numpy(), labels.numpy(), np.arange(300))
    best, first_five = probabilities.max(1), probabilities.topk(5).indices
    assert own.predicted.tolist() == best.indices.tolist()
    assert own.confidences.tolist() == best.values.tolist()
    assert own.in_top5.tolist() == (first_five == labels[:, None]).any(1).tolist()
    assert 0 < own.in_top5.sum() < 300


def test_of_equal_probabilities_the_first_class_wins() -> None:
    even = np.full((7, 7), 1 / 7)
    own = judge(even, np.arange(7), np.arange(7))
    assert own.predicted.tolist() == [0] * 7
    assert own.in_top5.tolist() == [True] * 5 + [False] * 2


def test_the_order_of_the_parts_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 50)
    labels, samples = rng.integers(0, 4, 50), rng.permutation(50)

    def part(rows: slice) -> ClassifierPredictions:
        return judge(probabilities[rows], labels[rows], samples[rows])

    whole = ClassifierPredictions.concatenate([part(slice(None))])
    pieces = ClassifierPredictions.concatenate([part(slice(30, 50)), part(slice(0, 30))])
    for name, values in vars(whole).items():
        assert (values == getattr(pieces, name)).all()
    results = [evaluate_classification(one, 4, GROUPS).metrics for one in (whole, pieces)]
    assert results[0] == results[1]


def test_an_image_predicted_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 came again, the first at position 0"):
        ClassifierPredictions.concatenate([judged([0, 1], [0, 1]), judged([0], [0])])


def test_rows_have_precision_and_the_commonest_mistake() -> None:
    result = evaluate_classification(judged([0, 0, 1, 0, 0], [0, 0, 1, 1, 2]), 4, GROUPS)
    names = ["cat", "dog", "eel", "fox"]
    cat, dog, eel, fox = classification_rows(result, names, STATISTICS)
    assert (cat["group"], cat["train_image_count"], cat["val_images"]) == ("many", 101, 2)
    assert (cat["accuracy"], cat["precision"], cat["predicted_images"]) == (100, 50, 4)
    assert cat["most_confused_with"] is None
    assert (dog["accuracy"], dog["most_confused_with"]) == (50, "cat")
    assert (eel["accuracy"], eel["group"]) == (0, "few")
    assert np.isnan(eel["precision"])
    assert np.isnan(fox["accuracy"])
    assert fox["val_images"] == 0


def test_a_group_lies_within_its_classes() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        predictions = judge(rng.dirichlet(np.ones(4), 60), rng.integers(0, 4, 60), np.arange(60))
        result = evaluate_classification(predictions, 4, GROUPS)
        accuracy = [row["accuracy"] for row in classification_rows(result, list("abcd"), None)]
        few = [accuracy[i] for i in GROUPS["few"]]
        assert min(few) - 1e-9 <= result.metrics["top1-few"] <= max(few) + 1e-9
        assert result.confusion.sum() == 60
