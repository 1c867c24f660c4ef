"""What stops a run before it starts, with what to do about it; and how processes are started."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from detectron2.utils import comm
from made_up_data import write_annotated_images, write_data_sets
from runs import arguments, run_training

from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.engine import LongTailedTrainer, load_config, setup
from balms_seg.engine.launch import (
    _create_local_group,
    _ranks_per_machine,
    _signals_forwarded_to_children,
    launch,
)
from balms_seg.model_zoo import get_config_file
from balms_seg.stop_signals import StopSignals


def test_evaluation_alone_without_weights_names_what_is_there(
    data: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"--eval-only needs weights.*MODEL\.WEIGHTS"):
        setup(arguments(data, tmp_path, "--eval-only"))
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(ValueError, match=r"WEIGHTS \S+/model_final\.pth, or --resume"):
        setup(arguments(data, tmp_path, "--eval-only"))


def test_evaluation_alone_of_a_second_stage_does_not_take_the_first_stages_weights(
    data: dict[str, object], tmp_path: Path
) -> None:
    stage_one = tmp_path / "features" / "stage_one.pth"
    stage_one.parent.mkdir()
    stage_one.touch()
    config = tmp_path / "stage_two.yaml"
    stages = {"WEIGHTS": str(stage_one), "STAGE_ONE_CONFIG": "toy/demo.yaml"}
    base = get_config_file("toy/base.yaml")
    config.write_text(yaml.safe_dump({"_BASE_": base, "MODEL": stages}))
    given = arguments(data, tmp_path, "--eval-only")
    given.config_file = str(config)
    with pytest.raises(ValueError, match=r"stage_one\.pth, which the stage before wrote"):
        setup(given)
    given.opts += ["MODEL.WEIGHTS", str(tmp_path / "absent.pth")]
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        setup(given)


def test_weights_that_do_not_exist_are_named(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, "MODEL.WEIGHTS": str(tmp_path / "absent.pth")}
    with pytest.raises(FileNotFoundError, match=r"MODEL\.WEIGHTS is .*absent\.pth"):
        setup(arguments(settings, tmp_path))


@pytest.mark.parametrize("below", ["", "runs/first"])
def test_an_output_folder_that_cannot_be_written_is_named(
    below: str, data: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "a_file").touch()
    output = tmp_path / "a_file" / below
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*a_file.* cannot be written"):
        setup(arguments(data, output))


@pytest.fixture
def made_up(tmp_path: Path) -> dict[str, object]:
    """Data sets that a test may damage."""
    return write_data_sets(tmp_path / "made_up")


def json_of(settings: dict[str, object], part: int = 0) -> Path:
    return Path(settings["DATASETS.REGISTER"][part][1])


def edit(path: Path, **sections: object) -> None:
    """Replace sections of an annotation file; None removes one."""
    content = {**json.loads(path.read_text()), **sections}
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))


def setup_error(settings: dict[str, object], output: Path) -> str:
    with pytest.raises(PreflightError) as error:
        LongTailedTrainer(setup(arguments(settings, output)))
    return str(error.value)


@pytest.mark.parametrize("part", [0, 1])
def test_a_missing_json_is_named(part: int, made_up: dict[str, object], tmp_path: Path) -> None:
    path = json_of(made_up, part)
    path.unlink()
    assert str(path) in setup_error(made_up, tmp_path / "out")


def test_a_truncated_json_is_named(made_up: dict[str, object], tmp_path: Path) -> None:
    path = json_of(made_up)
    path.write_text(path.read_text()[:200])
    assert str(path) in setup_error(made_up, tmp_path / "out")


def test_a_json_without_categories_is_named(made_up: dict[str, object], tmp_path: Path) -> None:
    edit(json_of(made_up), categories=None)
    message = setup_error(made_up, tmp_path / "out")
    assert str(json_of(made_up)) in message
    assert "categories" in message


def test_a_missing_image_folder_is_named(made_up: dict[str, object], tmp_path: Path) -> None:
    folder = Path(made_up["DATASETS.REGISTER"][0][2])
    folder.rename(folder.with_name("moved"))
    assert str(folder) in setup_error(made_up, tmp_path / "out")


def test_a_missing_image_is_named(made_up: dict[str, object], tmp_path: Path) -> None:
    image = Path(made_up["DATASETS.REGISTER"][1][2]) / "2.png"
    image.unlink()
    assert "2.png" in setup_error(made_up, tmp_path / "out")


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_wrong_number_of_classes_is_named_with_the_right_one(
    num_classes: int, made_up: dict[str, object], tmp_path: Path
) -> None:
    settings = {**made_up, "MODEL.ROI_HEADS.NUM_CLASSES": num_classes}
    message = setup_error(settings, tmp_path / "out")
    assert f"MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}; set it to 3" in message


def test_one_error_lists_all_that_is_wrong(made_up: dict[str, object], tmp_path: Path) -> None:
    json_of(made_up, 1).unlink()
    (Path(made_up["DATASETS.REGISTER"][0][2]) / "1.png").unlink()
    message = setup_error({**made_up, "MODEL.ROI_HEADS.NUM_CLASSES": 7}, tmp_path / "out")
    for named in ("val.json", "1.png", "NUM_CLASSES"):
        assert named in message


def test_a_class_without_a_sample_is_trained_with_a_warning(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    settings = write_data_sets(tmp_path / "made_up")
    path = json_of(settings)
    content = json.loads(path.read_text())
    categories = content["categories"]
    categories[2]["name"] = "never seen"  # the warning comes once for each set of names
    edit(path, annotations=[a for a in content["annotations"] if a["category_id"] != 3])
    edit(path, categories=categories)
    edit(json_of(settings, 1), categories=categories)
    trainer = run_training(settings, tmp_path / "out")
    assert trainer.iter == 2
    assert any("never seen" in record.getMessage() for record in log.records)


def test_a_class_without_a_sample_can_be_made_an_error(
    made_up: dict[str, object], tmp_path: Path
) -> None:
    path = json_of(made_up)
    annotations = json.loads(path.read_text())["annotations"]
    edit(path, annotations=[a for a in annotations if a["category_id"] != 3])
    settings = {**made_up, "MODEL.ROI_BOX_HEAD.EMPTY_CLASSES": "error"}
    assert "class 2" in setup_error(settings, tmp_path / "out")


def test_an_image_with_degenerate_polygons_alone_does_not_stop_training(
    made_up: dict[str, object], tmp_path: Path
) -> None:
    path = json_of(made_up)
    annotations = json.loads(path.read_text())["annotations"]
    for annotation in annotations:
        if annotation["image_id"] == 3:
            annotation["segmentation"] = [[5, 5, 5, 5, 5, 5]]
    edit(path, annotations=annotations)
    settings = {**made_up, "SOLVER.MAX_ITER": 4}
    assert run_training(settings, tmp_path / "out").iter == 4


def test_a_set_that_the_catalogue_lacks_is_named(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, "DATASETS.TRAIN": ("made_up_trian",)}
    assert "made_up_trian" in setup_error(settings, tmp_path)


def test_groups_come_from_the_training_set_where_the_evaluation_set_names_none(
    tmp_path: Path,
) -> None:
    settings = write_data_sets(tmp_path / "made_up")
    name, _, _ = settings["DATASETS.REGISTER"][1]
    write_annotated_images(tmp_path / "plain", ((0, 1), (2,)), frequency=None)
    entry = [f"{name}_plain", str(tmp_path / "plain.json"), str(tmp_path / "plain")]
    settings["DATASETS.REGISTER"] = [*settings["DATASETS.REGISTER"], entry]
    settings["DATASETS.TEST"] = (entry[0],)
    results = run_training(settings, tmp_path / "out")._last_eval_results
    groups = {key: results["bbox"][key] for key in ("APr", "APc", "APf")}
    assert not any(value != value for value in groups.values())  # none is nan


def test_the_job_runs_in_this_process_without_gpus() -> None:
    args = Namespace(num_gpus=0, num_machines=1)
    assert launch(lambda given: given is args, args) is True


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("without_gpu")
def test_gpus_on_a_machine_without_are_refused() -> None:
    with pytest.raises(RuntimeError, match="--num-gpus is 8.*--num-gpus 0"):
        launch(print, Namespace(num_gpus=8, num_machines=1))


@pytest.mark.usefixtures("without_gpu")
def test_the_device_of_the_configuration_must_exist(
    data: dict[str, object], tmp_path: Path
) -> None:
    args = arguments({**data, "MODEL.DEVICE": "cuda"}, tmp_path)
    args.num_gpus = 1
    with pytest.raises(RuntimeError, match=r"MODEL\.DEVICE is cuda"):
        setup(args)


def test_several_machines_without_gpus_need_torchrun() -> None:
    with pytest.raises(RuntimeError, match="torchrun"):
        launch(print, Namespace(num_gpus=0, num_machines=2))


@pytest.mark.parametrize(
    ("local_ranks", "expected"), [([0, 1, 2, 3], 4), ([0, 1, 0, 1], 2), ([0, 0], 1), ([0], 1)]
)
def test_ranks_of_a_machine_follow_from_the_local_ranks(
    local_ranks: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ranks_per_machine(local_ranks, monkeypatch) == expected


@pytest.mark.parametrize("local_ranks", [[0, 1, 0], [1, 0], [0, 2], [0, 1, 2, 0, 1]])
def test_local_ranks_that_do_not_count_machines_are_named(
    local_ranks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="set LOCAL_WORLD_SIZE as well"):
        ranks_per_machine(local_ranks, monkeypatch)


def ranks_per_machine(local_ranks: list[int], patch: pytest.MonkeyPatch) -> int:
    """As it follows without LOCAL_WORLD_SIZE."""
    patch.delenv("LOCAL_WORLD_SIZE", raising=False)
    patch.setenv("LOCAL_RANK", "0")
    patch.setattr(dist, "get_world_size", lambda: len(local_ranks))
    patch.setattr(
        dist, "all_gather_object", lambda found, own: found.__setitem__(slice(None), local_ranks)
    )
    return _ranks_per_machine()


def test_several_gpus_for_a_model_on_the_cpu_are_refused_with_the_remedy(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments({**data, "MODEL.DEVICE": "cpu"}, tmp_path)
    args.num_gpus = 2
    monkeypatch.setattr("balms_seg.engine.run_setup.comm.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"MODEL\.DEVICE is cpu; set MODEL\.DEVICE to cuda, or"):
        setup(args)


def report_signals(folder: str) -> None:
    """What a spawned rank does: say that it is there, and which signal it hears."""
    signals = StopSignals()
    with signals.installed(), signals.deferred():
        Path(folder, f"ready_{os.getpid()}").touch()
        for _ in range(3000):
            time.sleep(0.01)
            if signals.heard:
                Path(folder, f"heard_{os.getpid()}").write_text(signals.heard)
                return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded_to_spawned_ranks(number: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=report_signals, args=(str(tmp_path),)) for _ in range(2)]
    before = signal.getsignal(number)
    with _signals_forwarded_to_children():
        for rank in ranks:
            rank.start()
        while len(list(tmp_path.glob("ready_*"))) < len(ranks):
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        for rank in ranks:
            rank.join(30)
    heard = [(tmp_path / f"heard_{rank.pid}").read_text() for rank in ranks]
    assert heard == [signal.Signals(number).name] * 2
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    "form",
    ["_BASE_: {}", "'_BASE_': '{}'", '{{"_BASE_": "{}"}}', "? _BASE_\n: {}", "_BASE_: [{}]"],
)
@pytest.mark.parametrize("scheme", ["https", "http", "detectron2", "s3"])
def test_a_base_at_an_address_is_not_fetched(
    form: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iopath.common.file_io.PathManager.open", None)  # of any handler
    address = f"{scheme}://example.com/base.yaml"
    (tmp_path / "between.yaml").write_text(form.format(address) + "\n")
    (tmp_path / "config.yaml").write_text("SEED: 1\n_BASE_: between.yaml\n")
    with pytest.raises(ValueError, match=rf"_BASE_ is an address, .*{address}; only files"):
        load_config(tmp_path / "config.yaml")


def test_ranks_of_a_machine_are_a_group_of_detectron2s(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.delattr(comm, "create_local_process_group", raising=False)  # that of newer versions
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    monkeypatch.setattr(dist, "get_world_size", lambda: 6)
    monkeypatch.setattr(dist, "get_rank", lambda: 4)
    monkeypatch.setattr(dist, "new_group", lambda ranks: made.append(ranks) or tuple(ranks))
    _create_local_group(2)
    assert made == [[0, 1], [2, 3], [4, 5]]
    assert comm._LOCAL_PROCESS_GROUP == (4, 5)
