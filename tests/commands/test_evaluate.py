from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.evaluation import evaluate_lvis, read_results
from balms_seg.evaluation.output.results_file import write_results
from balms_seg.evaluation.uncertainty.stored_runs import load_run

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "evaluation"))

from lvis_cases import (  # noqa: E402
    annotation,
    data_jsons,
    dataset,
    detection,
    ground_truth_as_detections,
    random_case,
)

BOX = [10.0, 10.0, 20.0, 20.0]


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Result file and ground truth of two images."""
    content = dataset([annotation(1, 1, BOX), annotation(2, 2, BOX)], num_images=2)
    found = [detection(1, 1, BOX, 0.5), detection(2, 2, [40, 40, 9, 9], 0.5)]
    return write(tmp_path / "found.json", found), write(tmp_path / "val.json", content)


def test_prints_the_table_and_writes_every_file(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results, ground_truth = files
    run_command(
        "evaluate", [results, "--ground-truth", ground_truth, "--output", str(tmp_path / "out")]
    )
    assert "50.00" in capsys.readouterr().out
    record = read_results(tmp_path / "out" / "results.json")
    metrics = record["metrics"]["val.json"]
    assert list(metrics) == ["bbox", "segm"]
    assert metrics["segm"]["APr"] == pytest.approx(100)
    assert metrics["segm"]["APc"] == 0
    assert record["group_sizes"]["val.json"]["frequent"] == {"classes": 1, "with_ground_truth": 0}
    for task in metrics:
        with (tmp_path / "out" / f"per_class_{task}.csv").open(newline="") as file:
            assert [row["AP"] for row in csv.DictReader(file)] == ["100.0000", "0.0000", "n/a"]


def test_equals_the_function_on_the_same_content(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content, detections = random_case(0)
    arguments = [write(tmp_path / "found.json", detections), "--tasks", "bbox", "--ground-truth"]
    run_command(
        "evaluate", [*arguments, write(tmp_path / "val.json", content), "--output", str(tmp_path)]
    )
    metrics = read_results(tmp_path / "results.json")["metrics"]["val.json"]
    assert list(metrics) == ["bbox"]
    expected = evaluate_lvis(content, detections, "bbox").metrics
    assert metrics["bbox"] == pytest.approx(
        {name: 100 * value for name, value in expected.items()}, nan_ok=True
    )


def test_another_evaluation_in_the_folder_moves_away_whole(
    files: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results, ground_truth = files
    out = tmp_path / "out"
    command = [results, "--ground-truth", ground_truth, "--output", str(out)]
    run_command("evaluate", command)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    run_command("evaluate", command)  # the same, which takes its own place
    assert {path.name for path in out.iterdir()} == set(before)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert not caplog.messages
    write(Path(results), [detection(1, 1, BOX, 0.5)])
    run_command("evaluate", [*command, "--tasks", "bbox"])
    kept = out / "earlier_evaluation_1"
    assert [m for m in caplog.messages if "another evaluation" in m] == [
        f"{out} held the results of another evaluation; they are now in {kept}."
    ]
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not (out / "per_class_segm.csv").exists()
    assert list(load_run(kept)) != list(load_run(out))


def test_results_of_a_training_move_away_with_its_configuration(
    files: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    write_results(run / "results.json", metrics={}, config="SEED: 1\n")
    (run / "inference").mkdir()
    (run / "inference" / "found.csv").write_text("of the training")
    run_command("evaluate", [files[0], "--ground-truth", files[1], "--output", str(run)])
    kept = run / "earlier_evaluation_1"
    assert (kept / "config.yaml").read_text() == "SEED: 1\n"
    assert (kept / "inference" / "found.csv").read_text() == "of the training"
    assert list(load_run(run))


@pytest.mark.parametrize("name", ["inference/found.json", "lvis_instances_results.json"])
def test_detections_are_not_moved_away_by_their_own_evaluation(
    name: str, files: tuple[str, str], tmp_path: Path
) -> None:
    found = tmp_path / "run" / name
    found.parent.mkdir(parents=True)
    found.write_bytes(Path(files[0]).read_bytes())
    with pytest.raises(SystemExit, match="give another --output"):
        run_command(
            "evaluate", [str(found), "--ground-truth", files[1], "--output", str(tmp_path / "run")]
        )
    assert found.is_file()


@pytest.mark.parametrize("option", [["--backend", "lvis"], ["--no-error-kinds"]])
def test_switches_leave_the_numbers_alone(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content, detections = random_case(0, num_images=6)
    arguments = [write(tmp_path / "found.json", detections), "--ground-truth"]
    arguments += [write(tmp_path / "val.json", content), "--output"]
    run_command("evaluate", [*arguments, str(tmp_path / "plain")])
    plain = capsys.readouterr().out
    assert f"Written to {tmp_path / 'plain'}, a folder for balms-seg compare" in plain
    assert "--read-outside --images FOLDER" in plain
    run_command("evaluate", [*arguments, str(tmp_path / "switched"), *option])
    assert capsys.readouterr().out.replace("switched", "plain") == plain
    header = (tmp_path / "switched" / "per_class_segm.csv").read_text().split("\n")[0]
    assert ("missed" in header) == (option != ["--no-error-kinds"])


def test_every_table_that_is_asked_for_is_printed_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content, detections = random_case(0, num_images=6)
    arguments = [write(tmp_path / "found.json", detections), "--ground-truth"]
    arguments += [write(tmp_path / "val.json", content), "--output", str(tmp_path / "out")]
    run_command("evaluate", [*arguments, "--tasks", "bbox", "boundary", "--fixed", "--intervals"])
    out = capsys.readouterr().out
    for words in ("| boundary |", "bbox: AP_fixed ", "APr_pool ", "boundary: 95% intervals"):
        assert words in out
    record = read_results(tmp_path / "out" / "results.json")
    metrics = record["metrics"]["val.json"]
    assert metrics["boundary"]["AP"] < metrics["bbox"]["AP"]
    assert {"ARr", "APf_fixed", "AP_pool"} <= metrics["boundary"].keys()
    low, high = record["intervals"]["val.json"]["bbox"]["AP"]
    assert 0 < low < metrics["bbox"]["AP"] < high < 100
    names = {path.name for path in (tmp_path / "out").iterdir()}
    for task in ("bbox", "boundary"):
        assert {f"per_class_{task}.csv", f"per_class_{task}.json"} <= names
        assert {f"calibration_{task}.json", f"matches_{task}.npz"} <= names


def test_groups_follow_from_the_training_annotations(
    files: tuple[str, str], tmp_path: Path
) -> None:
    """Class 1 occurs in 3 training images, class 2 in 2, class 3 in 1."""
    results, ground_truth = files
    pairs = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 3)]
    training = dataset([annotation(i, k, BOX) for i, k in pairs], num_images=3)
    arguments = [results, "--ground-truth", ground_truth, "--output", str(tmp_path / "out")]
    arguments += ["--training", write(tmp_path / "train.json", training)]
    run_command("evaluate", [*arguments, "--group-bounds", "1", "2"])
    record = read_results(tmp_path / "out" / "results.json")
    assert record["annotations"] == ground_truth
    assert record["training_annotations"] == str(tmp_path / "train.json")
    metrics = record["metrics"]["val.json"]["bbox"]
    assert metrics["APf"] == pytest.approx(100)
    assert metrics["APc"] == 0
    with (tmp_path / "out" / "per_class_bbox.csv").open(newline="") as file:
        assert [row["train_image_count"] for row in csv.DictReader(file)] == ["3", "2", "1"]


def test_registered_data_set_is_found_by_name(
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from balms_seg.data import register_long_tailed_instances
    from balms_seg.data.instances import builtin

    register_long_tailed_instances("evaluate_tool_set", files[1], tmp_path)
    for published, is_said in ((2, False), (5000, True)):
        monkeypatch.setitem(builtin.NUM_IMAGES, "evaluate_tool_set", published)
        run_command("evaluate", [files[0], "--dataset", "evaluate_tool_set"])
        assert "50.00" in capsys.readouterr().out
        said = "has 2 images, but the published file of 'evaluate_tool_set' has 5000"
        assert (said in caplog.text) == is_said
    with pytest.raises(SystemExit, match="'evaluate_tool_sat' is not registered.*evaluate_tool_s"):
        run_command("evaluate", [files[0], "--dataset", "evaluate_tool_sat"])


@pytest.mark.data
@pytest.mark.parametrize("index", [0, 1])
def test_ground_truth_as_results_scores_hundred_on_real_annotations(
    index: int, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = data_jsons(shared_data)[index]
    found = ground_truth_as_detections(json.loads(path.read_text()))
    for one in found:
        one["segmentation"] = {**one["segmentation"], "size": list(one["segmentation"]["size"])}
        one["segmentation"]["counts"] = one["segmentation"]["counts"].decode()
    run_command("evaluate", [write(tmp_path / "found.json", found), "--ground-truth", str(path)])
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("| bbox")]
    assert rows[0].split()[3] == "100.00"


def without(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k != key}


GOOD = detection(1, 1, BOX, 0.5)
SMALL_MASK = {"size": [32, 32], "counts": [0, 32 * 32]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"found\.json is empty \(0 bytes\)"),
        (" \n", r"found\.json is empty \(2 bytes\)"),
        ('[{"image_id": 1, "sc', r"found\.json is not valid json at byte 17 of 20"),
        ('[{"caption": "ä", "sc', r"found\.json is not valid json at byte 19 of 22"),
        ({"metrics": {}}, r"list of detections in .*found\.json.*object with the keys \['metrics'"),
        ([GOOD, 3], r"Detection 1 in .*found\.json .*: Expected every detection to be an object"),
        ([GOOD, without(GOOD, "score")], "Detection 1 .*: Expected 'score' in each"),
        ([{**GOOD, "score": None}], "score None; expected a number"),
        ([{**GOOD, "bbox": [1, 2, 3]}], r"bbox \[1, 2, 3\]; expected \[x, y, width, height\]"),
        ([{**GOOD, "segmentation": "abc"}], "segmentation 'abc'; expected polygons or RLE"),
        ([GOOD, {**GOOD, "score": float("nan")}], "Detection 1 .*: Expected finite scores"),
        ([GOOD, {**GOOD, "image_id": 77}], "image_id 77"),
        ([GOOD, {**GOOD, "category_id": 77}], "category_id 77"),
        ([{**GOOD, "image_id": 77}], "results of another data set"),
        ([{**GOOD, "segmentation": SMALL_MASK}], r"\(64, 64\), but got \(32, 32\)"),
        (
            [GOOD, without(without(GOOD, "bbox"), "segmentation")],
            "Detection 1 .*: Expected 'bbox' or 'segmentation' in each",
        ),
    ],
)
def test_bad_result_files_are_explained(
    files: tuple[str, str], tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        run_command(
            "evaluate", [write(tmp_path / "found.json", content), "--ground-truth", files[1]]
        )


def test_mask_of_the_wrong_size_is_an_error_also_where_its_class_does_not_count(
    files: tuple[str, str], tmp_path: Path
) -> None:
    found = [GOOD, {**GOOD, "category_id": 3, "segmentation": SMALL_MASK}]
    with pytest.raises(SystemExit, match=r"image 1: .*but got \(32, 32\)"):
        run_command("evaluate", [write(tmp_path / "found.json", found), "--ground-truth", files[1]])


def test_no_detections_score_zero_with_a_warning(
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_command("evaluate", [write(tmp_path / "found.json", []), "--ground-truth", files[1]])
    assert "every AP is 0" in caplog.text
    assert capsys.readouterr().out.count(" 0.00 ") >= 6


def test_bad_ground_truth_is_explained(files: tuple[str, str], tmp_path: Path) -> None:
    content = json.loads(Path(files[1]).read_text())
    twice = {**content, "annotations": content["annotations"] + content["annotations"][:1]}
    cut = Path(files[1]).read_text()[:100]
    for bad, message in [(twice, "1 annotation id more than once"), (cut, "at byte .* of 100")]:
        path = write(tmp_path / "bad.json", bad)
        with pytest.raises(SystemExit, match=message):
            run_command("evaluate", [files[0], "--ground-truth", path])
    with pytest.raises(SystemExit, match="Expected a json file at .*absent"):
        run_command("evaluate", [files[0], "--ground-truth", str(tmp_path / "absent.json")])
    with pytest.raises(SystemExit, match="Group bounds need the training images"):
        run_command("evaluate", [files[0], "--ground-truth", files[1], "--group-bounds", "1", "2"])


def test_ground_truth_without_groups_warns_once_and_reads_not_available(
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = json.loads(Path(files[1]).read_text())
    for category in content["categories"]:
        del category["frequency"]
    run_command("evaluate", [files[0], "--ground-truth", write(tmp_path / "val.json", content)])
    assert caplog.text.count("no frequency group") == 1
    assert "unknown 2/3" in capsys.readouterr().out
