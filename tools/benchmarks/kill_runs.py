#!/usr/bin/env python
"""Kill runs with SIGKILL at random moments, resume them, and compare the weights they end with.

tools/benchmarks/kill_runs.py --kills 60 --output kills.json

Every scenario is a stage (a detector as a whole, the reweighter and the sampler that start from it,
an image classifier), a number of data workers and a number of processes. One run of each is left
alone; others are killed, all processes or one of them, and started again with --resume until they
end. Any weight that differs is a failure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from balms_seg.engine import LongTailedTrainer, load_config, setup, train  # noqa: E402
from balms_seg.engine.launch import _create_local_group  # noqa: E402
from balms_seg.glyphs.glyph_config import GlyphConfig  # noqa: E402
from balms_seg.glyphs.glyph_dataset import make_glyph_dataset  # noqa: E402

NUM_CLASSES = 4
GLYPHS = GlyphConfig(
    num_classes=NUM_CLASSES,
    train_images=12,
    min_count=1,
    max_count=8,
    val_images=4,
    size=64,
    seed=0,
)
STAGES = {
    "features": "toy/base.yaml",
    "reweighter": "toy/balms_reweighter.yaml",
    "sampler": "toy/balms_sampler.yaml",
    "images": "classification/base.yaml",
}
SECOND_STAGES = ("reweighter", "sampler")  # start from the features
SCHEDULE = {
    "SEED": 7,
    "DATASETS.TEST": (),
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.WARMUP_ITERS": 4,
    "SOLVER.MAX_ITER": 24,
    "SOLVER.CHECKPOINT_PERIOD": 3,
}
# Of the toy model, smaller still: an iteration is a few hundredths of a second.
SETTINGS = {
    **SCHEDULE,
    "MODEL.ROI_HEADS.NUM_CLASSES": NUM_CLASSES,
    "MODEL.SMALL_RESNET.WIDTHS": [6, 8, 10],
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 64,
    "META.BLOCK": 16,
}
IMAGE_SIZE_PX = 8
IMAGE_SETTINGS = {
    **SCHEDULE,
    "MODEL.DEVICE": "cpu",
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": NUM_CLASSES,
    "INPUT.IMAGES.SIZE": IMAGE_SIZE_PX,
    "INPUT.IMAGES.PADDING": 1,
    "SOLVER.BASE_LR": 0.05,
    "SOLVER.EMA_DECAY": 0.9,
}
_PATIENCE_SECONDS = 60  # for a rank whose partner died


def main() -> None:
    """Kill until there were enough."""
    args = parse_arguments()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    scenarios = list(itertools.product(STAGES, args.workers, args.processes))
    counts = {scenario: [0, 0, 0] for scenario in scenarios}  # kills, sequences, that differed
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder), rng)
        for scenario in itertools.cycle(scenarios):
            if sum(kills for kills, _, _ in counts.values()) >= args.kills:
                break
            kills, differs = harness.sequence(*scenario)
            counts[scenario] = [
                a + b for a, b in zip(counts[scenario], (kills, 1, differs), strict=True)
            ]
            print(f"{scenario}: {kills} kills, {'DIFFERENT' if differs else 'equal'}", flush=True)
    record = {"/".join(map(str, scenario)): numbers for scenario, numbers in counts.items()}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    print("{} kills in {} sequences, {} with other weights at the end".format(*totals))
    if args.output:
        args.output.write_text(json.dumps({"totals": totals, "scenarios": record}, indent=1) + "\n")
    sys.exit(totals[2] > 0)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="data workers")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


class Harness:
    """Starts runs as forks of this process, which has imported everything already."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder, self._rng = folder, rng
        make_glyph_dataset(folder / "glyphs", GLYPHS)
        write_class_folders(folder / "classes", rng)
        self._references: dict[tuple, tuple[dict[str, torch.Tensor], float]] = {}
        self._numbers = itertools.count()

    def sequence(self, stage: str, workers: int, processes: int) -> tuple[int, bool]:
        """Kill and resume one run until it ends; number of kills, whether its weights differ."""
        expected, seconds = self._reference(stage, workers, processes)
        output, kills = self._folder / f"run_{next(self._numbers)}", 0
        while not (output / "model_final.pth").is_file():
            ranks = self._start(stage, output, workers, processes)
            if kills < 8 and not ended(ranks, self._rng.uniform(0, 1.2 * seconds)):
                victims = self._rng.choice([ranks, ranks[:1], ranks[-1:]])
                kill(victims)
                kills += 1
            if not ended(ranks, _PATIENCE_SECONDS + 4 * seconds):
                kill(ranks)
                ended(ranks, _PATIENCE_SECONDS)
        found = final_weights(output)
        return kills, any(not torch.equal(found[name], expected[name]) for name in expected)

    def _reference(self, *scenario: Any) -> tuple[dict[str, torch.Tensor], float]:
        """Weights of a run that was left alone, and how long it took."""
        if scenario not in self._references:
            stage, workers, processes = scenario
            if (
                stage in SECOND_STAGES
                and not (self._folder / "features" / "model_final.pth").is_file()
            ):
                self._finish(self._start("features", self._folder / "features", 0, 1))
            output = self._folder / f"run_{next(self._numbers)}"
            start = time.monotonic()
            self._finish(self._start(stage, output, workers, processes))
            self._references[scenario] = final_weights(output), time.monotonic() - start
        return self._references[scenario]

    def _finish(self, ranks: list[int]) -> None:
        if not ended(ranks, 900):
            raise RuntimeError("A run that was left alone did not end.")

    def _start(self, stage: str, output: Path, workers: int, processes: int) -> list[int]:
        meeting = self._folder / f"rendezvous_{next(self._numbers)}"
        return [
            fork(lambda rank=rank: self._train(stage, output, workers, rank, processes, meeting))
            for rank in range(processes)
        ]

    def _train(
        self, stage: str, output: Path, workers: int, rank: int, processes: int, meeting: Path
    ) -> None:
        if processes > 1:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
            )
            _create_local_group(processes)
        trainer = LongTailedTrainer(setup(self._arguments(stage, output, workers)))
        train(trainer, resume=True)

    def _arguments(self, stage: str, output: Path, workers: int) -> argparse.Namespace:
        if stage == "images":
            place = str(self._folder / "classes")
            data = {**IMAGE_SETTINGS, "DATASETS.REGISTER_IMAGES": [["killed", place, "train"]]}
        else:
            glyphs = self._folder / "glyphs"
            place = [["killed", f"{glyphs}/train.json", f"{glyphs}/train"]]
            data = {**SETTINGS, "DATASETS.REGISTER": place}
        settings = {
            **data,
            "DATASETS.TRAIN": ("killed",),
            "DATALOADER.NUM_WORKERS": workers,
            "OUTPUT_DIR": str(output),
        }
        if stage in SECOND_STAGES:
            settings["MODEL.WEIGHTS"] = str(self._folder / "features" / "model_final.pth")
        words = [word for key, value in settings.items() for word in (key, str(value))]
        config = str(ROOT / "configs" / STAGES[stage])
        load_config(config, words)
        return argparse.Namespace(
            config_file=config, opts=words, resume=True, eval_only=False, num_gpus=0
        )


def write_class_folders(folder: Path, rng: random.Random) -> None:
    """train/CLASS/NUMBER.png: noise, of the first class most."""
    for label in range(NUM_CLASSES):
        (folder / "train" / str(label)).mkdir(parents=True)
        for number in range(12 // (label + 1)):
            pixels = rng.randbytes(3 * IMAGE_SIZE_PX**2)
            image = Image.frombytes("RGB", (IMAGE_SIZE_PX, IMAGE_SIZE_PX), pixels)
            image.save(folder / "train" / str(label) / f"{number}.png")


def fork(function: Any) -> int:
    """Run a function in a child, with its output in a log; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        function()
        status = 0
    except BaseException:
        Path(tempfile.gettempdir(), "kill_runs_error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def kill(ranks: list[int]) -> None:
    """All of them that still run: the number of one that was waited for may be another's by now."""
    for rank in filter(is_running, ranks):
        os.kill(rank, signal.SIGKILL)


def ended(ranks: list[int], seconds: float) -> bool:
    """Wait for all to end; False after so many seconds."""
    deadline = time.monotonic() + seconds
    waiting = [rank for rank in ranks if is_running(rank)]
    while waiting and time.monotonic() < deadline:
        time.sleep(0.005)
        waiting = [rank for rank in waiting if is_running(rank)]
    return not waiting


def is_running(child: int) -> bool:
    """Whether a child has not ended; one that has is forgotten."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def final_weights(output: Path) -> dict[str, torch.Tensor]:
    """Of a run that has ended."""
    return torch.load(output / "model_final.pth", weights_only=True)["model"]


if __name__ == "__main__":
    main()
