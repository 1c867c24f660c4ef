"""What `gpu_check.py` runs: commands that exist for themselves, in order of worth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_check_place import ROOT, Place
from make_lvis_like import NUM_IMAGES, write_lvis_like, write_photographs

BENCHMARK = str(ROOT / "tools" / "benchmarks" / "benchmark.py")
Row = dict[str, Any]
_CIFAR_TABLE = "rho200"
_QUIETLY = ("-q", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of its files.
        title: for the page.
        command: words.
        limit_seconds: it is ended after so many.
        result: the file that the command writes.
        read: that file to rows.
        settings: columns that are not measured, which alone are told of a CPU.
        missing: why it cannot run here; empty where it can.
        prepare: what has to be there first.
        goes_on: its command is to be called again, however often it ended well.
    """

    name: str
    title: str
    command: tuple[str, ...]
    limit_seconds: float
    result: Path
    read: Callable[[Path], list[Row]]
    settings: tuple[str, ...]
    missing: str = ""
    prepare: Callable[[], None] | None = None
    goes_on: bool = False


def list_parts(place: Place, output: Path, *, minutes: float) -> list[Part]:
    """All parts, the most telling first.

    Args:
        place: where they run.
        output: folder of what they write.
        minutes: for all of them; the trainings of CIFAR-LT, which can use any time, get half.
    """
    return [
        _tests(place, output),
        *_throughput(place, output),
        *_benchmarks(place, output),
        _cifar(place, output, minutes / 2),
        *_ranks(place, output),
    ]


def _tests(place: Place, output: Path) -> Part:
    result = output / "tests.xml"
    chosen = ["-m", "gpu"]
    if place.kind != "gpu":
        chosen = ["-m", "pretended_gpu", "tests/engine/pretended_gpu/test_device.py"]
    return Part(
        name="tests",
        title="Tests on the device",
        command=(sys.executable, "-m", "pytest", *chosen, *_QUIETLY, f"--junitxml={result}"),
        limit_seconds=240,
        result=result,
        read=_read_tests,
        settings=("test", "outcome"),
    )


def _throughput(place: Place, output: Path) -> Iterator[Part]:
    # Half of the GPUs' users have two images on each; the batches between tell the least.
    batches = (2, 16, 4, 8) if place.is_measured else (2,)
    small = ["--config", "toy/base.yaml", "--short-side", "64", "--photograph", "64", "96"]
    small += ["--workers", "0", "--warmup", "0", "--iterations", "1"]
    for batch in batches:
        for precision in ("float32", "float16", "bfloat16"):
            options = ["--batch", str(batch), "--precision", precision]
            yield _benchmark(
                "throughput",
                f"throughput_{precision}_{batch}",
                f"Training through the loader, {precision}, batch {batch}",
                options if place.is_measured else [*options, *small],
                place,
                output,
                settings=("scheme", "precision", "batch"),
            )


def _benchmarks(place: Place, output: Path) -> Iterator[Part]:
    measured = place.is_measured
    yield _benchmark(
        "meta",
        "meta",
        "BALMS beside the release's scheme",
        ["--sizes", "800x1216", "--repetitions", "5"]
        if measured
        else ["--config", "toy/base.yaml", "--sizes", "64x64", "--repetitions", "1", "--rows", "8"],
        place,
        output,
        settings=("scheme", "over", "image"),
    )
    small = ["--images", "600", "--classes", "6", "--batch", "8", "--meta-batch", "8"]
    yield _benchmark(
        "meta_sampler",
        "meta_sampler",
        "The Meta Sampler at ImageNet-LT's size",
        [] if measured else [*small, "--repetitions", "1"],
        place,
        output,
        settings=("estimator",),
    )
    yield _benchmark(
        "loss",
        "loss_kernels",
        "Losses beside torch's own and torch.compile",
        ["--compile"] if measured else ["--rows", "8", "--columns", "9", "--repetitions", "1"],
        place,
        output,
        settings=("loss", "reference", "shape"),
    )


def _benchmark(
    benchmark: str,
    name: str,
    title: str,
    options: list[str],
    place: Place,
    output: Path,
    *,
    settings: tuple[str, ...],
) -> Part:
    result = output / f"{name}_result.json"
    words = [benchmark, *options, "--device", place.device, "--output", str(result)]
    return Part(
        name=name,
        title=title,
        command=(*place.python, BENCHMARK, *words),
        limit_seconds=180,
        result=result,
        read=_read_rows,
        settings=settings,
    )


def _cifar(place: Place, output: Path, minutes: float) -> Part:
    results = output / "cifar"
    table = _CIFAR_TABLE if place.is_measured else "cpu"
    seeds = [] if place.is_measured else ["--cpu", "--seeds", "1"]
    minutes = minutes if place.is_measured else 0.5
    command = [str(ROOT / "tools" / "benchmarks" / "run_cifar_table.py"), "--table", table, *seeds]
    command += ["--minutes", f"{minutes:g}", "--output", str(output / "cifar_runs")]
    result = results / f"cifar_{table}.json"
    return Part(
        name="cifar",
        title="CIFAR-10-LT",
        command=(sys.executable, *command, "--results", str(results)),
        limit_seconds=60 * minutes + 60,
        result=result,
        read=_read_runs,
        settings=("row", "seed"),
        missing=_why_no_cifar(place),
        goes_on=True,  # with the runs that it had no time for
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


def _ranks(place: Place, output: Path) -> Iterator[Part]:
    """Trainings of the toy model through torchrun: NCCL on GPUs, gloo on a CPU."""
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
            limit_seconds=180,
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


def _read_tests(path: Path) -> list[Row]:
    rows = []
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        rows.append(
            {
                "test": f"{case.get('classname')}.{case.get('name')}",
                "outcome": kinds[0] if kinds else "passed",
                "seconds": float(case.get("time", 0)),
            }
        )
    return rows


def _read_rows(path: Path) -> list[Row]:
    return json.loads(path.read_text())["rows"]


def _read_runs(path: Path) -> list[Row]:
    columns = ("row", "seed", "top1", "top1-many", "top1-medium", "top1-few", "time_seconds")
    runs = json.loads(path.read_text())["runs"]
    return [{column: run.get(column) for column in columns} for run in runs]


def _read_results(ranks: int, path: Path) -> list[Row]:
    results = json.loads(path.read_text())
    tasks = [task for metrics in results["metrics"].values() for task in metrics]
    row = {"ranks": ranks, "iteration": results["iteration"], "evaluated": ", ".join(tasks)}
    return [row | {"seconds": results["time_seconds"]}]
