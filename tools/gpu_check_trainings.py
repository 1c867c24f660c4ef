"""Trainings that `gpu_check.py` runs: tables of CIFAR-10-LT, and a detector on several ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gpu_check_part import Part, Row
from gpu_check_place import ROOT, Place
from make_lvis_like import NUM_IMAGES, write_lvis_like, write_photographs

from balms_seg.experiments.table_file import read_plan

# The second starts from the first.
_SMALL_ROWS = ("softmax", "BALMS")
_SMALL = ("--seeds", "1", "--methods", *_SMALL_ROWS, "--num-gpus", "0")
_SHORT = ("SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "2")


def cifar_part(table: str, place: Place, output: Path, minutes: float) -> Part:
    """A table of CIFAR-10-LT, trained in full; elsewhere than on a GPU two of its runs in small.

    Args:
        table: its name.
        place: where it is trained.
        output: folder to write to.
        minutes: for its runs; what they do not finish, they go on with when called again.
    """
    name, runs = f"cifar_{table}", output / "cifar_runs"
    if not place.is_measured:
        table, minutes = "cpu", 9
    file = ROOT / "tools" / "benchmarks" / "tables" / f"cifar_{table}.yaml"
    plan = read_plan(file)
    command = [str(ROOT / "tools" / "compare_methods.py"), "--table", str(file)]
    command += [] if place.is_measured else _SMALL
    command += ["--minutes", f"{minutes:g}", "--output", str(runs)]
    command += [] if place.is_measured else _SHORT
    return Part(
        name=name,
        title=plan.about["title"],
        command=(sys.executable, *command),
        limit_seconds=60 * minutes + 60,
        result=runs / f"{file.stem}.json",
        read=_read_runs,
        settings=("row", "seed"),
        missing=_why_no_cifar(place),
        goes_on=True,
        num_rows=len(plan.runs()) if place.is_measured else len(_SMALL_ROWS),
    )


def _why_no_cifar(place: Place) -> str:
    from balms_seg.data.images.image_sets import read_cifar_subset

    if place.kind == "pretended":
        return "its runs start processes of their own, which know no pretended GPU"
    try:
        read_cifar_subset(10, 200, "exponential")
    except FileNotFoundError as error:
        return str(error)
    return ""


def rank_parts(place: Place, output: Path) -> Iterator[Part]:
    """Trainings of the toy detector through torchrun: NCCL on GPUs, gloo on a CPU."""
    data = output / "ranks_data"
    for ranks in (1, 2):
        missing = ""
        if place.kind == "pretended":
            missing = "there is no pretended NCCL"
        elif place.kind == "gpu" and place.num_devices < ranks:
            missing = f"it needs {ranks} GPUs, but there is {place.num_devices}"
        run = output / f"ranks_{ranks}_run"
        settings: dict[str, object] = {
            "DATASETS.REGISTER": [["ranks", str(data / "made_up.json"), str(data / "images")]],
            "DATASETS.TRAIN": ("ranks",),
            "DATASETS.TEST": ("ranks",),
            "MODEL.ROI_HEADS.NUM_CLASSES": 1203,
            "MODEL.DEVICE": place.device,
            "SOLVER.MAX_ITER": 40 if place.is_measured else 2,
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.AMP.ENABLED": place.is_measured,
            "INPUT.MIN_SIZE_TRAIN": (64,),
            "INPUT.MIN_SIZE_TEST": 64,
            "DATALOADER.NUM_WORKERS": 0,
            "OUTPUT_DIR": str(run),
        }
        words = [word for key, value in settings.items() for word in (key, str(value))]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        train = [str(ROOT / "tools" / "train_net.py"), "--resume", "--num-gpus"]
        train += ["0" if place.kind == "cpu" else "1", "--config-file", "toy/base.yaml"]
        yield Part(
            name=f"ranks_{ranks}",
            title=f"Training and evaluation through torchrun, ranks: {ranks}",
            command=(sys.executable, *launch, *train, *words),
            limit_seconds=place.limited(180),
            result=run / "results.json",
            read=partial(_read_results, ranks),
            settings=("ranks", "iteration", "evaluated"),
            missing=missing,
            prepare=partial(_write_made_up_set, data),
        )


def _write_made_up_set(folder: Path) -> None:
    annotations = folder / "made_up.json"
    if annotations.is_file():
        return
    folder.mkdir(exist_ok=True)
    write_lvis_like(annotations, scale=8 / NUM_IMAGES, shapes=[(64, 96)])
    write_photographs(annotations, folder / "images")


def _read_runs(path: Path) -> list[Row]:
    columns = ("row", "seed", "top1", "top1-many", "top1-medium", "top1-few", "time_seconds")
    runs = json.loads(path.read_text())["runs"]
    return [{column: run.get(column) for column in columns} for run in runs]


def _read_results(ranks: int, path: Path) -> list[Row]:
    results = json.loads(path.read_text())
    tasks = [task for metrics in results["metrics"].values() for task in metrics]
    row = {"ranks": ranks, "iteration": results["iteration"], "evaluated": ", ".join(tasks)}
    return [row | {"seconds": results["time_seconds"]}]
