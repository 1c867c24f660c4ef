#!/usr/bin/env python
"""Prove a refactoring: do two checkouts train with exactly the same losses?

Eight small models train for 60 iterations from one seed, in checkout A and in checkout B side by
side, on the same data. Every loss of every iteration is printed with all its digits, then whether
A and B agree in all of them. Exit status: 0 identical, 1 different, 2 a run failed.

Each run is tools/train_net.py of its checkout in a process of its own. A alone makes the data and
the feature stage that the BALMS runs start from.

Example: git worktree add ../before main && python tools/benchmarks/compare_losses.py ../before .
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NUM_ITERS = 60
NUM_CLASSES = 12
SIZE_PX = 64
GLYPHS = (
    f"--classes {NUM_CLASSES} --train-images 60 --min-count 2 --max-count 40 --val-images 12 "
    f"--size {SIZE_PX} --instances-per-image 1 4 --seed 0 --workers 1"
).split()
IMAGE_COUNTS = (16, 8, 4, 2)  # of each class; in batches of 8, 60 iterations are 16 epochs
IMAGE_SIZE_PX = 32
FEATURES = "features.pth"

# The losses of each iteration by name.
Run = list[dict[str, float]]
# What a training writes (see `record`), where to, its scenario and its initial weights ("": drawn).
Job = tuple[str, str, str, str]
# A configuration below configs/ and what is set in it; paths are of the work folder. Both checkouts
# have to understand it, so it holds only names that outlast a restructuring.
Scenario = tuple[str, dict[str, object]]

COMMON = {
    "SEED": 0,
    "DATASETS.TRAIN": "('compared',)",
    "DATASETS.TEST": "()",
    "SOLVER.MAX_ITER": NUM_ITERS,
    "SOLVER.WARMUP_ITERS": 10,
}
BOXES = {
    **COMMON,
    "DATASETS.REGISTER": [["compared", "glyphs/train.json", "glyphs/train"]],
    "MODEL.ROI_HEADS.NUM_CLASSES": NUM_CLASSES,
    "INPUT.MIN_SIZE_TRAIN": f"({SIZE_PX},)",
    "INPUT.MAX_SIZE_TRAIN": SIZE_PX,
    "SOLVER.IMS_PER_BATCH": 4,
}
IMAGES = {
    **COMMON,
    "DATASETS.REGISTER_IMAGES": [["compared", "images", ""]],
    "MODEL.DEVICE": "cpu",
    "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": len(IMAGE_COUNTS),
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.BASE_LR": 0.05,
}


def _boxes(method: str, heads: str = "LongTailedROIHeads") -> Scenario:
    chosen = {"MODEL.ROI_HEADS.NAME": heads, "MODEL.ROI_BOX_HEAD.CLASSIFIER": method}
    return "toy/base.yaml", BOXES | chosen


def _images(method: str) -> Scenario:
    return "classification/base.yaml", IMAGES | {"MODEL.IMAGE_CLASSIFIER.METHOD": method}


SCENARIOS: dict[str, Scenario] = {
    "softmax": _boxes("softmax"),
    "balanced_softmax": _boxes("balanced_softmax"),
    "balanced_sigmoid": _boxes("balanced_sigmoid"),
    "cascade": _boxes("balanced_softmax", heads="CascadeLongTailedROIHeads"),
    "balms_reweighter": ("toy/balms_reweighter.yaml", BOXES | {"MODEL.WEIGHTS": FEATURES}),
    "balms_sampler": ("toy/balms_sampler.yaml", BOXES | {"MODEL.WEIGHTS": FEATURES}),
    "image_balanced_softmax": _images("balanced_softmax"),
    "image_feature_balanced": _images("feature_balanced"),
}


def make_data(checkout: Path, work: Path) -> None:
    """Draw the glyphs with a checkout's tool, and images whose brightness tells the class."""
    tool = str(checkout / "tools" / "make_glyph_dataset.py")
    run_python([tool, "--output", "glyphs", *GLYPHS], checkout, work / "glyphs.log")
    rng = np.random.default_rng(0)
    for label, count in enumerate(IMAGE_COUNTS):
        folder = work / "images" / f"class_{label}"
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)) + 40 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")


def make_weights(checkout: Path, names: list[str], work: Path, folder: Path | None) -> None:
    """Let a checkout write what both sides start from: the features, and what `folder` lacks."""
    missing = [name for name in names if folder is None or not (folder / f"{name}.pth").is_file()]
    jobs: list[Job] = []
    if any(FEATURES in SCENARIOS[name][1].values() for name in missing):
        jobs.append(("final-weights", FEATURES, "softmax", ""))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        jobs += [("initial-weights", f"{folder}/{name}.pth", name, "") for name in missing]
    if jobs:
        run_jobs(jobs, checkout, work / "weights.log")


def train_both(
    places: dict[str, Path], names: list[str], work: Path, folder: Path | None
) -> dict[str, dict[str, Run]]:
    """Train scenarios in A and in B, side by side; scenario -> side -> losses."""

    def train(side: str) -> list[Run]:
        starts = {name: f"{folder}/{name}.pth" if folder else "" for name in names}
        jobs = [("losses", f"{side}_{name}.json", name, starts[name]) for name in names]
        run_jobs(jobs, places[side], work / f"{side}.log")
        return [json.loads((work / path).read_text()) for _, path, _, _ in jobs]

    with ThreadPoolExecutor(len(places)) as pool:
        of_a, of_b = pool.map(train, places)
    return {name: {"A": a, "B": b} for name, a, b in zip(names, of_a, of_b, strict=True)}


def run_jobs(jobs: list[Job], checkout: Path, log: Path) -> None:
    """Train in a checkout, one job after another."""
    run_python([__file__, "--record", str(checkout), json.dumps(jobs)], checkout, log)


def run_python(command: list[str], checkout: Path, log: Path) -> None:
    """Run Python in the log's folder with a checkout's package, and with a cache of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "BALMS_SEG_TRACEBACK": "1",
        "PYTHONPATH": str(checkout),
        "XDG_CACHE_HOME": str(log.parent / "caches" / str(checkout).strip("/")),
    }
    words, both = [sys.executable, *command], subprocess.STDOUT
    with log.open("w") as file:
        run = subprocess.run(words, cwd=log.parent, env=environment, stdout=file, stderr=both)
    if run.returncode:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(
            f"{log.stem} in {checkout} ended with status {run.returncode}:\n  {tail}"
        )


def record_all(checkout: Path, jobs: list[Job]) -> None:
    """Do jobs in forks of this process, which imports once for all what takes long."""
    import detectron2.engine  # noqa: F401

    import balms_seg

    package = Path(balms_seg.__file__).resolve()
    if not package.is_relative_to(checkout):
        sys.exit(f"Expected the package of {checkout}, but Python found {package}.")
    for job in jobs:
        process = multiprocessing.get_context("fork").Process(target=record, args=(checkout, *job))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"The run for {job[1]} failed.")


def record(checkout: Path, what: str, path: str, name: str, weights: str) -> None:
    """Run a checkout's train_net.py in this process, and write something of it to `path`.

    `what`: losses (as json) | initial-weights (nothing is trained) | final-weights.
    """
    import torch
    from detectron2.engine.train_loop import TrainerBase

    train_loop, after_step = TrainerBase.train, TrainerBase.after_step
    run: Run = []

    def train_and_save(trainer: Any, start_iter: int, max_iter: int) -> None:
        if what != "initial-weights":
            train_loop(trainer, start_iter, max_iter)
        if what != "losses":
            torch.save({"model": trainer.checkpointer.model.state_dict()}, f"{path}.partial")
            os.replace(f"{path}.partial", path)

    def note_losses(trainer: Any) -> None:
        latest = {key: of for key, of in trainer.storage.latest().items() if "loss" in key}
        run.append({key: value for key, (value, at) in latest.items() if at == trainer.iter})
        after_step(trainer)

    TrainerBase.train, TrainerBase.after_step = train_and_save, note_losses
    config, settings = SCENARIOS[name]
    settings = {**settings, "OUTPUT_DIR": f"run_{Path(path).stem}"}
    if weights:
        settings["MODEL.WEIGHTS"] = weights
    tool = checkout / "tools" / "train_net.py"
    sys.argv = [str(tool), "--config-file", str(checkout / "configs" / config), "--num-gpus", "0"]
    sys.argv += [str(word) for item in settings.items() for word in item]
    sys.path[0] = str(tool.parent)
    try:
        runpy.run_path(str(tool), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    if what == "losses":
        if len(run) != NUM_ITERS or not all(run):
            sys.exit(f"Expected losses of {NUM_ITERS} iterations, but got {sum(map(bool, run))}.")
        Path(path).write_text(json.dumps(run))


def first_difference(left: Run, right: Run) -> str | None:
    """Where two runs part, in words; None where every digit of every loss agrees."""
    for iteration, (a, b) in enumerate(zip_longest(left, right, fillvalue={})):
        for name in sorted(a.keys() | b.keys()):
            of_a, of_b = (repr(side[name]) if name in side else "absent" for side in (a, b))
            if of_a != of_b:
                return f"iteration {iteration}, {name}: {of_a} in A, {of_b} in B"
    return None


def print_losses(compared: dict[str, dict[str, Run]], differences: dict[str, str | None]) -> None:
    """Every loss with all its digits, one line an iteration; once where both sides agree."""
    for name, runs in compared.items():
        for side, run in runs.items() if differences[name] else [("A=B", runs["A"])]:
            for iteration, losses in enumerate(run):
                values = "  ".join(f"{loss} {value!r}" for loss, value in losses.items())
                print(f"{name} {side} {iteration:2}  {values}")


def main(argv: list[str] | None = None) -> int:
    """Compare two checkouts; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A", help="checkout before the change")
    parser.add_argument("b", type=Path, metavar="B", help="checkout after it")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="default: all eight")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="start both sides from FOLDER/RUN.pth, for a change that alters initial draws by "
        "design; A writes those that are not there, from its own initial draws",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="all losses, as json")
    args = parser.parse_args(argv)
    places = {"A": args.a.resolve(), "B": args.b.resolve()}
    for checkout in places.values():
        if not (checkout / "tools" / "train_net.py").is_file():
            parser.error(f"expected a checkout, but {checkout} has no tools/train_net.py")
    weights = args.weights.resolve() if args.weights else None
    names = args.only or list(SCENARIOS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            print(f"Training {len(names)} runs in {args.a} and in {args.b} ...", file=sys.stderr)
            make_data(places["A"], work)
            make_weights(places["A"], names, work, weights)
            compared = train_both(places, names, work, weights)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    differences = {name: first_difference(runs["A"], runs["B"]) for name, runs in compared.items()}
    print_losses(compared, differences)
    print(f"\n{'run':24}{'losses':>8}  verdict")
    for name, difference in differences.items():
        print(f"{name:24}{sum(map(len, compared[name]['A'])):8}  {difference or 'identical'}")
    if args.output:
        commits = {side: {"path": str(at), "commit": _commit(at)} for side, at in places.items()}
        found = {name: {"difference": differences[name], **compared[name]} for name in compared}
        content = {"checkouts": commits, "iterations": NUM_ITERS, "runs": found}
        args.output.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(differences.values()) else 0


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record_all(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        sys.exit(main())
