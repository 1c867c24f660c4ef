"""Of a run's folder nothing outside is read, and no mixed set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balms_seg.annotations.class_limits import MAX_CLASSES
from balms_seg.evaluation.output.per_class import read_per_class_json, write_per_class_json
from balms_seg.evaluation.predictions.run_folder import contained, files_of_run
from balms_seg.evaluation.predictions.staged_files import appearing_together

NAME = "matches_segm.npz"


def run_in(folder: Path) -> Path:
    with appearing_together(folder / "inference", "a") as staging:
        (staging / NAME).write_text("matches")
    (folder / "results.json").write_text(json.dumps({"evaluations": {"set": "a"}}))
    return folder


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "inference/../../secret", "link"])
def test_a_path_that_leads_out_is_refused(path: str, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (tmp_path / "secret").write_text("x")
    (run / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"leads out of .*--read-outside"):
        contained(run / path, run)
    assert contained(run / path, run, outside=True)


def test_a_run_under_a_linked_folder_is_read(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    assert [path.name for path in files_of_run(tmp_path / "link", "matches_*.npz")] == [NAME]
    inner = run / "inference" / "inner.npz"
    inner.symlink_to(NAME)
    assert contained(inner, run)


def test_files_that_link_elsewhere_are_refused_unless_told(tmp_path: Path) -> None:
    run, other = run_in(tmp_path / "run"), run_in(tmp_path / "other")
    (run / "inference" / NAME).unlink()
    (run / "inference" / NAME).symlink_to(other / "inference" / NAME)
    with pytest.raises(ValueError, match="leads out of"):
        files_of_run(run, "matches_*.npz")
    assert files_of_run(run, "matches_*.npz", outside=True)
    assert files_of_run(run / "inference" / NAME, "matches_*.npz")  # named by the user


def test_the_record_is_looked_for_within_the_folder_alone(tmp_path: Path) -> None:
    """A run is judged by its own results.json, not by one that happens to lie above it."""
    run = run_in(tmp_path / "run")
    (tmp_path / "results.json").write_text('{"evaluations": {"set": "outside"}}')
    assert files_of_run(run, "matches_*.npz")
    assert files_of_run(run / "inference", "matches_*.npz")
    (run / "results.json").write_text('{"evaluations": {"set": "b"}}')
    with pytest.raises(ValueError, match="is of another evaluation"):
        files_of_run(run, "matches_*.npz")


def test_a_linked_record_is_refused(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (run / "results.json").rename(tmp_path / "record")
    (run / "results.json").symlink_to(tmp_path / "record")
    with pytest.raises(ValueError, match="leads out of"):
        files_of_run(run, "matches_*.npz")


def test_results_of_more_classes_than_there_are_are_refused(tmp_path: Path) -> None:
    """Else a small file would make a page of gigabytes."""
    names = map(str, range(MAX_CLASSES + 1))
    rows = [{"class_id": i, "name": name} for i, name in enumerate(names)]
    write_per_class_json(tmp_path / "per_class_segm.json", rows, task="segm")
    with pytest.raises(ValueError, match=f"at most {MAX_CLASSES} classes in .*per_class_segm"):
        read_per_class_json(tmp_path / "per_class_segm.json")
