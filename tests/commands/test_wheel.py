"""What somebody gets who installs a wheel: everything that training needs, wherever they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from balms_seg.evaluation import read_results

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))


def run(folder: Path, *words: str | Path) -> str:
    """Run a command in a folder outside the checkout, without the checkout on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    job = subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    return job.stdout


def build_wheel(folder: Path) -> Path:
    """Build from a copy of the sources, so that the checkout stays as it is."""
    source = folder / "source"
    source.mkdir()
    for name in ("balms_seg", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet")
    run(folder, *pip, "--wheel-dir", folder, source)
    (wheel,) = folder.glob("balms_seg-*.whl")
    return wheel


@pytest.mark.slow
@pytest.mark.data
def test_a_wheel_in_an_empty_environment_trains_on_real_photographs(
    tmp_path: Path, shared_data: Path
) -> None:
    wheel = build_wheel(tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    python = programs / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--no-compile", *CONSTRAINTS)
    run(tmp_path, *pip, "pip", "setuptools", "wheel")
    run(tmp_path, *pip, "--no-build-isolation", wheel)  # fvcore and iopath are source only
    try:
        run(tmp_path, python, "-c", "import cv2")
    except AssertionError:  # opencv-python needs libGL, which servers lack
        run(tmp_path, *pip, "--no-deps", "--force-reinstall", "opencv-python-headless")
    assert "installed 0.6" in run(
        tmp_path, programs / "balms-seg", "install-detectron2", *CONSTRAINTS
    )

    folder = shared_data / "coco_mini_lvis"
    sets = [
        [f"my_{part}", str(folder / f"coco_mini_lvis_{part}.json"), str(folder)]
        for part in ("train", "val")
    ]
    small = "INPUT.MIN_SIZE_TRAIN (128,) INPUT.MIN_SIZE_TEST 128 INPUT.MAX_SIZE_TEST 192"
    run(
        tmp_path,
        *(programs / "balms-seg", "train", "--num-gpus", "0"),
        *("--config-file", "custom/mask_rcnn_small_cpu.yaml", "DATASETS.REGISTER", str(sets)),
        *("DATASETS.TRAIN", "('my_train',)", "DATASETS.TEST", "('my_val',)"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "80", "SOLVER.MAX_ITER", "4"),
        *("OUTPUT_DIR", "output/my_data", *small.split()),
    )
    record = read_results(tmp_path / "output" / "my_data" / "results.json")
    assert record["metrics"]["my_val"].keys() == {"bbox", "segm"}
    assert (tmp_path / "output" / "my_data" / "model_final.pth").is_file()
