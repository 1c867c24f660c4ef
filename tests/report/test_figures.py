"""The figures are drawn from what they are given, empty groups included."""

import re
from pathlib import Path

import pytest

from balms_seg.class_statistics import ClassStatistics
from balms_seg.report import figures

METRICS = {
    "bbox": {"AP": 44.1, "APr": None, "APc": 40.2, "APf": 51.3},
    "segm": {"AP": 36.8, "APr": float("nan"), "APc": 38.1, "APf": 45.7},
}


def test_frequency_figure_has_one_bar_for_each_class_with_an_image(
    statistics: ClassStatistics,
) -> None:
    spec = figures.class_frequency(statistics.to_dict())
    *bars, empty = spec["data"]["values"]
    assert [(bar["left"] + bar["right"]) / 2 for bar in bars] == pytest.approx([1, 2, 3, 4, 5])
    assert [bar["images"] for bar in bars] == [300, 40, 12, 5, 1]
    assert (empty["left"], empty["right"]) == (5.5, 6.5)
    assert spec["encoding"]["y"]["scale"]["type"] == "log"
    assert spec["encoding"]["color"]["scale"]["domain"] == [
        "frequent: 1 class",
        "common: 2 classes",
        "rare: 3 classes",
        "without an image: 1",
    ]
    axis = spec["encoding"]["x"]["axis"]
    assert axis["values"] == [1, 2, 3, 4, 5, 6]
    assert '"1": "ant"' in axis["labelExpr"]
    assert '"6": "fox"' in axis["labelExpr"]


def test_a_hundred_of_many_classes_are_named() -> None:
    labels = [{"annotations": [{"category_id": 0}]}]
    spec = figures.class_frequency(ClassStatistics.from_dataset_dicts(labels, 1203).to_dict())
    named = spec["encoding"]["x"]["axis"]["values"]
    assert len(named) == 100
    assert (named[0], named[-1]) == (1, 1203)


def test_names_of_classes_are_no_code(tmp_path: Path) -> None:
    labels = {"annotations": [{"category_id": 0}]}
    name = "a$b$ 'c' \"d\" \\ <e>"
    statistics = ClassStatistics.from_dataset_dicts([labels], 1, class_names=[name])
    figures.save_figure(figures.class_frequency(statistics.to_dict()), tmp_path / "a.svg")
    assert "a$b$ 'c' \"d\" \\ &lt;e&gt;" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_ap_figure_writes_na_over_an_empty_group() -> None:
    sizes = {"rare": {"classes": 0}, "common": {"classes": 13}, "frequent": {"classes": 1}}
    rows = figures.ap_by_group(METRICS, group_sizes=sizes)["data"]["values"]
    assert [(row["task"], row["AP"]) for row in rows[4:]] == [
        *(("masks", 36.8), ("masks", 0), ("masks", 38.1), ("masks", 45.7)),
    ]
    labels = [row["text"] for row in rows]
    assert labels == ["44.1", "n/a", "40.2", "51.3", "36.8", "n/a", "38.1", "45.7"]
    places = [row["place"] for row in rows[:4]]
    assert places == ["all classes", "rare|0 classes", "common|13 classes", "frequent|1 class"]


def test_ap_figure_without_metrics_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"got \['box_proposals'\]"):
        figures.ap_by_group({"box_proposals": {}})


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
    tmp_path: Path,
) -> None:
    spec = figures.meta_rates(write_rates(tmp_path / "meta_rates.csv"))
    by_class, over_time = spec["hconcat"]
    start, end = (layer["transform"][0]["filter"] for layer in by_class["layer"])
    assert (start, end) == ("datum.iteration == 0", "datum.iteration == 100")
    marks = {
        (row["images"], row["iteration"]): row["value"]
        for row in spec["data"]["values"]
        if row["iteration"] != 50
    }
    assert marks == {
        **{(2.0, 0): 0.5, (2.0, 100): pytest.approx(0.7), (40.0, 0): 0.5},
        **{(40.0, 100): pytest.approx(0.6), (300.0, 0): 0.5, (300.0, 100): 0.5},
    }
    assert over_time["encoding"]["color"]["scale"]["domain"] == ["rare", "common", "frequent"]
    rare = [row for row in over_time["data"]["values"] if row["group"] == "rare"]
    assert [row["iteration"] for row in rare] == [0, 50, 100]
    assert [row["mean"] for row in rare] == pytest.approx([0.5, 0.6, 0.7])


def test_a_group_has_the_band_that_80_percent_of_its_classes_are_in(tmp_path: Path) -> None:
    lines = ["group,training_images,iteration,value"]
    lines += [f"rare,{k},7,{k}" for k in range(11)]  # 0 to 10
    (tmp_path / "meta_rates.csv").write_text("\n".join(lines))
    (point,) = figures.meta_rates(tmp_path / "meta_rates.csv")["hconcat"][1]["data"]["values"]
    assert (point["low"], point["mean"], point["high"]) == (1, 5, 9)


def test_a_class_without_training_images_stands_over_a_tick_for_0(tmp_path: Path) -> None:
    svg = pytest.importorskip("vl_convert").vegalite_to_svg
    lines = ["group,training_images,iteration,value"]
    lines += [f"rare,{images},{k},0.5" for k in (0, 1, 2) for images in (0, 1, 30)]
    (tmp_path / "meta_rates.csv").write_text("\n".join(lines))
    by_class, over_time = figures.meta_rates(tmp_path / "meta_rates.csv")["hconcat"]
    data = figures.meta_rates(tmp_path / "meta_rates.csv")["data"]
    labels = [
        re.findall(r">([\d,.]+)</text>", svg({"data": data, **panel}))
        for panel in (by_class, over_time)
    ]
    assert labels[0][:4] == ["0", "1", "10", "100"]
    assert labels[1][:3] == ["0", "1", "2"]  # iterations, which have no halves


def test_rates_figure_of_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "meta_rates.csv").write_text("class_id,iteration,value\n")
    with pytest.raises(ValueError, match="has none"):
        figures.meta_rates(tmp_path / "meta_rates.csv")


def test_figures_are_written_as_what_their_name_says(
    statistics: ClassStatistics, tmp_path: Path
) -> None:
    pytest.importorskip("vl_convert")
    figures.save_figure(figures.class_frequency(statistics.to_dict()), tmp_path / "new" / "a.png")
    figures.save_figure(figures.ap_by_group({"bbox": METRICS["bbox"]}), tmp_path / "b.pdf")
    rates = write_rates(tmp_path / "meta_rates.csv")
    figures.save_figure(figures.meta_rates(rates), tmp_path / "c.SVG")
    starts = {"new/a.png": b"\x89PNG", "b.pdf": b"%PDF", "c.SVG": b"<svg"}
    for name, start in starts.items():
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"\.png, \.svg or \.pdf, but got figure\.gif"):
        figures.save_figure({}, "figure.gif")
