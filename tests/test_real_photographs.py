"""The main job on real photographs, short: train, evaluate, resume, evaluate only."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from balms_seg.evaluation import read_results
from balms_seg.model_zoo import get_config_file

ROOT = Path(__file__).resolve().parents[1]
NUM_ITERS, NUM_MORE_ITERS = 12, 4


def _run(shared_data: Path, output: Path, *arguments: str) -> str:
    """tools/train_net.py with nothing but a configuration and words on the command line."""
    folder = shared_data / "coco_mini_lvis"
    sets = [
        [f"my_{split}", str(folder / f"coco_mini_lvis_{split}.json"), str(folder)]
        for split in ("train", "val")
    ]
    command = [
        *(sys.executable, "-W", "ignore", str(ROOT / "tools" / "train_net.py")),
        *("--config-file", get_config_file("custom/mask_rcnn_small_cpu.yaml"), "--num-gpus", "0"),
        *(word for word in arguments if word.startswith("--")),
        *("DATASETS.REGISTER", str(sets)),
        *("DATASETS.TRAIN", "('my_train',)", "DATASETS.TEST", "('my_val',)"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "80", "OUTPUT_DIR", str(output), "SEED", "1"),
        *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128"),
        *(
            "INPUT.MAX_SIZE_TRAIN",
            "192",
            "INPUT.MAX_SIZE_TEST",
            "192",
            "DATALOADER.NUM_WORKERS",
            "0",
        ),
        *(word for word in arguments if not word.startswith("--")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout


def _losses(output: Path) -> dict[int, float]:
    lines = (output / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["iteration"]: r["total_loss"] for r in records if "total_loss" in r}


@pytest.mark.data
def test_a_network_trains_resumes_and_evaluates_on_real_photographs(
    shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    log = _run(shared_data, output, "SOLVER.MAX_ITER", str(NUM_ITERS), "SOLVER.WARMUP_ITERS", "2")
    assert "n/a" in log  # there is no frequent class
    assert "11 of 80 classes" in log or "without" in log  # 11 classes have no training image
    results = read_results(output / "results.json")
    metrics = results["metrics"]["my_val"]
    assert math.isnan(metrics["segm"]["APf"])
    assert math.isfinite(metrics["segm"]["APr"])
    assert results["group_sizes"]["my_val"]["frequent"]["classes"] == 0
    assert results["iteration"] == NUM_ITERS

    more = str(NUM_ITERS + NUM_MORE_ITERS)
    log = _run(shared_data, output, "--resume", "SOLVER.MAX_ITER", more)
    assert f"Starting training from iteration {NUM_ITERS}" in log
    losses = _losses(output)
    assert losses[max(losses)] < losses[min(losses)]

    trained = read_results(output / "results.json")["metrics"]
    weights = str(output / "model_final.pth")
    _run(shared_data, tmp_path / "again", "--eval-only", "MODEL.WEIGHTS", weights)
    again = read_results(tmp_path / "again" / "results.json")["metrics"]
    assert json.dumps(again) == json.dumps(trained)
