"""Stored box outputs give what the model gives, and the tool tunes on held-out images only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from made_up_data import (
    NUM_CLASSES,
    SMALL,
    made_up_batch,
    made_up_statistics,
    small_config,
    words,
)

from balms_seg.commands.command_line import run_command
from balms_seg.data import register_from_config
from balms_seg.engine import LongTailedTrainer, load_config
from balms_seg.engine.tuning.box_outputs import (
    DetectionRule,
    detect,
    load_box_outputs,
    record_box_outputs,
    save_box_outputs,
)
from balms_seg.engine.tuning.calibration_search import (
    Trial,
    best_temperature,
    best_trial,
    is_validation_set,
)
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


def as_rows(detections: list[dict]) -> list[tuple]:
    rows = []
    for one in detections:
        x, y, width, height = one["bbox"]
        box = (round(v, 2) for v in (x, y, x + width, y + height))
        rows.append((one["image_id"], one["category_id"], round(one["score"], 5), *box))
    return sorted(rows)


@pytest.mark.parametrize("heads", [{}, CASCADE], ids=["standard", "cascade"])
@pytest.mark.parametrize("classifier", ["softmax", "sigmoid"])
def test_calibrating_stored_outputs_is_calibrating_in_the_model(
    data: dict[str, object], tmp_path: Path, classifier: str, heads: dict[str, object]
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
    loader = list(LongTailedTrainer.build_test_loader(plain, plain.DATASETS.TEST[0]))
    outputs = record_box_outputs(model, loader)
    save_box_outputs(tmp_path / "outputs.pth", outputs, about={"dataset": "here"})
    outputs, about = load_box_outputs(tmp_path / "outputs.pth")
    assert about == {"dataset": "here"}
    head = plain.MODEL.ROI_HEADS
    rule = DetectionRule(
        head.SCORE_THRESH_TEST, head.NMS_THRESH_TEST, plain.TEST.DETECTIONS_PER_IMAGE
    )
    assert as_rows(detect(outputs, None, rule)) == detections_of(model, loader)
    predictors = other.roi_heads.box_predictor
    module = (predictors[0] if heads else predictors).calibration
    found = as_rows(detect(outputs, module, rule))
    assert found == detections_of(other, loader)
    assert found != as_rows(detect(outputs, None, rule))


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


def test_the_best_trial_has_the_highest_ap_or_the_lowest_ece() -> None:
    trials = [
        Trial("a", 0.1, {"AP": 3.0, "ECE": 2.0}, {}),
        Trial("b", 0.2, {"AP": 5.0, "ECE": 9.0}, {}),
        Trial("c", 0.3, {"AP": float("nan"), "ECE": float("nan")}, {}),
    ]
    assert best_trial(trials, "AP").method == "b"
    assert best_trial(trials, "ECE").method == "a"


def command(data: dict[str, object], dataset: str, *more: str) -> list[str]:
    settings = {**SMALL, **data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
    base = ["--config-file", get_config_file("toy/base.yaml"), "--num-gpus", "0"]
    return [*base, "--dataset", dataset, *more, *words(settings)]


def test_validation_and_training_sets_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(SystemExit, match="looks like a validation set"):
        run_command("calibrate", command(data, data["DATASETS.TEST"][0]))
    with pytest.raises(SystemExit, match="was trained on"):
        run_command("calibrate", command(data, data["DATASETS.TRAIN"][0]))


@pytest.mark.parametrize("kept", [False, True])
def test_a_model_of_other_classes_is_refused(
    kept: bool, data: dict[str, object], tmp_path: Path
) -> None:
    """By the class names in its checkpoint, or in a file of its outputs."""
    names = ["class 0", "class 2", "class 1"]
    model = build_model(small_config({**data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}))
    content = {"model": model.state_dict(), "classes": {"names": names}}
    torch.save(content, tmp_path / "model.pth")
    about = {"dataset": data["DATASETS.TEST"][0], "classes": names}
    save_box_outputs(tmp_path / "outputs.pth", [], about=about)
    flags = ("--outputs", str(tmp_path / "outputs.pth")) if kept else ()
    words = command(data, data["DATASETS.TEST"][0], "--allow-validation", *flags)
    with pytest.raises(SystemExit, match="differ: another order, from class 1: 'class 2'"):
        run_command("calibrate", [*words, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])


def test_the_tool_writes_a_configuration_that_loads(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert "Chosen by AP" in capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())
    assert set(table["best"]) == {
        *("none", "norcal", "logit_adjustment", "fracal", "tau_norm", "group_temperature")
    }
    assert table["reported"]["none"] == table["trials"][0]["metrics"]
    cfg = load_config(tmp_path / "made" / "calibrated.yaml", words({**SMALL, **data}))
    written = yaml.safe_load((tmp_path / "made" / "calibrated.yaml").read_text())["MODEL"]
    if "ROI_BOX_HEAD" in written:
        chosen = written["ROI_BOX_HEAD"]["CALIBRATION"]["METHOD"]
        assert chosen == cfg.MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD
    else:
        assert cfg.MODEL.INIT_CLASSIFIER == "tau_norm"


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
