"""The figures are drawn from what they are given, empty groups included."""

from pathlib import Path

import numpy as np
import pytest

from balms_seg.class_statistics import ClassStatistics
from balms_seg.report import figures
from balms_seg.report.class_table import format_class_statistics, write_class_csv

METRICS = {
    "bbox": {"AP": 44.1, "APr": None, "APc": 40.2, "APf": 51.3},
    "segm": {"AP": 36.8, "APr": float("nan"), "APc": 38.1, "APf": 45.7},
}


@pytest.fixture
def statistics() -> ClassStatistics:
    counts = [300, 40, 12, 5, 1, 0]
    labels = np.repeat(np.arange(6), counts)
    dicts = [{"annotations": [{"category_id": int(k)}]} for k in labels]
    names = ["ant", "bee", "cat", "dog", "eel", "fox"]
    return ClassStatistics.from_dataset_dicts(dicts, 6, class_names=names)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """Figures in place of files."""
    pytest.importorskip("matplotlib")
    kept: list = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: kept.append(figure))
    return kept


def test_frequency_figure_has_one_bar_for_each_class_with_an_image(
    statistics: ClassStatistics, drawn: list
) -> None:
    figures.plot_class_frequency(statistics.to_dict(), "unused")
    (axes,) = drawn[0].axes
    tops = [bar.get_y() + bar.get_height() for group in axes.containers for bar in group]
    assert sorted(tops, reverse=True) == pytest.approx([300, 40, 12, 5, 1])
    assert axes.get_yscale() == "log"
    ticks = [
        (tick.get_text(), at)
        for tick, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
    ]
    assert ticks == [*zip(statistics.class_names, range(1, 7), strict=True)]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [
        "frequent: 1 class",
        "common: 2 classes",
        "rare: 3 classes",
        "without an image: 1",
    ]


def test_ap_figure_writes_na_over_an_empty_group(drawn: list) -> None:
    sizes = {"rare": {"classes": 0}, "common": {"classes": 13}, "frequent": {"classes": 1}}
    figures.plot_ap_by_group(METRICS, "unused", group_sizes=sizes)
    (axes,) = drawn[0].axes
    assert [bar.get_height() for bar in axes.containers[1]] == [36.8, 0, 38.1, 45.7]
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["44.1", "n/a", "40.2", "51.3", "36.8", "n/a", "38.1", "45.7"]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["all classes", "rare\n0 classes", "common\n13 classes", "frequent\n1 class"]


def test_ap_figure_without_metrics_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got \['box_proposals'\]"):
        figures.plot_ap_by_group({"box_proposals": {}}, tmp_path / "figure.png")


def write_rates(path: Path) -> Path:
    """Three classes, rare to frequent, at iterations 0, 50 and 100; the rare one's rate grows."""
    lines = ["class_id,name,group,training_images,training_instances,iteration,value"]
    for iteration in (100, 0, 50):  # in no particular order
        for k, (name, group, images) in enumerate(
            [("ant", "frequent", 300), ("bee", "common", 40), ("eel", "rare", 2)]
        ):
            value = 0.5 + k * iteration / 1000
            lines.append(f"{k},{name},{group},{images},{2 * images},{iteration},{value}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rates_figure_has_start_and_end_of_each_class_and_the_course_of_each_group(
    drawn: list, tmp_path: Path
) -> None:
    figures.plot_meta_rates(write_rates(tmp_path / "meta_rates.csv"), "unused")
    by_class, over_time = drawn[0].axes
    marks = [
        (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in by_class.get_lines()
    ]
    assert marks == [
        ([2.0], [0.5]),
        ([2.0], [pytest.approx(0.7)]),
        ([40.0], [0.5]),
        ([40.0], [pytest.approx(0.6)]),
        ([300.0], [0.5]),
        ([300.0], [0.5]),
    ]
    assert [line.get_label() for line in over_time.get_lines()] == ["rare", "common", "frequent"]
    rare = over_time.get_lines()[0]
    assert rare.get_xdata().tolist() == [0, 50, 100]
    assert rare.get_ydata() == pytest.approx([0.5, 0.6, 0.7])


def test_rates_figure_of_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "meta_rates.csv").write_text("class_id,iteration,value\n")
    with pytest.raises(ValueError, match="has none"):
        figures.plot_meta_rates(tmp_path / "meta_rates.csv", tmp_path / "figure.png")


def test_figures_are_written_as_png(statistics: ClassStatistics, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures.plot_class_frequency(statistics.to_dict(), tmp_path / "new" / "a.png")
    figures.plot_ap_by_group({"bbox": METRICS["bbox"]}, tmp_path / "b.png")
    figures.plot_meta_rates(write_rates(tmp_path / "meta_rates.csv"), tmp_path / "c.png")
    for path in (tmp_path / "new" / "a.png", tmp_path / "b.png", tmp_path / "c.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_table_names_groups_ends_and_empty_classes(statistics: ClassStatistics) -> None:
    text = format_class_statistics(statistics, num_listed=2)
    rows = [line.split() for line in text.splitlines()]
    assert ["rare", "3", "0-5", "a", "class", "6", "1.7", "%"] in rows
    assert "groups: rare up to 10 images, common up to 100, frequent more" in text
    assert "DATALOADER.REPEAT_THRESHOLD 0.014 " in text  # eel and dog, the rarest two of five
    assert "GROUP_BOUNDS" not in text  # all three groups have classes
    assert "without a sample (1): fox" in text
    assert [row[0] for row in rows if row and row[0] in statistics.class_names] == [
        *("ant", "bee"),
        *("dog", "eel"),
    ]


def test_table_of_a_set_without_annotations_reads_na() -> None:
    text = format_class_statistics(ClassStatistics.from_dataset_dicts([], 2))
    assert "images n/a" in text
    assert "without a sample (2): 0, 1" in text


def test_table_proposes_bounds_where_a_group_is_empty() -> None:
    labels = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    dicts = [{"annotations": [{"category_id": int(k)}]} for k in labels]
    statistics = ClassStatistics.from_dataset_dicts(dicts, 6)
    text = format_class_statistics(statistics)
    assert "GROUP_BOUNDS [2,4] puts a third of the classes into each group" in text
    assert "now none is common or frequent" in text
    given = ClassStatistics.from_dataset_dicts(dicts, 6, frequency=list("rrccff"))
    assert "groups: those that the annotations say" in format_class_statistics(given)


def test_names_are_no_formulas(drawn: list) -> None:
    labels = {"annotations": [{"category_id": 0}]}
    statistics = ClassStatistics.from_dataset_dicts([labels], 1, class_names=["a$b$" + 30 * "c"])
    figures.plot_class_frequency(statistics.to_dict(), "unused")
    (tick,) = drawn[0].axes[0].get_xticklabels()
    assert tick.get_text() == r"a\$b\$" + 19 * "c" + "…"


def test_csv_has_one_line_for_each_class(statistics: ClassStatistics, tmp_path: Path) -> None:
    write_class_csv(statistics, tmp_path / "classes.csv")
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines[0] == "class_id,category_id,name,group,image_count,instance_count"
    assert lines[2] == "1,n/a,bee,common,40,40"
    assert len(lines) == 7
    write_class_csv(statistics, tmp_path / "classes.csv", category_ids=[7, 9, 11, 12, 20, 30])
    assert (tmp_path / "classes.csv").read_text().splitlines()[2] == "1,9,bee,common,40,40"
