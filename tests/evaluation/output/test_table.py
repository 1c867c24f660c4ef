import pytest
from lvis_cases import annotation, dataset

from balms_seg.evaluation import evaluate_lvis, format_lvis_table
from balms_seg.evaluation.output.result_table import format_classification_table, format_intervals

BOX = [10.0, 10.0, 20.0, 20.0]
NAN = float("nan")


def test_table_has_a_row_a_task_and_the_group_sizes() -> None:
    bbox = {"AP": 31.834, "AP50": 50, "AP75": 30, "APr": NAN, "APc": 1, "APf": 2, "AR": 40}
    sizes = {
        "rare": {"classes": 3, "with_ground_truth": 0},
        "common": {"classes": 2, "with_ground_truth": 2},
    }
    header, rule, row, other, last = format_lvis_table(
        {"bbox": bbox, "segm": {**bbox, "AP": 100}}, sizes
    ).split("\n")
    assert header.replace("|", "").split() == (
        ["task", "AP", "AP50", "AP75", "APr", "APc", "APf", "APs", "APm", "APl"]
        + ["AR", "ARr", "ARc", "ARf"]
    )
    assert row.replace("|", "").split() == (
        ["bbox", "31.83", "50.00", "30.00", "n/a", "1.00", "2.00", "n/a", "n/a", "n/a"]
        + ["40.00", "n/a", "n/a", "n/a"]
    )
    assert "100.00" in other
    assert {len(line) for line in (header, rule, row, other)} == {len(header)}
    assert last == "Classes with ground truth / all: rare 0/3, common 2/2"


def test_a_group_of_one_class_is_not_judged() -> None:
    sizes = {
        name: {"classes": 3, "with_ground_truth": number}
        for name, number in (("rare", 1), ("common", 0), ("frequent", 2))
    }
    *_, last = format_lvis_table({"bbox": {"AP": 1}}, sizes).split("\n")
    assert last == (
        "Not judged: rare, of which fewer than 2 classes have objects. A number of one class says "
        "nothing of its group."
    )
    assert "Not judged: rare, of which fewer than 2 classes have images" in (
        format_classification_table({"photos": {"top1": 1}}, sizes)
    )


def test_empty_groups_never_read_as_numbers() -> None:
    result = evaluate_lvis(dataset([annotation(1, 2, BOX)]), [], "bbox")
    metrics = {name: 100 * value for name, value in result.metrics.items()}
    table = format_lvis_table({"bbox": metrics}, result.group_sizes)
    row = table.split("\n")[2]
    # AP and AR of rare and frequent classes, and AP of the ranges that the 20 px box is not in.
    assert row.count("n/a") == 6
    assert "-1" not in row
    assert "nan" not in row


@pytest.mark.parametrize("value", [None, NAN])
def test_missing_metric_reads_not_available(value: float | None) -> None:
    assert "| n/a |" in format_lvis_table({"bbox": {"AP": value}})


def test_interval_of_an_empty_group_reads_not_available() -> None:
    line = format_intervals({"AP": (1.234, 5.678), "APr": (NAN, NAN)})
    assert line.endswith("AP 1.23 to 5.68, APr n/a")
