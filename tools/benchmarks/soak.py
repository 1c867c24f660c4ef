#!/usr/bin/env python
"""Train a tiny model for thousands of iterations, and say whether its memory grows.

tools/benchmarks/soak.py --iterations 10000 --output soak.json
tools/benchmarks/soak.py --stage images --output soak_images.json

The slope is a line through the second half of the readings; its error comes from the slopes of
consecutive blocks, which are long enough not to know of each other (autocorrelation within them
does no harm). Open descriptors are counted as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "benchmarks"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from detectron2.engine import HookBase  # noqa: E402
from kill_runs import (  # noqa: E402
    GLYPHS,
    IMAGE_SETTINGS,
    SETTINGS,
    STAGES,
    write_class_folders,
)

from balms_seg.engine import LongTailedTrainer, setup  # noqa: E402
from balms_seg.glyphs.glyph_dataset import make_glyph_dataset  # noqa: E402

NUM_BLOCKS = 10
READING_PERIOD = 10  # iterations
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Readings(HookBase):
    """Resident memory and open descriptors of this process, in the course of training."""

    def __init__(self) -> None:
        self.iterations: list[int] = []
        self.memory_bytes: list[int] = []
        self.descriptors: list[int] = []

    def after_step(self) -> None:
        """Take a reading where one is due."""
        if self.trainer.iter % READING_PERIOD == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.iterations.append(self.trainer.iter)
            self.memory_bytes.append(pages * PAGE_BYTES)
            self.descriptors.append(len(os.listdir("/proc/self/fd")))


def slope_with_error(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the second half, and its standard error from that of blocks."""
    x, y = x[len(x) // 2 :], y[len(y) // 2 :]
    blocks = zip(np.array_split(x, NUM_BLOCKS), np.array_split(y, NUM_BLOCKS), strict=True)
    slopes = np.array([np.polyfit(*block, 1)[0] for block in blocks])
    return float(np.polyfit(x, y, 1)[0]), float(slopes.std(ddof=1) / NUM_BLOCKS**0.5)


def write_data(stage: str, folder: Path) -> dict[str, object]:
    """Data of a stage, and settings of a model that trains on them."""
    if stage == "images":
        write_class_folders(folder, random.Random(0))
        return {
            **IMAGE_SETTINGS,
            "DATASETS.REGISTER_IMAGES": [["soak", str(folder), "train"]],
        }
    make_glyph_dataset(folder / "glyphs", GLYPHS)
    place = ["soak", f"{folder}/glyphs/train.json", f"{folder}/glyphs/train"]
    return {**SETTINGS, "DATASETS.REGISTER": [place]}


def main() -> None:
    """Train, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument(
        "--stage", choices=("features", "images"), default="features", help="a detector, or images"
    )
    parser.add_argument("--output", type=Path, metavar="JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    readings = Readings()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **write_data(args.stage, Path(folder)),
            "DATASETS.TRAIN": ("soak",),
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.BASE_LR": 1e-4,
            "SOLVER.MAX_ITER": args.iterations,
            "SOLVER.CHECKPOINT_PERIOD": max(args.iterations // 5, 1),
            "OUTPUT_DIR": f"{folder}/out",
        }
        words = [word for key, value in settings.items() for word in (key, str(value))]
        config = str(ROOT / "configs" / STAGES[args.stage])
        trainer = LongTailedTrainer(
            setup(
                argparse.Namespace(
                    config_file=config, opts=words, resume=False, eval_only=False, num_gpus=0
                )
            )
        )
        trainer.register_hooks([readings])
        trainer.train()
    slope, error = slope_with_error(np.array(readings.iterations), np.array(readings.memory_bytes))
    record = {
        "stage": args.stage,
        "num_iterations": args.iterations,
        "bytes_per_iteration": slope,
        "standard_error": error,
        "descriptors": sorted(set(readings.descriptors[len(readings.descriptors) // 2 :])),
    }
    print(json.dumps(record, indent=1))
    if args.output:
        args.output.write_text(json.dumps(vars(readings) | record, default=str) + "\n")


if __name__ == "__main__":
    main()
