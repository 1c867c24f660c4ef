"""The files of one evaluation appear together, and a mixed set is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balms_seg.evaluation.predictions.staged_files import (
    DETECTIONS_FILE,
    MANIFEST,
    appearing_together,
    evaluation_files,
    require_one_evaluation,
)

NAMES = (
    *("per_class_segm.json", "per_class_segm.csv", "calibration_segm.json", "matches_segm.npz"),
    *("predictions_classification.csv", "confusion_classification.csv", DETECTIONS_FILE),
)


def record(evaluation: str) -> dict:
    return {"evaluations": {"set": evaluation, "set without files": None}}


def write(folder: Path, content: str, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        (folder / name).write_text(content)


def evaluate(folder: Path, evaluation: str, names: tuple[str, ...] = NAMES) -> None:
    with appearing_together(folder, evaluation) as staging:
        write(staging, evaluation, names)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_nothing_is_seen_before_all_is_written(tmp_path: Path) -> None:
    with appearing_together(tmp_path / "inference", "a") as folder:
        write(folder, "a")
        assert not evaluation_files(tmp_path / "inference")
    files = evaluation_files(tmp_path / "inference")
    assert names_in(tmp_path / "inference") == {*NAMES, MANIFEST}
    assert {path.name for path in files} == set(NAMES)
    require_one_evaluation(files, record("a"))


def test_an_evaluation_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    evaluate(tmp_path, "a")

    def fail() -> None:
        with appearing_together(tmp_path, "b") as folder:
            write(folder, "b")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    require_one_evaluation(evaluation_files(tmp_path), record("a"))
    assert names_in(tmp_path) == {*NAMES, MANIFEST}


def test_two_write_beside_each_other_and_the_last_one_stays(tmp_path: Path) -> None:
    with appearing_together(tmp_path, "a") as first:
        write(first, "a")
        evaluate(tmp_path, "b")
        require_one_evaluation(evaluation_files(tmp_path), record("b"))
    require_one_evaluation(evaluation_files(tmp_path), record("a"))
    with pytest.raises(ValueError, match="of another evaluation"):
        require_one_evaluation(evaluation_files(tmp_path), record("b"))


@pytest.mark.parametrize("moved", range(len(NAMES)))
def test_a_kill_between_two_renamings_leaves_a_set_that_is_refused(
    moved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(tmp_path, "a")
    renamings = []

    def killed(source: Path, target: Path) -> None:
        if len(renamings) == moved + 1:
            raise KeyboardInterrupt
        renamings.append(source.rename(target))

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, "b")
    for evaluation in ("a", "b"):  # whichever results.json names by then
        with pytest.raises(ValueError, match="is of another evaluation"):
            require_one_evaluation(evaluation_files(tmp_path), record(evaluation))


def test_files_of_a_task_that_is_no_longer_evaluated_go(tmp_path: Path) -> None:
    evaluate(tmp_path, "a", (*NAMES, "matches_boundary.npz"))
    evaluate(tmp_path, "b")
    assert names_in(tmp_path) == {*NAMES, MANIFEST}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("recorded", [{}, record("a")])
def test_a_mixed_set_is_refused(name: str, recorded: dict, tmp_path: Path) -> None:
    evaluate(tmp_path, "a")
    require_one_evaluation(evaluation_files(tmp_path), recorded)
    write(tmp_path, "b", (name,))
    with pytest.raises(ValueError, match=f"{name} is of another evaluation than {MANIFEST}"):
        require_one_evaluation(evaluation_files(tmp_path), recorded)


@pytest.mark.parametrize("manifest", [None, "[]", "{", '{"evaluation": "a", "checksums": 3}'])
def test_files_of_a_recorded_evaluation_need_their_manifest(
    manifest: str | None, tmp_path: Path
) -> None:
    evaluate(tmp_path, "a")
    (tmp_path / MANIFEST).unlink()
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(ValueError, match="is of another evaluation"):
        require_one_evaluation(evaluation_files(tmp_path), record("a"))
    require_one_evaluation(evaluation_files(tmp_path), {})  # a copy of one file, elsewhere


def test_the_manifest_names_the_evaluation(tmp_path: Path) -> None:
    evaluate(tmp_path, "a")
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert content["evaluation"] == "a"
    assert set(content["checksums"]) == set(NAMES)
