"""Calibrations tried beside each other give what the model gives, and gains have to be proven."""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from made_up_data import (
    NUM_CLASSES,
    SMALL,
    made_up_batch,
    made_up_statistics,
    small_config,
    words,
)

from balms_seg.commands import calibrate
from balms_seg.commands.command_line import run_command
from balms_seg.data import register_from_config
from balms_seg.engine import LongTailedTrainer, load_config
from balms_seg.engine.tuning.calibration_run import refuse_unfit_set
from balms_seg.engine.tuning.calibration_search import (
    Result,
    Trial,
    best_result,
    best_temperature,
    choose,
    gains,
    is_validation_set,
)
from balms_seg.engine.tuning.trial_detections import DetectionRule, detect_under
from balms_seg.evaluation import load_ground_truth
from balms_seg.model_zoo import get_config_file
from balms_seg.modeling import prepare_model

NORCAL = {
    "MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD": "norcal",
    "MODEL.ROI_BOX_HEAD.CALIBRATION.STRENGTH": 0.8,
}
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"}


def detections_of(model: torch.nn.Module, loader: list) -> list[tuple]:
    with torch.no_grad():
        found = []
        for inputs in loader:
            for image, output in zip(inputs, model.eval()(inputs), strict=True):
                instances = output["instances"]
                found += [
                    (
                        image["image_id"],
                        int(c),
                        round(float(s), 5),
                        *(round(float(v), 2) for v in b),
                    )
                    for c, s, b in zip(
                        instances.pred_classes,
                        instances.scores,
                        instances.pred_boxes.tensor,
                        strict=True,
                    )
                ]
    return sorted(found)


def as_rows(detections: Iterable[dict]) -> list[tuple]:
    rows = []
    for one in detections:
        x, y, width, height = one["bbox"]
        box = (round(v, 2) for v in (x, y, x + width, y + height))
        rows.append((one["image_id"], one["category_id"], round(one["score"], 5), *box))
    return sorted(rows)


@pytest.mark.parametrize("heads", [{}, CASCADE], ids=["standard", "cascade"])
@pytest.mark.parametrize("classifier", ["softmax", "sigmoid"])
def test_calibrations_beside_each_other_are_calibrating_in_the_model(
    data: dict[str, object], classifier: str, heads: dict[str, object]
) -> None:
    settings = {**data, **heads, "MODEL.ROI_BOX_HEAD.CLASSIFIER": classifier}
    if heads:
        settings["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] = True
    plain, calibrated = small_config(settings), small_config({**settings, **NORCAL})
    register_from_config(plain)
    torch.manual_seed(0)
    model = build_model(plain)
    other = prepare_model(build_model(calibrated), made_up_statistics())
    other.load_state_dict(model.state_dict())  # strict: calibration adds nothing to checkpoints
    name = plain.DATASETS.TEST[0]
    loader = list(LongTailedTrainer.build_test_loader(plain, name))
    head = plain.MODEL.ROI_HEADS
    rule = DetectionRule(
        head.SCORE_THRESH_TEST, head.NMS_THRESH_TEST, plain.TEST.DETECTIONS_PER_IMAGE
    )
    truth = load_ground_truth(MetadataCatalog.get(name).json_file)
    predictors = other.roi_heads.box_predictor
    module = (predictors[0] if heads else predictors).calibration
    calibrations = {"none": None, "norcal": module}
    found = {
        name: as_rows(
            {**one, "category_id": truth.category_ids.index(one["category_id"])}
            for one in table.as_dicts(truth)
        )
        for name, table in detect_under(calibrations, model, loader, rule, truth).items()
    }
    assert found["none"] == detections_of(model, loader)
    assert found["norcal"] == detections_of(other, loader)
    assert found["norcal"] != found["none"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
def test_test_time_augmentation_and_tracing_see_the_calibration(data: dict[str, object]) -> None:
    one_view = {
        "TEST.AUG.MIN_SIZES": (64,),
        "TEST.AUG.MAX_SIZE": 64,
        "TEST.AUG.FLIP": False,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
    }
    cfg = small_config({**data, **NORCAL, **one_view})
    register_from_config(cfg)
    torch.manual_seed(0)
    model = prepare_model(build_model(cfg), made_up_statistics()).eval()
    batch = [{key: image[key] for key in ("image", "height", "width")} for image in made_up_batch()]
    with torch.no_grad():
        calibrated = model(batch)
        augmented = GeneralizedRCNNWithTTA(cfg, model)(batch)
        module = model.roi_heads.box_predictor.calibration
        probabilities = torch.rand(5, NUM_CLASSES + 1).softmax(dim=1)
        traced = torch.jit.trace(module, (probabilities,))
        assert torch.equal(traced(probabilities[:3]), module(probabilities[:3]))
        model.roi_heads.box_predictor.calibration = None
        model.roi_heads.box_predictor.calibrate = None
        plain = model(batch)
    for own, other, before in zip(calibrated, augmented, plain, strict=True):
        scores = own["instances"].scores
        assert torch.allclose(scores, other["instances"].scores)
        assert not torch.allclose(scores, before["instances"].scores[: len(scores)])


def test_names_of_validation_sets_are_recognised() -> None:
    for name in ("lvis_v1_val", "val2017", "glyphs_val", "minival", "coco_2017_test-dev", "VAL"):
        assert is_validation_set(name), name
    for name in ("glyphs_heldout", "lvis_v1_train_part", "interval_train", "valley", "contest"):
        assert not is_validation_set(name), name


def result(name: str, **values: object) -> Result:
    """Percent on all images and without each of four blocks, or on all images alone."""
    arrays = {metric: np.atleast_1d(np.array(value, float)) for metric, value in values.items()}
    return Result(Trial(name, None, {}), arrays)


def test_the_best_result_has_the_highest_ap_or_the_lowest_ece() -> None:
    results = [
        result("a", AP=3.0, ECE=2.0),
        result("b", AP=5.0, ECE=9.0),
        result("c", AP=float("nan"), ECE=float("nan")),
    ]
    assert best_result(results, "AP").trial.name == "b"
    assert best_result(results, "ECE").trial.name == "a"


def test_a_gain_has_to_be_larger_than_chance_for_all_trials_together() -> None:
    plain = result("none", AP=[50, 50, 50, 50, 50], ECE=[9, 9, 9, 9, 9])
    steady = result("steady", AP=[51, 51.02, 50.98, 51.01, 50.99], ECE=[9, 8.5, 9.5, 9, 9])
    wild = result("wild", AP=[54, 56, 52, 53, 55], ECE=[5, 5.01, 4.99, 5, 5])
    assert choose([plain, steady, wild], "AP") is steady  # though wild has the higher AP
    assert choose([plain, steady, wild], "ECE") is wild  # whose errors are lower
    assert choose([plain, wild], "AP") is plain
    (alone,), (first, _) = gains([plain, steady], "AP"), gains([plain, steady, wild], "AP")
    # Jackknife error of [1.02, 0.98, 1.01, 0.99] - 1; Student's quantiles of 3 degrees at 97.5 and
    # 98.75 %, of scipy.stats.t.ppf: 3.182 and 4.177.
    error = np.sqrt(3 * np.var([1.02, 0.98, 1.01, 0.99]))
    assert alone.low == pytest.approx(1 - 3.182 * error, abs=1e-3)
    assert first.low == pytest.approx(1 - 4.177 * error, abs=1e-3)


def test_a_gain_that_rests_on_one_block_is_not_proven() -> None:
    plain, other = result("none", AP=[50, 50, 50, 50]), result("other", AP=[60, 60, 60, 50])
    assert np.isnan(gains([plain, other], "AP")[0].low)
    assert choose([plain, other], "AP") is plain


def command(data: dict[str, object], dataset: str, *more: str) -> list[str]:
    settings = {**SMALL, **data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
    base = ["--config-file", get_config_file("toy/base.yaml"), "--num-gpus", "0"]
    return [*base, "--dataset", dataset, *more, *words(settings)]


def test_validation_and_training_sets_are_refused(data: dict[str, object], tmp_path: Path) -> None:
    weights = tmp_path / "unread.pth"
    weights.touch()
    named = ["MODEL.WEIGHTS", str(weights)]
    with pytest.raises(SystemExit, match="is named like a set that results are reported on"):
        run_command("calibrate", [*command(data, data["DATASETS.TEST"][0]), *named])
    with pytest.raises(SystemExit, match="was trained on"):
        run_command("calibrate", [*command(data, data["DATASETS.TRAIN"][0]), *named])
    train = data["DATASETS.REGISTER"][0]
    again = {**data, "DATASETS.REGISTER": [*data["DATASETS.REGISTER"], ["held_out", *train[1:]]]}
    with pytest.raises(SystemExit, match=r"trained on 6 of 6 images of 'held_out' \("):
        run_command("calibrate", [*command(again, "held_out"), *named])


def test_the_name_that_is_refused_is_that_of_the_set_or_of_its_file(tmp_path: Path) -> None:
    said = "is named like a set"
    for name, file in (("my_val", "held_out.json"), ("my_held_out", "val.json")):
        MetadataCatalog.get(name).json_file = str(tmp_path / file)
        DatasetCatalog.register(name, list)
    cfg = small_config({"DATASETS.TRAIN": ()})
    try:
        with pytest.raises(ValueError, match=f"^'my_val' {said}"):
            refuse_unfit_set("my_val", cfg, allow_validation=False)
        with pytest.raises(ValueError, match=f"^{tmp_path}/val.json, the file .*, {said}"):
            refuse_unfit_set("my_held_out", cfg, allow_validation=False)
    finally:
        for name in ("my_val", "my_held_out"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_weights_that_are_not_there_are_named(data: dict[str, object]) -> None:
    given = command(data, data["DATASETS.TEST"][0], "--allow-validation")
    with pytest.raises(SystemExit, match=r"MODEL\.WEIGHTS is absent\.pth, but there is no such"):
        run_command("calibrate", [*given, "MODEL.WEIGHTS", "absent.pth"])


def test_a_model_of_other_classes_is_refused(data: dict[str, object], tmp_path: Path) -> None:
    """By the class names in its checkpoint."""
    names = ["class 0", "class 2", "class 1"]
    model = build_model(small_config({**data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}))
    content = {"model": model.state_dict(), "classes": {"names": names}}
    torch.save(content, tmp_path / "model.pth")
    words = command(data, data["DATASETS.TEST"][0], "--allow-validation")
    with pytest.raises(SystemExit, match="differ: another order, from class 1: 'class 2'"):
        run_command("calibrate", [*words, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])


def evaluate_box_ap(settings: dict[str, object], model: torch.nn.Module) -> float:
    """Percent, by the evaluation of a run."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = small_config({**settings, "OUTPUT_DIR": folder})
        return LongTailedTrainer.test(cfg, model)["bbox"]["AP"]


def test_the_tool_writes_a_configuration_that_loads(
    data: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    settings = {**data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
    model = build_model(small_config(settings))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    arguments = command(
        data,
        data["DATASETS.TEST"][0],
        *("--allow-validation", "--output", str(tmp_path / "made" / "calibrated.yaml")),
        *("--table", str(tmp_path / "table.json"), "--report-on", data["DATASETS.TEST"][0]),
    )
    run_command("calibrate", [*arguments, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    said = capsys.readouterr().out
    assert "Chosen by AP" in said
    assert f"Wrote {tmp_path}/made/calibrated.yaml.\n" in said  # an AP of 0: no next step
    told = [one.getMessage() for one in caplog.records if "calibration_run" in one.name]
    assert told[0].startswith(
        "27 constants, and the scores as they are, in 6 runs over the 3 images"
    )
    assert [line.split(":")[0] for line in told[1:]] == [f"{n} of 28" for n in range(1, 29)]
    table = json.loads((tmp_path / "table.json").read_text())
    assert set(table["best"]) == {
        *("none", "norcal", "logit_adjustment", "fracal", "tau_norm", "group_temperature")
    }
    assert table["reported"]["none"] == table["trials"][0]["metrics"]
    assert table["chosen"] == "none"  # nothing that an untrained model gains is proven
    assert [len(trial["gain"]) for trial in table["trials"][1:]] == [3] * 27
    result = evaluate_box_ap(settings, model)
    assert table["trials"][0]["metrics"]["AP"] == pytest.approx(result, abs=1e-9)
    cfg = load_config(tmp_path / "made" / "calibrated.yaml", words({**SMALL, **data}))
    assert cfg.MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD == "none"


def test_the_commands_that_come_next_run_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = small_config({"MODEL.DEVICE": "cpu"})  # of the yaml, not of --num-gpus; nothing to test
    output = tmp_path / "calibrated.yaml"
    given = ["--config-file", "toy/base.yaml", "--dataset", "any", "--output", str(output)]
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    calibrate.write_choice(cfg, parser.parse_args([*given, "--import", "mine"]), {}, [])
    evaluate, predict = (shlex.split(line) for line in capsys.readouterr().out.splitlines()[1:3])
    flags = f"--eval-only --import mine --config-file {output} --num-gpus 0"
    assert evaluate[:9] == shlex.split(f"balms-seg train {flags}")
    assert load_config(output, evaluate[9:]).DATASETS.TEST == ("TEST_SET",)
    assert predict[:5] == ["balms-seg", "predict", "--import", "mine", str(output)]


def test_a_calibration_without_the_training_set_is_an_error() -> None:
    model = build_model(small_config(NORCAL)).eval()
    with pytest.raises(FileNotFoundError, match="CALIBRATION.METHOD needs the class counts"):
        prepare_model(model, None)
    with pytest.raises(RuntimeError, match=r"prepare_model\(model, statistics\)"):
        model([{"image": torch.zeros(3, 64, 64)}])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"METHOD": "platt"}, "METHOD is 'platt'"),
        ({"COUNTS": "sampled"}, "COUNTS is 'sampled'"),
        ({"TEMPERATURES": (1.0, 0.0, 1.0)}, "three positive numbers"),
        ({"METHOD": "fracal"}, "DIMENSIONS is empty"),
    ],
)
def test_calibration_keys_are_checked(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config({f"MODEL.ROI_BOX_HEAD.CALIBRATION.{k}": v for k, v in overrides.items()})


@pytest.mark.parametrize("sharpness", [0.7, 1.0, 1.6])
def test_the_temperature_takes_back_what_made_scores_too_sharp(sharpness: float) -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(size=20_000)
    is_right = rng.random(20_000) < 1 / (1 + np.exp(-odds))
    scores = 1 / (1 + np.exp(-sharpness * odds))
    assert best_temperature(scores, is_right) == pytest.approx(sharpness, rel=0.06)
    assert best_temperature(scores[:0], is_right[:0]) == 1
