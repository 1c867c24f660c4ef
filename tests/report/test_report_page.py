"""The page holds what the run has, says what it lacks, and fetches nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from report_runs import DATASET, NAMES, box_of, write_data, write_run

from balms_seg.commands.command_line import run_command
from balms_seg.evaluation.output.results_file import add_to_results
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.run_comparison import NOTHING_YET
from balms_seg.report.charts import run_color
from balms_seg.report.run_files import names_of, read_run
from balms_seg.report.sections import class_table, compare_in_words
from balms_seg.report.table_sections import _cell

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the plotting library's script takes seconds, and only a browser needs it."""
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections, self.figures, self.links, self.text = [], [], [], []
        self.data = None
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self._in_data = found.get("id") == "data"
        if tag == "section":
            self.sections.append(found["id"])
        if "data-figure" in found:
            self.figures.append(found["data-figure"])
        self.links += [found[key] for key in ("src", "href") if key in found]

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data = json.loads(data)
            self._in_data = False
        self.text.append(data)


def make(folder: Path, *arguments: str) -> _Page:
    json_file, images = write_data(folder / "data")
    run_command(
        "report",
        [str(folder / "run"), *arguments, "--ground-truth", str(json_file)]
        + ["--images", str(images), "--resamples", "20"],
    )
    return _Page((folder / "run" / "report.html").read_text())


def test_a_long_name_of_a_run_breaks_behind_what_joins_its_words() -> None:
    run = SimpleNamespace(name="softmax_1000", groups=("rare",))
    table = class_table([run], [{"title": "AP softmax_1000", "hint": "AP of masks"}])
    assert ">AP softmax_<wbr>1000</button>" in table


@pytest.mark.usefixtures("without_library")
def test_page_of_a_full_run_has_every_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "meta_rates.csv").write_text(
        "class_id,name,group,training_images,training_instances,iteration,value\n"
        "0,cat,frequent,400,400,10,0.5\n0,cat,frequent,400,400,20,0.4\n3,eel,rare,2,2,20,0.9\n"
    )
    page = make(tmp_path)
    assert page.sections == [
        *("verdict", "headline", "groups", "classes", "errors", "gallery", "labels"),
        "reliability",
        *("curves", "rates", "provenance"),
    ]
    data = json.loads((tmp_path / "data" / "val.json").read_text())
    size = f"{len(data['images'])} images, {len(data['annotations'])} objects"
    assert f"evaluated on {DATASET}: {size}" in page.text
    assert set(page.figures) == set(page.data["figures"])
    assert {"frequency-and-ap", "fates-by-group", "tail-confusion-0", "curve-loss_cls"} <= set(
        page.figures
    )
    rates = page.data["figures"]["learned-rates-0"]["data"]["values"]
    assert [row["value"] for row in rates] == [0.4, 0.9]  # the last of each class
    means = page.data["figures"]["learned-rates-by-iteration-0"]["data"]["values"]
    assert [(row["iteration"], row["group"], row["value"]) for row in means] == [
        *((10, "frequent", 0.5), (20, "frequent", 0.4), (20, "rare", 0.9)),
    ]
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert [row["name"] for row in page.data["classes"]] == list(NAMES)
    assert "0123abc" in "".join(page.text)
    assert capsys.readouterr().out.splitlines() == [
        (tmp_path / "run" / "report.html").as_uri(),
        f"Labels that the model contradicts are in {tmp_path / 'run' / 'suspicious_labels.csv'}.",
    ]


@pytest.mark.usefixtures("without_library")
def test_labels_that_all_runs_contradict_are_listed_surest_first(tmp_path: Path) -> None:
    write_run(tmp_path / "run", confused=3)
    write_run(tmp_path / "other", confused=2)
    page = make(tmp_path, str(tmp_path / "other"))
    assert "labels" in page.sections
    with (tmp_path / "run" / "suspicious_labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == ["1.png", "2.png"]  # the third only one run doubts
    assert {row["kind"] for row in rows} == {"another class"}
    assert {(row["annotated_as"], row["predicted_as"]) for row in rows} == {(NAMES[2], NAMES[0])}
    assert {float(row["score"]) for row in rows} == {0.95}
    assert [float(rows[0][name]) for name in ("x", "y", "width", "height")] == box_of(3)


@pytest.mark.usefixtures("without_library")
def test_chosen_thresholds_are_a_table(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    run_command("thresholds", [str(tmp_path / "run"), "--objective", "f1"])
    page = make(tmp_path)
    assert "thresholds" in page.sections
    with (tmp_path / "run" / "thresholds.csv").open(newline="") as file:
        cat = next(csv.DictReader(file))
    shown = page.text[page.text.index("detections kept") :]
    assert shown[shown.index("cat") + 2].startswith(f"{float(cat['threshold']):.2f} (")


@pytest.mark.parametrize(
    ("score", "shown"), [(0.85, "0.85"), (1.0, "1.00"), (0.004, "0.0040"), (0.0, "0.00")]
)
def test_small_thresholds_keep_their_digits(score: float, shown: str) -> None:
    row = {"threshold": str(score), "threshold_low": "0.00021", "threshold_high": "0.5"}
    assert _cell(row, "threshold") == f"{shown} (0.00021 to 0.50)"


@pytest.mark.usefixtures("without_library")
def test_two_runs_stand_side_by_side_and_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    write_run(tmp_path / "better", confused=1)
    for name, iteration in (("run", 300), ("better", 900)):
        add_to_results(tmp_path / name / "results.json", iteration=iteration)
    page = make(tmp_path, str(tmp_path / "better"))
    text = "".join(page.text)
    assert "Not trained equally long: run for 300 iterations; better for 900 iterations." in text
    assert re.search(r"better against run: AP \+\d\S+ \([^)]*larger than chance\)", text)
    assert re.search(r"APf \+\d\S+ \(classes with objects: 1, not judged\)", text)
    assert [column["title"] for column in page.data["columns"] if column["key"].startswith("ap")][
        :2
    ] == ["AP run", "AP better"]
    axe = page.data["classes"][2]
    assert axe["confused"] == [6, 1]
    assert axe["ap1"] > axe["ap0"]


@pytest.mark.usefixtures("without_library")
def test_groups_of_the_first_run_are_those_of_the_whole_page(tmp_path: Path) -> None:
    """It is the page of a second run that was itself evaluated in the first one's groups."""
    write_run(tmp_path / "run")
    pages, said = {}, "Groups are those of run (training images a class: rare 2-4, common 40-40, "
    for frequency in ("ccrf", "fcrr"):
        write_run(tmp_path / frequency / "better", confused=1, frequency=frequency)
        page = make(tmp_path, str(tmp_path / frequency / "better"))
        text = "".join(page.text[: page.text.index("Can the scores be trusted?")])
        for name in ("reliability-rare", "reliability-common", "reliability-frequent"):
            page.data["figures"].pop(name, None)  # of each run's own detections
        pages[frequency] = text, page.data
        shutil.rmtree(tmp_path / "data")
    assert said not in pages["fcrr"][0]
    sentence = re.search(rf"{re.escape(said)}.*?--group-bounds\)\.", pages["ccrf"][0])
    assert sentence is not None
    assert "its own evaluation had rare 4-4, common 40-400, frequent 2-2, and 2 of 4" in sentence[0]
    assert pages["ccrf"][0].replace(sentence[0], "") == pages["fcrr"][0]
    assert pages["ccrf"][1] == pages["fcrr"][1]


@pytest.mark.usefixtures("without_library")
def test_what_a_run_lacks_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tasks=("bbox",))
    for name in ("metrics.json", "inference/lvis_instances_results.json"):
        (run / name).unlink()
    (run / "inference" / "matches_bbox.npz").unlink()
    page = make(tmp_path)
    assert "curves" not in page.sections
    assert "gallery" not in page.sections
    assert page.sections[:2] == ["verdict", "headline"]
    text = "".join(page.text)
    for sentence in ("No learning curves", "No intervals of boxes", "No pictures"):
        assert sentence in text


@pytest.mark.usefixtures("without_library")
def test_without_ground_truth_the_rest_still_stands(tmp_path: Path) -> None:
    run_command("report", [str(write_run(tmp_path / "run")), "--resamples", "0"])
    page = _Page((tmp_path / "run" / "report.html").read_text())
    assert "errors" not in page.sections
    assert "the annotations of made_up_val are not known" in "".join(page.text)


@pytest.mark.parametrize(
    "name", ["metrics.json", "results.json", "inference", "inference/per_class_segm.json"]
)
def test_links_that_lead_out_of_a_run_are_not_followed(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit, match=r"leads out of .* --read-outside"):
        run_command("report", [str(run), "--resamples", "0"])


@pytest.mark.usefixtures("without_library")
def test_files_that_a_run_names_elsewhere_are_read_only_if_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A results.json may name any file of whoever opens it."""
    run = write_run(tmp_path / "run")
    json_file, images = write_data(tmp_path / "data")
    (run / "inference" / "lvis_instances_results.json").rename(tmp_path / "found.json")
    record = json.loads((run / "results.json").read_text())
    place = str(json_file.parent / ".." / json_file.parent.name / json_file.name)
    record["config"] += f"DATASETS:\n  REGISTER: [[{DATASET}, {place}, {images}]]\n"
    record["detections"] = str(tmp_path / "found.json")
    (run / "results.json").write_text(json.dumps(record))
    for flags, has_pictures in (([], False), (["--read-outside"], True)):
        run_command("report", [str(run), "--resamples", "0", *flags])
        text = (run / "report.html").read_text()
        assert ('id="gallery"' in text) == has_pictures
        assert ("is not in the folder; --read-outside reads it" in text) != has_pictures
    assert "If the run is yours, add --read-outside" in caplog.text


@pytest.mark.usefixtures("without_library")
def test_what_evaluate_notes_is_read_only_if_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path / "run")
    json_file, images = write_data(tmp_path / "data")
    (run / "inference" / "lvis_instances_results.json").rename(tmp_path / "found.json")
    record = json.loads((run / "results.json").read_text())
    record |= {"detections": str(tmp_path / "found.json"), "annotations": str(json_file)}
    (run / "results.json").write_text(json.dumps(record))
    pictures = [str(run), "--images", str(images), "--output", str(tmp_path / "pictures")]
    run_command("report", [str(run), "--resamples", "0"])
    assert f"{json_file}, is not in its folder. If the run is yours, add" in caplog.text
    assert 'id="errors"' not in (run / "report.html").read_text()
    with pytest.raises(SystemExit, match="--read-outside reads it"):
        run_command("visualize results", pictures)
    run_command("report", [str(run), "--resamples", "0", "--read-outside"])
    assert 'id="errors"' in (run / "report.html").read_text()
    run_command("visualize results", [*pictures, "--read-outside"])
    assert len(list((tmp_path / "pictures").iterdir())) == len(list(images.iterdir()))


@pytest.mark.usefixtures("without_library")
def test_of_equal_runs_none_is_the_best(tmp_path: Path) -> None:
    write_run(tmp_path / "other")
    write_run(tmp_path / "run")
    make(tmp_path, str(tmp_path / "other"))
    assert 'class="best"' not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(("ap", "is_early"), [(0.0, True), (0.009, True), (0.3, False)])
def test_differences_of_runs_that_find_nothing_say_nothing(
    ap: float, is_early: bool, tmp_path: Path
) -> None:
    runs = [read_run(write_run(tmp_path / name)) for name in ("run", "other")]
    same = dict.fromkeys(("AP", "APr", "APc", "APf"), Difference(ap, ap, 0, 0, num_classes=4))
    assert (NOTHING_YET in compare_in_words(runs, [same])) == is_early


def test_a_data_set_named_after_a_path_leads_nowhere(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_run(tmp_path / "other")
    record = json.loads((run / "results.json").read_text())
    record["metrics"] = {"../../other/inference": next(iter(record["metrics"].values()))}
    (run / "results.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="leads out of"):
        run_command("report", [str(run), "--resamples", "0"])


@pytest.mark.parametrize("long_name", ["other", "balanced_softmax_of_seed_2"])
def test_long_names_of_runs_stand_below_each_other_in_legends(
    long_name: str, tmp_path: Path
) -> None:
    runs = [read_run(write_run(tmp_path / name)) for name in ("run", long_name)]
    legend = run_color(runs)["legend"]
    assert (legend.get("columns") == 1) == (long_name != "other")
    assert run_color(runs[:1])["legend"] is None


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"is no finished run: it has no results.json"):
        run_command("report", [str(tmp_path)])
    with pytest.raises(SystemExit, match="there is none"):
        run_command("report", [str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="name one of them with --dataset"):
        run_command("report", [str(write_run(tmp_path / "run")), "--dataset", "lvis_v1_val"])


def test_a_repeated_iteration_keeps_its_last_line_and_a_cut_one_is_skipped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with (run / "metrics.json").open("a") as file:
        file.write('{"iteration": 80, "total_loss": 0.5}\n{"iteration": 100, "tot')
    curves = read_run(run).curves
    assert [line["iteration"] for line in curves] == [0, 20, 40, 60, 80]
    assert curves[-1]["total_loss"] == 0.5


def test_names_of_runs_are_as_long_as_it_takes(tmp_path: Path) -> None:
    assert names_of([Path("/a/x"), Path("/b/y")]) == ["x", "y"]
    assert names_of([Path("/a/x"), Path("/b/x")]) == ["a/x", "b/x"]
    moved = Path("/a/x/earlier_evaluation_1")
    assert names_of([Path("/a/x"), moved]) == ["x", "x/earlier_evaluation_1"]
    with pytest.raises(ValueError, match="different folders"):
        names_of([Path("/a/x"), Path("/a/x")])
