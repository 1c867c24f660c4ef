"""What a run says at its end: where the results are, and the commands that come next."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_data import small_config

from balms_seg.engine.run_summary import describe_end
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING
from balms_seg.evaluation.output.results_file import write_results


def ended(folder: str, **settings: object) -> str:
    Path(folder).mkdir(parents=True)
    for name in ("results.json", "model_final.pth"):
        (Path(folder) / name).touch()
    return describe_end(small_config({"OUTPUT_DIR": folder, **settings}))


def test_thresholds_are_chosen_on_images_that_were_not_trained_on(tmp_path: Path) -> None:
    sets = {"DATASETS.TRAIN": ("mine",), "DATASETS.TEST": ("held_out",)}
    said = ended(str(tmp_path / "a"), **sets)
    assert "chosen on held_out: results with them are to be reported on other images" in said
    chosen, predicted = (line.strip() for line in said.splitlines()[-4::2])
    assert chosen == f"balms-seg thresholds {tmp_path / 'a'}"
    file = tmp_path / "a" / "thresholds.yaml"
    command = f"balms-seg predict {tmp_path / 'a'} IMAGES --thresholds {file} --output found"
    assert predicted == command
    said = ended(str(tmp_path / "b"), **{**sets, "DATASETS.TEST": ("mine",)})
    assert "balms-seg thresholds" not in said
    assert f"balms-seg predict {tmp_path / 'b'} IMAGES --output found" in said


def test_a_first_stage_names_those_that_start_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ended("output/toy/feature_softmax")
    for name in ("balms_reweighter", "classifier_balanced_softmax"):
        assert f"balms-seg train --config-file toy/{name}.yaml\n" in said
    assert "a second stage" not in ended("output/toy/another")


@pytest.mark.parametrize("ap", [0.9, 1.1])
def test_a_model_that_finds_next_to_nothing_has_no_next_step(ap: float, tmp_path: Path) -> None:
    metrics = {"mine": {"bbox": {"AP": ap}, "segm": {"AP": 0.2}}}
    write_results(tmp_path / "results.json", metrics=metrics)
    cfg = small_config({"OUTPUT_DIR": str(tmp_path)})
    said = describe_end(cfg)
    assert (FINDS_NOTHING in said) == (ap < 1)
    assert ("balms-seg report" in said) == (ap > 1)
