"""What a run's checkpoints hold, and what --resume and --overwrite do with a used folder."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase, hooks
from runs import (
    assert_same_tensors,
    build_trainer,
    read_checkpoint,
    run_evaluation,
    run_training,
)

from balms_seg.engine import LongTailedTrainer, setup, train
from balms_seg.engine.checkpoints import require_finite
from balms_seg.evaluation import read_results

AVERAGED = {"SOLVER.EMA_DECAY": 0.5, "SOLVER.BASE_LR": 0.01}
CLASSIFIER = "roi_heads.box_predictor.cls_score"


def metrics_of(folder: Path) -> str:
    return json.dumps(read_results(folder / "results.json")["metrics"], sort_keys=True)


def detectron2s_metrics(trainer: LongTailedTrainer, path: Path, folder: Path) -> str:
    """What detectron2's own checkpointer loads from a file, evaluated."""
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    model = LongTailedTrainer.build_model(cfg)
    DetectionCheckpointer(model).load(str(path))
    LongTailedTrainer.test(cfg, model)
    return metrics_of(folder)


def test_detectron2s_own_loader_gets_the_scores_of_results_json(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, **AVERAGED}, tmp_path / "run")
    expected = metrics_of(tmp_path / "run")
    path = tmp_path / "run" / "model_final.pth"
    assert detectron2s_metrics(trainer, path, tmp_path / "again") == expected
    content = read_checkpoint(path)
    differ = [n for n, v in content["model"].items() if not torch.equal(v, content["raw_model"][n])]
    assert differ  # else this test could not tell the two apart


def test_a_resumed_run_trains_the_raw_weights(data: dict[str, object], tmp_path: Path) -> None:
    settings = {
        **data,
        **AVERAGED,
        "DATASETS.TEST": (),
        "SOLVER.MAX_ITER": 4,
        "SOLVER.CHECKPOINT_PERIOD": 2,
    }
    run_training(settings, tmp_path / "whole")
    (tmp_path / "half").mkdir()
    shutil.copy(tmp_path / "whole" / "model_0000001.pth", tmp_path / "half")
    run_training(settings, tmp_path / "half", "--resume")
    one, other = (
        read_checkpoint(tmp_path / part / "model_final.pth") for part in ("whole", "half")
    )
    for key in ("model", "raw_model"):
        assert_same_tensors(one[key], other[key])


class Seen(HookBase):
    """Weights that an evaluation hook of one's own saw."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []


def test_every_evaluation_hook_sees_the_average(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, **AVERAGED, "DATASETS.TEST": (), "SOLVER.MAX_ITER": 3}
    trainer = build_trainer(settings, tmp_path)
    model, seen = trainer.checkpointer.model, []

    class OwnEvalHook(hooks.EvalHook):
        def _do_eval(self) -> None:
            seen.append({name: v.clone() for name, v in model.state_dict().items()})

    trainer.register_hooks([OwnEvalHook(0, dict)])
    train(trainer)
    content = read_checkpoint(tmp_path / "model_final.pth")
    assert len(seen) == 1
    assert_same_tensors(seen[0], content["model"])
    assert_same_tensors(model.state_dict(), content["raw_model"])


@pytest.mark.slow
def test_augmented_evaluation_of_a_run_is_that_of_its_checkpoint(
    data: dict[str, object], tmp_path: Path
) -> None:
    augmented = {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (64, 80)}
    settings = {**data, **AVERAGED, **augmented}
    run_training(settings, tmp_path / "run")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    run_evaluation({**settings, **weights}, tmp_path / "again")
    assert metrics_of(tmp_path / "run" / "inference_TTA") == metrics_of(
        tmp_path / "again" / "inference_TTA"
    )


def test_tau_normalised_weights_are_written_as_they_were_measured(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, "DATASETS.TEST": ()}, tmp_path / "run")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    tau = {"MODEL.INIT_CLASSIFIER": "tau_norm", **weights}
    run_evaluation({**data, **tau}, tmp_path / "tau")
    path = tmp_path / "tau" / "model_tau_norm.pth"
    settings = {**data, "DATASETS.TEST": data["DATASETS.TEST"]}
    plain = build_trainer(settings, tmp_path / "plain")
    assert detectron2s_metrics(plain, path, tmp_path / "again") == metrics_of(tmp_path / "tau")
    trained = trainer.checkpointer.model.state_dict()[f"{CLASSIFIER}.weight"]
    assert not torch.equal(read_checkpoint(path)["model"][f"{CLASSIFIER}.weight"], trained)


def test_the_best_checkpoint_is_that_of_the_highest_score(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = itertools.chain([10.0, 30.0, 20.0], itertools.repeat(25.0))
    monkeypatch.setattr(
        LongTailedTrainer, "test", lambda *args, **handed: {"segm": {"AP": next(scores)}}
    )
    settings = {
        **data,
        "SOLVER.MAX_ITER": 3,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "TEST.EVAL_PERIOD": 1,
        "TEST.BEST_METRIC": "segm/AP",
    }
    run_training(settings, tmp_path)
    best = read_checkpoint(tmp_path / "model_best.pth")
    assert (best["iteration"], best["best"]["value"]) == (1, 30.0)
    assert_same_tensors(best["model"], read_checkpoint(tmp_path / "model_0000001.pth")["model"])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    run_training({**settings, "SOLVER.MAX_ITER": 4}, tmp_path, "--resume")
    assert read_checkpoint(tmp_path / "model_best.pth")["best"]["value"] == 30.0


def test_a_run_goes_on_from_the_best_checkpoint_after_its_iteration(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an evaluation after training, then one of an evaluation that is made up for."""
    scores = iter([1.0, 2.0, 0.0])
    monkeypatch.setattr(
        LongTailedTrainer, "test", lambda *args, **handed: {"segm": {"AP": next(scores)}}
    )
    settings = {**data, "TEST.EVAL_PERIOD": 2, "TEST.BEST_METRIC": "segm/AP"}
    for value, length in ((1.0, 2), (2.0, 3)):
        run_training({**settings, "SOLVER.MAX_ITER": length}, tmp_path, "--resume")
        best = read_checkpoint(tmp_path / "model_best.pth")
        assert best["best"]["value"] == value
        assert (best["iteration"], best["trainer"]["iteration"]) == (1, 1)


def test_a_metric_that_does_not_exist_is_named(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, "TEST.EVAL_PERIOD": 1, "TEST.BEST_METRIC": "segm/mAP"}
    with pytest.raises(ValueError, match=r"TEST\.BEST_METRIC is 'segm/mAP'.*segm/AP"):
        run_training(settings, tmp_path)


def test_a_used_folder_is_refused_with_the_ways_out(
    data: dict[str, object], tmp_path: Path
) -> None:
    run_training(data, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"--resume .* another OUTPUT_DIR, or --overwrite"):
        build_trainer(data, tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_overwriting_moves_what_was_there(data: dict[str, object], tmp_path: Path) -> None:
    run_training(data, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    old = (tmp_path / "model_final.pth").read_bytes()
    args = arguments_with_overwrite(data, tmp_path)
    setup(args)
    assert (tmp_path / "earlier_run_1" / "model_final.pth").read_bytes() == old
    assert (tmp_path / "earlier_run_1" / "results.json").is_file()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob("*.pth"))


def arguments_with_overwrite(settings: dict[str, object], output: Path, *flags: str) -> object:
    from runs import arguments

    args = arguments(settings, output, *flags)
    args.overwrite = True
    return args


def test_overwriting_and_resuming_contradict_each_other(
    data: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="got both"):
        setup(arguments_with_overwrite(data, tmp_path, "--resume"))


def test_overwriting_does_not_move_the_weights_it_starts_from(
    data: dict[str, object], tmp_path: Path
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path)
    weights = {"MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    with pytest.raises(ValueError, match="another OUTPUT_DIR"):
        setup(arguments_with_overwrite({**data, **weights}, tmp_path))
    assert (tmp_path / "model_final.pth").is_file()


def test_leftovers_are_cleared_at_the_next_start(data: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "model_0000009.pth.partial").write_bytes(b"half")
    build_trainer(data, tmp_path)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SOLVER.OPTIMIZER": "SGD"}, "SOLVER.OPTIMIZER was 'AdamW' and is 'SGD'"),
        ({"MODEL.ROI_BOX_HEAD.FC_DIM": 12}, "had another shape"),
        ({"MODEL.ROI_BOX_HEAD.FC_DIM": 12}, "MODEL.ROI_BOX_HEAD.FC_DIM was 16 and is 12"),
        ({"MODEL.FPN.NORM": "FrozenBN"}, "MODEL.FPN.NORM was 'BN' and is 'FrozenBN'"),
        ({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}, "CLASSIFIER was 'balanced_softmax'"),
        ({"MODEL.TRAIN_ONLY": [CLASSIFIER]}, "parameters trained in"),
        ({"MODEL.INIT_CLASSIFIER": "reset"}, "INIT_CLASSIFIER was 'keep' and is 'reset'"),
    ],
)
def test_resuming_another_run_stops_before_the_data_are_read(
    change: dict,
    named: str,
    data: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = {**data, "DATASETS.TEST": (), "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax"}
    run_training(trained, tmp_path)

    def register(*args: object) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr("balms_seg.engine.run_setup.register_from_config", register)
    with pytest.raises(ValueError, match="--resume would go on from") as error:
        build_trainer({**trained, **change}, tmp_path, "--resume")
    assert named in str(error.value)
    assert "MODEL.WEIGHTS" in str(error.value)


def test_another_setting_of_the_method_is_said_and_taken(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    settings = {
        **data,
        "DATASETS.TEST": (),
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "focal",
        "MODEL.METHODS.FOCAL.GAMMA": 1.5,
    }
    run_training(settings, tmp_path)
    assert not any("from here on" in message for message in log.messages)
    changed = {**settings, "MODEL.METHODS.FOCAL.GAMMA": 2.5, "SOLVER.MAX_ITER": 3}
    train(build_trainer(changed, tmp_path, "--resume"), resume=True)
    assert any("FOCAL.GAMMA 1.5 -> 2.5, " in message for message in log.messages)
    assert any("from the checkpoint of iteration 1" in message for message in log.messages)
    assert sum("from here on" in message for message in log.messages) == 1


def test_weights_that_are_not_finite_are_an_error_in_evaluation(
    data: dict[str, object], tmp_path: Path
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path)
    content = read_checkpoint(tmp_path / "model_final.pth")
    content["model"][f"{CLASSIFIER}.bias"][1] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    settings = {**data, "MODEL.WEIGHTS": str(tmp_path / "nan.pth")}
    with pytest.raises(FloatingPointError, match=rf"nan or infinity, for example {CLASSIFIER}"):
        run_evaluation(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


def test_running_statistics_count_as_weights() -> None:
    model = torch.nn.BatchNorm1d(2)
    require_finite(model)
    model.running_var[1] = float("inf")
    with pytest.raises(FloatingPointError, match="running_var"):
        require_finite(model)


def in_another_order(path: Path) -> None:
    content = json.loads(path.read_text())
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], reversed(names), strict=True):
        category["name"] = name
    path.write_text(json.dumps(content))


def test_classes_travel_and_another_order_is_refused(
    made_up: Callable[[], dict[str, object]], tmp_path: Path
) -> None:
    settings = made_up()
    run_training({**settings, "DATASETS.TEST": ()}, tmp_path / "run")
    path = tmp_path / "run" / "model_final.pth"
    classes = read_checkpoint(path)["classes"]
    assert classes["names"] == ["class 0", "class 1", "class 2"]
    assert classes["category_ids"] == [1, 2, 3]
    assert classes["groups"] == ["frequent", "common", "rare"]
    assert classes["image_counts"] == [6, 2, 1]
    assert classes["instance_counts"] == [6, 2, 1]
    other = made_up()
    for entry in other["DATASETS.REGISTER"]:
        in_another_order(Path(entry[1]))
    with pytest.raises(ValueError, match="another order, from class 0: 'class 0' and 'class 2'"):
        run_evaluation({**other, "MODEL.WEIGHTS": str(path)}, tmp_path / "out")


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[[], dict[str, object]]:
    from made_up_data import write_data_sets

    folders = iter(range(100))
    return lambda: write_data_sets(tmp_path / f"data_{next(folders)}")


def test_a_run_does_not_write_over_the_weights_that_it_starts_from(
    data: dict[str, object], tmp_path: Path
) -> None:
    """A script builds the trainer itself, past the checks of the command."""
    cfg = run_training({**data}, tmp_path).cfg.clone()
    before = (tmp_path / "model_final.pth").read_bytes()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    trainer = LongTailedTrainer(cfg)
    with pytest.raises(ValueError, match="lies in OUTPUT_DIR, where this run would write over it"):
        trainer.resume_or_load(resume=False)
    assert (tmp_path / "model_final.pth").read_bytes() == before
    trainer.resume_or_load(resume=True)  # going on from there is another thing
