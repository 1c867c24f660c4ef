"""The table and the csv of class statistics."""

from pathlib import Path

import numpy as np

from balms_seg.class_statistics import ClassStatistics
from balms_seg.report.class_table import format_class_statistics, write_class_csv


def test_table_names_groups_ends_and_empty_classes(statistics: ClassStatistics) -> None:
    text = format_class_statistics(statistics, num_listed=2)
    rows = [line.split() for line in text.splitlines()]
    assert ["rare", "3", "0-5", "a", "class", "6", "1.7", "%"] in rows
    assert "groups: rare up to 10 images, common up to 100, frequent more" in text
    # eel and dog; fox has no image
    assert "REPEAT_THRESHOLD 0.0279 repeats images of the rarest 2 of 5 classes" in text
    assert "GROUP_BOUNDS" not in text  # all three groups have classes
    assert "without a sample (1): fox" in text
    assert [row[0] for row in rows if row and row[0] in statistics.class_names] == [
        *("ant", "bee"),
        *("dog", "eel"),
    ]


def test_few_classes_are_listed_once(statistics: ClassStatistics) -> None:
    text = format_class_statistics(statistics, num_listed=3)  # of five with a sample
    names = [line.split()[0] for line in text.splitlines() if line]
    assert [name for name in names if name in statistics.class_names] == [
        *("ant", "bee", "cat", "dog", "eel")
    ]
    assert "most frequent" not in text


def test_table_of_a_set_without_annotations_reads_na() -> None:
    text = format_class_statistics(ClassStatistics.from_dataset_dicts([], 2))
    assert "images n/a" in text
    assert "without a sample (2): 0, 1" in text


def test_table_proposes_bounds_where_a_group_is_empty() -> None:
    labels = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    dicts = [{"annotations": [{"category_id": int(k)}]} for k in labels]
    statistics = ClassStatistics.from_dataset_dicts(dicts, 6)
    text = format_class_statistics(statistics)
    assert 'GROUP_BOUNDS "[2,4]" makes three groups, as even as the counts allow' in text
    assert "now none is common or frequent" in text
    given = ClassStatistics.from_dataset_dicts(dicts, 6, frequency=list("rrccff"))
    assert "groups: those that the annotations say" in format_class_statistics(given)


def test_csv_has_one_line_for_each_class(statistics: ClassStatistics, tmp_path: Path) -> None:
    write_class_csv(statistics, tmp_path / "classes.csv")
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines[0] == "class_id,category_id,name,group,image_count,instance_count"
    assert lines[2] == "1,n/a,bee,common,40,40"
    assert len(lines) == 7
    write_class_csv(statistics, tmp_path / "classes.csv", category_ids=[7, 9, 11, 12, 20, 30])
    assert (tmp_path / "classes.csv").read_text().splitlines()[2] == "1,9,bee,common,40,40"
