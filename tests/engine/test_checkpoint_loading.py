"""Checkpoints of the authors' release, of detectron2, of other methods, and broken ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from made_up_data import NUM_CLASSES, made_up_batch, small_config
from runs import assert_same_tensors, run_evaluation, run_training
from torch import nn

from balms_seg.engine.checkpoints import LongTailedCheckpointer, checksum
from balms_seg.engine.class_checks import CLASSES_KEY
from balms_seg.engine.normalisation import require_same_normalisation

K = NUM_CLASSES
CLASSIFIER = "roi_heads.box_predictor.cls_score"


def built(method: str, seed: int = 0, **overrides: object) -> nn.Module:
    settings = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0, **overrides}
    torch.manual_seed(seed)
    return build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": method, **settings}))


def detectron2_model(**overrides: object) -> nn.Module:
    """detectron2's own heads."""
    names = {"MODEL.ROI_HEADS.NAME": "StandardROIHeads", "MODEL.PROPOSAL_GENERATOR.NAME": "RPN"}
    return built("", seed=1, **{**names, **overrides})


def released_model() -> nn.Module:
    """With a classifier of K columns under detectron2's names, as the authors' release has it."""
    model = detectron2_model()
    model.roi_heads.box_predictor.cls_score = nn.Linear(16, K)
    return model


def saved(model: nn.Module, path: Path) -> Path:
    torch.save({"model": model.state_dict(), "iteration": 89999}, path)
    return path


def load(model: nn.Module, path: Path) -> LongTailedCheckpointer:
    checkpointer = LongTailedCheckpointer(model)
    checkpointer.resume_or_load(str(path), resume=False)
    return checkpointer


@pytest.fixture
def warnings(log: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                messages.append(record.getMessage())

    handler = Collect()
    logging.getLogger("fvcore").addHandler(handler)
    yield messages
    logging.getLogger("fvcore").removeHandler(handler)


@pytest.mark.parametrize("method", ["sigmoid", "balanced_sigmoid"])
def test_released_checkpoints_load_into_sigmoid_heads_without_conversion(
    method: str, tmp_path: Path, warnings: list[str]
) -> None:
    released, ours = released_model(), built(method)
    checkpointer = load(ours, saved(released, tmp_path / "released.pth"))
    assert warnings == []
    assert checkpointer.absent_parameters == []
    assert_same_tensors(ours.state_dict(), released.state_dict())


@pytest.mark.parametrize("method", ["softmax", "balanced_softmax"])
@pytest.mark.parametrize("agnostic", [True, False])
def test_detectron2s_checkpoints_predict_the_same_in_softmax_heads(
    method: str, agnostic: bool, tmp_path: Path, warnings: list[str]
) -> None:
    regression = {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": agnostic}
    theirs, ours = detectron2_model(**regression).eval(), built(method, **regression).eval()
    nn.init.normal_(theirs.roi_heads.box_predictor.cls_score.weight)  # scores that differ
    checkpointer = load(ours, saved(theirs, tmp_path / "detectron2.pth"))
    assert warnings == []
    assert checkpointer.absent_parameters == []
    with torch.no_grad():
        pairs = zip(theirs(made_up_batch()), ours(made_up_batch()), strict=True)
    for expected, got in pairs:
        expected, got = expected["instances"], got["instances"]
        assert len(expected) > 0
        for name in ("scores", "pred_classes", "pred_masks"):
            assert torch.equal(expected.get(name), got.get(name)), name
        assert torch.equal(expected.pred_boxes.tensor, got.pred_boxes.tensor)


def test_our_checkpoints_load_into_detectron2s_model(tmp_path: Path, warnings: list[str]) -> None:
    ours, theirs = built("softmax"), detectron2_model()
    DetectionCheckpointer(theirs).load(str(saved(ours, tmp_path / "ours.pth")))
    assert warnings == []
    assert_same_tensors(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize(
    ("source", "target"), [("softmax", "balanced_softmax"), ("balanced_sigmoid", "sigmoid")]
)
def test_another_method_with_as_many_columns_loads_everything(
    source: str, target: str, tmp_path: Path, warnings: list[str]
) -> None:
    old, new = built(source, seed=1), built(target)
    load(new, saved(old, tmp_path / "old.pth"))
    assert warnings == []
    assert_same_tensors(old.state_dict(), new.state_dict())


@pytest.mark.parametrize(
    ("source", "target", "columns"),
    [("softmax", "balanced_sigmoid", (K + 1, K)), ("sigmoid", "balanced_softmax", (K, K + 1))],
)
def test_another_number_of_columns_is_reported_and_the_rest_loads(
    source: str, target: str, columns: tuple[int, int], tmp_path: Path, warnings: list[str]
) -> None:
    old, new = built(source, seed=1), built(target)
    initial = {name: value.clone() for name, value in new.state_dict().items()}
    checkpointer = load(new, saved(old, tmp_path / "old.pth"))
    (message,) = [text for text in warnings if "starts from initialisation" in text]
    assert f"{CLASSIFIER} has {columns[0]} columns, the model's {columns[1]}" in message
    assert checkpointer.absent_parameters == [f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"]
    for name, value in new.state_dict().items():
        expected = initial if CLASSIFIER in name else old.state_dict()
        assert torch.equal(value, expected[name]), name


def test_each_stage_of_a_cascade_reports_its_columns(tmp_path: Path, warnings: list[str]) -> None:
    cascade = {"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"}
    old, new = built("softmax", **cascade), built("sigmoid", **cascade)
    load(new, saved(old, tmp_path / "old.pth"))
    reported = [text for text in warnings if "starts from initialisation" in text]
    assert len(reported) == 3
    assert "box_predictor.2.cls_score" in reported[2]


@pytest.mark.parametrize(
    "overrides",
    [
        {"MODEL.SMALL_RESNET.WIDTHS": [5, 7, 9]},
        {"MODEL.SMALL_RESNET.BLOCKS": [1, 1, 2]},
        {"MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone"},
    ],
    ids=["widths", "depth", "resnet_50"],
)
def test_a_checkpoint_of_another_backbone_is_an_error(
    overrides: dict[str, object], tmp_path: Path
) -> None:
    path = saved(built("softmax"), tmp_path / "small.pth")
    more = {"MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4"]}
    more["MODEL.FPN.IN_FEATURES"] = ["res2", "res3", "res4"]
    with pytest.raises(RuntimeError, match="another architecture.*backbone.bottom_up"):
        load(built("softmax", **more, **overrides), path)


def test_another_kind_of_normalisation_is_an_error(data: dict[str, object], tmp_path: Path) -> None:
    """Its parameters have the same names and shapes, but other inputs."""
    run_training(data, tmp_path / "run")
    path = tmp_path / "run" / "model_final.pth"
    checkpoint = torch.load(path, weights_only=False)  # GN needs more channels than these have
    config = checkpoint["config"] = checkpoint["config"].replace("NORM: BN", "NORM: GN")
    assert "NORM: GN" in config
    del checkpoint[checksum.KEY]
    torch.save(checkpoint, tmp_path / "group_norm.pth")
    trained = {**data, "MODEL.WEIGHTS": str(tmp_path / "group_norm.pth")}
    expected = r"trained with MODEL.RESNETS.NORM 'GN', but the configuration has 'BN'"
    with pytest.raises(ValueError, match=expected):
        run_evaluation(trained, tmp_path / "evaluated")
    with pytest.raises(ValueError, match=expected):
        run_training({**trained, "MODEL.TRAIN_ONLY": [CLASSIFIER]}, tmp_path / "second")


@pytest.mark.parametrize(("trained", "evaluated"), [("BN", "FrozenBN"), ("SyncBN", "BN")])
def test_normalisations_of_the_same_numbers_stand_for_each_other(
    trained: str, evaluated: str
) -> None:
    cfg = small_config({"MODEL.RESNETS.NORM": evaluated})
    for norm in (trained, evaluated):
        of_ours = {CLASSES_KEY: {}, "config": f"MODEL: {{RESNETS: {{NORM: {norm}}}}}"}
        require_same_normalisation(cfg, of_ours)
    for of_others in ({}, {CLASSES_KEY: {}}, {"config": {"lr": 1}}, {"config": "[: no yaml"}):
        require_same_normalisation(cfg, of_others)
    with pytest.raises(ValueError, match="'GN'"):
        require_same_normalisation(cfg, {**of_ours, "config": "MODEL: {RESNETS: {NORM: GN}}"})


def test_a_file_without_any_of_the_model_is_an_error(tmp_path: Path) -> None:
    path = saved(nn.Linear(3, 3), tmp_path / "linear.pth")
    with pytest.raises(RuntimeError, match="another architecture"):
        load(built("softmax"), path)


def test_a_detector_without_masks_starts_one_with_masks(tmp_path: Path) -> None:
    boxes_only, ours = built("softmax", seed=1, **{"MODEL.MASK_ON": False}), built("softmax")
    checkpointer = load(ours, saved(boxes_only, tmp_path / "boxes.pth"))
    assert {name.split(".")[1] for name in checkpointer.absent_parameters} == {"mask_head"}


def test_a_truncated_checkpoint_is_named_with_its_size(tmp_path: Path) -> None:
    path = saved(built("softmax"), tmp_path / "model_0000099.pth")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RuntimeError, match="was cut short") as error:
        load(built("softmax"), path)
    assert str(path) in str(error.value)
    assert f"{path.stat().st_size} bytes" in str(error.value)


def test_an_empty_checkpoint_is_named_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "model_0000099.pth"
    path.touch()
    with pytest.raises(RuntimeError, match=r"model_0000099\.pth \(0 bytes\)"):
        load(built("softmax"), path)


def test_evaluation_alone_refuses_a_classifier_at_its_initialisation(
    data: dict[str, object], tmp_path: Path
) -> None:
    path = saved(built("sigmoid"), tmp_path / "sigmoid.pth")
    settings = {**data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax", "MODEL.WEIGHTS": str(path)}
    with pytest.raises(RuntimeError, match="The model would use 2 parameters") as error:
        run_evaluation(settings, tmp_path / "out")
    assert CLASSIFIER in str(error.value)


def test_training_goes_on_from_another_methods_weights(
    data: dict[str, object], tmp_path: Path, warnings: list[str]
) -> None:
    path = saved(built("sigmoid"), tmp_path / "sigmoid.pth")
    settings = {**data, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax", "MODEL.WEIGHTS": str(path)}
    trainer = run_training(settings, tmp_path / "out")
    assert trainer.start_iter == 0
    assert any("starts from initialisation" in text for text in warnings)
