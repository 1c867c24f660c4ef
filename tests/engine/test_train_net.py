"""tools/train_net.py as a command; each call costs seconds, so most are slow tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import assert_same_tensors, command_line, read_checkpoint, run_training

from balms_seg.evaluation import read_results
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING
from balms_seg.model_zoo import get_config_file

ROOT = Path(__file__).resolve().parents[2]
TRAIN_NET = str(ROOT / "tools" / "train_net.py")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run python on the words, with this checkout's package."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # torchrun would choose another number
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=600, env=environment
    )


def test_a_run_of_two_iterations(data: dict[str, object], tmp_path: Path) -> None:
    data = {**data, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.99}  # it finds nothing
    job = run(TRAIN_NET, *command_line(data, tmp_path / "command"))
    assert job.returncode == 0, job.stderr
    log = (tmp_path / "command" / "log.txt").read_text()
    assert "copypaste: Task: segm" in log
    assert "Running with full config" in log
    assert "\x1b" not in log + job.stdout
    before, _, after = job.stdout.partition("Starting training from iteration 0")
    assert len(before.splitlines()) < 20
    groups = r"\(1 rare, 1 common, 1 frequent\)"
    assert re.search(rf"data +\w+_train: \d+ images, \d+ objects, 3 classes {groups}", before)
    assert re.search(r"schedule +iterations 0 to 1 of \d+ images", before)
    results = tmp_path / "command" / "results.json"
    assert after.endswith(f"Results are in {results}. {FINDS_NOTHING}\n")
    here = run_training(data, tmp_path / "here")
    checkpoint = read_checkpoint(tmp_path / "command" / "model_final.pth")
    assert_same_tensors(checkpoint["model"], here.model.state_dict())


@pytest.mark.slow
def test_a_mistake_is_one_message_and_a_failing_exit_status(tmp_path: Path) -> None:
    job = run(
        TRAIN_NET,
        "--config-file",
        get_config_file("toy/base.yaml"),
        "--num-gpus",
        "0",
        "OUTPUT_DIR",
        str(tmp_path / "out"),
        "SOLVER.BASE_LRR",
        "1",
    )
    assert job.returncode not in (0, None)
    assert "SOLVER.BASE_LRR" in job.stderr
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["MODEL.ROI_BOX_HEAD.CLASSIFIER"], "KEY VALUE"),
        (["META_REWEIGHT", "True"], "BALMSROIHeads"),
        (["MODEL.ROI_HEADS.NAME", "SigmoidROIHeads"], "MODEL.ROI_BOX_HEAD.CLASSIFIER"),
        (["OUTPUT_DIR", "/dev/null/out"], "cannot be written"),
        (["--eval-only"], "needs weights"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "5"], "set it to 3"),
    ],
)
def test_mistakes_on_the_command_line(
    words: list[str], named: str, data: dict[str, object], tmp_path: Path
) -> None:
    flags = [word for word in words if word.startswith("--")]
    settings = [word for word in words if not word.startswith("--")]
    job = run(TRAIN_NET, *command_line(data, tmp_path, *flags), *settings)
    assert job.returncode == 1
    assert named in job.stderr
    assert "Traceback" not in job.stderr


@pytest.mark.slow
def test_a_yaml_with_a_python_object_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    config = tmp_path / "evil.yaml"
    config.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{trace}']\n")
    job = run(TRAIN_NET, "--config-file", str(config), "--num-gpus", "0")
    assert job.returncode == 1
    assert "evil.yaml" in job.stderr
    assert not trace.exists()


@pytest.mark.slow
def test_resume_and_evaluation_alone(data: dict[str, object], tmp_path: Path) -> None:
    first = run(TRAIN_NET, *command_line(data, tmp_path))
    resumed = run(TRAIN_NET, *command_line({**data, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume"))
    after_training = read_results(tmp_path / "results.json")
    evaluated = run(TRAIN_NET, *command_line(data, tmp_path, "--eval-only", "--resume"))
    assert [job.returncode for job in (first, resumed, evaluated)] == [0, 0, 0]
    assert "Starting training from iteration 2" in resumed.stdout
    assert after_training["iteration"] == 3
    again = read_results(tmp_path / "results.json")
    assert str(again["metrics"]) == str(after_training["metrics"])
    assert again["iteration"] is None


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

SAVE_EACH_RANK = """
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from balms_seg.engine import LongTailedTrainer, setup, train
from balms_seg.engine.launch import launch

def main(args):
    trainer = LongTailedTrainer(setup(args))
    train(trainer, resume=args.resume)
    content = {
        "parameters": dict(trainer.model.module.named_parameters()),
        "data_loader": trainer.data_loader.state_dict(),
        "local": (comm.get_local_rank(), comm.get_local_size()),
    }
    torch.save(content, f"{trainer.cfg.OUTPUT_DIR}/rank{comm.get_rank()}.pth")

launch(main, default_argument_parser().parse_args())
"""


@pytest.mark.slow
def test_torchrun_joins_two_processes_that_stay_in_step(
    data: dict[str, object], tmp_path: Path
) -> None:
    script, output = tmp_path / "save_each_rank.py", tmp_path / "out"
    script.write_text(SAVE_EACH_RANK)
    job = run(*TORCHRUN, str(script), *command_line(data, output))
    assert job.returncode == 0, job.stderr
    one, other = (read_checkpoint(output / f"rank{rank}.pth") for rank in (0, 1))
    assert_same_tensors(one["parameters"], other["parameters"])
    assert (one["local"], other["local"]) == ((0, 2), (1, 2))
    assert str(one["data_loader"]) == str(other["data_loader"])
    final = read_checkpoint(output / "model_final.pth")["model"]
    assert all(torch.equal(value, final[name]) for name, value in one["parameters"].items())
    assert read_results(output / "results.json")["iteration"] == 2


@pytest.mark.slow
def test_torchrun_runs_the_tool_and_evaluates_once(data: dict[str, object], tmp_path: Path) -> None:
    job = run(*TORCHRUN, TRAIN_NET, *command_line(data, tmp_path))
    assert job.returncode == 0, job.stderr
    assert job.stdout.count("Evaluation results:") == 1
    alone = run(
        TRAIN_NET,
        *command_line(data, tmp_path / "alone", "--eval-only"),
        "MODEL.WEIGHTS",
        str(tmp_path / "model_final.pth"),
    )
    assert alone.returncode == 0, alone.stderr
    metrics = [
        read_results(folder / "results.json")["metrics"]
        for folder in (tmp_path, tmp_path / "alone")
    ]
    assert str(metrics[0]) == str(metrics[1])
