"""The files of one evaluation appear together, and a mixed set is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from balms_seg.evaluation.predictions.staged_files import (
    appearing_together,
    evaluation_files,
    recorded_beside,
    require_one_evaluation,
)

NAMES = ("per_class_segm.json", "calibration_segm.json", "matches_segm.npz")


def write(folder: Path, evaluation: str, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        if name.endswith(".npz"):
            np.savez(folder / name, evaluation=np.array(evaluation))
        else:
            (folder / name).write_text(json.dumps({"evaluation": evaluation}))


def test_nothing_is_seen_before_all_is_written(tmp_path: Path) -> None:
    with appearing_together(tmp_path / "inference", "a") as folder:
        write(folder, "a")
        assert not evaluation_files(tmp_path / "inference")
    assert [path.name for path in (tmp_path / "inference").iterdir()] != []
    require_one_evaluation(evaluation_files(tmp_path / "inference"), {"evaluations": {"x": "a"}})
    assert {path.name for path in (tmp_path / "inference").iterdir()} == set(NAMES)


def test_an_evaluation_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, "a")

    def fail() -> None:
        with appearing_together(tmp_path, "b") as folder:
            write(folder, "b")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    require_one_evaluation(evaluation_files(tmp_path), {"evaluations": {"x": "a"}})
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_two_write_beside_each_other_and_the_last_one_stays(tmp_path: Path) -> None:
    with appearing_together(tmp_path, "a") as first:
        write(first, "a")
        with appearing_together(tmp_path, "b") as second:
            write(second, "b")
        require_one_evaluation(evaluation_files(tmp_path), {"evaluations": {"x": "b"}})
    require_one_evaluation(evaluation_files(tmp_path), {"evaluations": {"x": "a"}})


def test_files_of_a_task_that_is_no_longer_evaluated_go(tmp_path: Path) -> None:
    write(tmp_path, "a", (*NAMES, "matches_boundary.npz"))
    with appearing_together(tmp_path, "b") as folder:
        write(folder, "b")
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["another", "none", "broken"])
def test_a_mixed_set_is_refused(name: str, fault: str, tmp_path: Path) -> None:
    write(tmp_path, "a")
    if fault == "broken":
        (tmp_path / name).write_bytes(b"PK\x03\x04 broken")
    elif fault == "none" and name.endswith(".npz"):
        np.savez(tmp_path / name, other=np.zeros(1))
    elif fault == "none":
        (tmp_path / name).write_text("[]")
    else:
        write(tmp_path, "b", (name,))
    with pytest.raises(ValueError, match=f"{name} is of another evaluation than results.json"):
        require_one_evaluation(evaluation_files(tmp_path), {"evaluations": {"x": "a"}})


def test_the_record_is_looked_for_within_the_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"evaluations": {"x": "outside"}}')
    run = tmp_path / "run"
    (run / "inference").mkdir(parents=True)
    file = run / "inference" / "matches_segm.npz"
    assert recorded_beside(file, within=run) == {}
    (run / "results.json").write_text('{"evaluations": {"x": "a"}}')
    assert recorded_beside(file, within=run) == {"evaluations": {"x": "a"}}
