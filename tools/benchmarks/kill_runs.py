#!/usr/bin/env python
"""Kill runs with SIGKILL at random moments, resume them, and compare the weights they end with.

tools/benchmarks/kill_runs.py --kills 5 --output kills.json

Every scenario is a stage (a detector as a whole, the reweighter and the sampler that start from it,
an image classifier), a number of data workers and a number of processes. One run of each is left
alone; others are killed, all processes or one of them, and started again with --resume until they
end. Any weight that differs is a failure, and so is a run that ends with an error without a kill.
The record is written after every run.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from forked_ranks import Rank, ended, finish  # noqa: E402
from PIL import Image  # noqa: E402

from balms_seg.engine import LongTailedTrainer, setup, train  # noqa: E402
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
MOST_KILLS = 8  # of one run
PATIENCE_SECONDS = 60  # for a rank whose partner died

Scenario = tuple[str, int, int]  # stage, data workers, processes


def main() -> None:
    """Kill in every scenario until there were enough."""
    args = parse_arguments()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    scenarios = itertools.product(args.stages, args.workers, args.processes)
    counts = {scenario: [0, 0, 0] for scenario in scenarios}  # kills, runs, that differed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        harness = Harness(Path(folder), rng)
        while behind := [scenario for scenario in counts if counts[scenario][0] < args.kills]:
            for scenario in behind:
                kills, differs = harness.sequence(*scenario)
                new = zip(counts[scenario], (kills, 1, differs), strict=True)
                counts[scenario] = [before + more for before, more in new]
                outcome = "DIFFERENT" if differs else "equal"
                print(f"{scenario}: {kills} kills, {outcome}", flush=True)
                write_record(args.output, counts)
    totals = total(counts)
    print("{} kills in {} runs, {} with other weights at the end".format(*totals))
    sys.exit(totals[2] > 0)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=4, help="at least, in each scenario; default: %(default)s"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="data workers")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


def total(counts: dict[Scenario, list[int]]) -> list[int]:
    """Kills, runs, and runs that differed, over all scenarios."""
    return [sum(column) for column in zip(*counts.values(), strict=True)]


def write_record(path: Path | None, counts: dict[Scenario, list[int]]) -> None:
    """What was found so far, a scenario a line."""
    if path is None:
        return
    lines = [f'  "{"/".join(map(str, each))}": {counts[each]}' for each in counts]
    scenarios = ",\n".join(lines)
    path.write_text(f'{{"totals": {total(counts)},\n "scenarios": {{\n{scenarios}\n }}}}\n')


class Harness:
    """Starts runs as forks of this process, which has imported everything already."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder, self._rng = folder, rng
        make_glyph_dataset(folder / "glyphs", GLYPHS)
        write_class_folders(folder / "classes", rng)
        self._references: dict[tuple, tuple[dict[str, torch.Tensor], float]] = {}
        self._numbers = itertools.count()

    def sequence(self, *scenario: Any) -> tuple[int, bool]:
        """Kill and resume one run until it ends; number of kills, whether its weights differ."""
        expected, seconds = self._reference(*scenario)
        output, kills = self._folder / f"run_{next(self._numbers)}", 0
        while not (output / "model_final.pth").is_file():
            ranks = self._start(output, *scenario)
            if kills == MOST_KILLS or ended(ranks, self._rng.uniform(0, 1.2 * seconds)):
                finish(ranks)
                continue
            for victim in self._rng.choice([ranks, ranks[:1], ranks[-1:]]):
                victim.kill()
            kills += 1
            if not ended(ranks, PATIENCE_SECONDS + 4 * seconds):  # one whose partner died
                for rank in ranks:
                    rank.kill()
                ended(ranks, PATIENCE_SECONDS)
        found = final_weights(output)
        shutil.rmtree(output)
        return kills, any(not torch.equal(found[name], expected[name]) for name in expected)

    def _reference(self, *scenario: Any) -> tuple[dict[str, torch.Tensor], float]:
        """Weights of a run that was left alone, and how long it took."""
        if scenario not in self._references:
            features = self._folder / "features"
            if scenario[0] in SECOND_STAGES and not features.is_dir():
                finish(self._start(features, "features", 0, 1))
            output = self._folder / f"run_{next(self._numbers)}"
            start = time.monotonic()
            finish(self._start(output, *scenario))
            self._references[scenario] = final_weights(output), time.monotonic() - start
        return self._references[scenario]

    def _start(self, output: Path, stage: str, workers: int, processes: int) -> list[Rank]:
        number = next(self._numbers)
        meeting = self._folder / f"rendezvous_{number}"
        return [
            Rank(
                lambda rank=rank: self._train(stage, output, workers, rank, processes, meeting),
                self._folder / f"log_{number}_{rank}.txt",
            )
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


def final_weights(output: Path) -> dict[str, torch.Tensor]:
    """Of a run that has ended."""
    return torch.load(output / "model_final.pth", weights_only=True)["model"]


if __name__ == "__main__":
    main()
