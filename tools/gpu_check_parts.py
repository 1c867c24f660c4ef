"""What `gpu_check.py` runs: commands that exist for themselves, in order of worth."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_check_part import Part, Row, read_outcomes
from gpu_check_place import ROOT, Place
from gpu_check_trainings import cifar_part, rank_parts

BENCHMARK = str(ROOT / "tools" / "benchmarks" / "benchmark.py")
_TESTS = "tests/engine/pretended_gpu"
# The step beside the CPU's, the waits, detectors and their resume, BALMS; then all others.
_FIRST_TESTS = ("device", "one_step", "waits", "device_of_detectors", "device_of_meta_steps")
_QUIETLY = ("-q", "-p", "no:cacheprovider")


def list_parts(place: Place, output: Path, *, minutes: float) -> list[Part]:
    """All parts, the most telling first: what no machine has shown yet, then more of the same.

    Args:
        place: where they run.
        output: folder of what they write.
        minutes: for all of them; the trainings of CIFAR-LT, which can use any time, get half.
    """
    in_float32, *in_half = _throughput((2,), place, output)  # as many images as most have on a GPU
    return [
        _tests(place, output),
        in_float32,
        *rank_parts(place, output),
        *_benchmarks(place, output),
        *in_half,
        cifar_part("rho200", place, output, minutes / 2),
        *(_throughput((16, 4, 8), place, output) if place.is_measured else ()),
        *([cifar_part("rho100", place, output, minutes / 2)] if place.is_measured else []),
    ]


def _tests(place: Place, output: Path) -> Part:
    result = output / "tests.jsonl"
    if place.kind == "gpu":
        chosen = ["-m", "gpu", *_files_of_gpu_tests()]
    else:
        chosen = ["-m", "pretended_gpu", f"{_TESTS}/test_device.py"]
    runner = str(ROOT / "tools" / "gpu_check_tests.py")
    return Part(
        name="tests",
        title="Tests on the device",
        command=(sys.executable, runner, str(result), *chosen, *_QUIETLY),
        limit_seconds=place.limited(120),
        result=result,
        read=read_outcomes,
        settings=("test", "outcome"),
        goes_on=True,
    )


def _files_of_gpu_tests() -> list[str]:
    """In order of worth; to look through all tests for the marker takes pytest too long."""
    first = [f"{_TESTS}/test_{name}.py" for name in _FIRST_TESTS]
    found = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    marked = [
        str(path)
        for path in found
        if path.parent == Path(_TESTS) or "mark.gpu" in (ROOT / path).read_text()
    ]
    return list(dict.fromkeys([*first, *marked]))


def _throughput(batches: Sequence[int], place: Place, output: Path) -> Iterator[Part]:
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
        ["--compile"] if measured else ["--rows", "512", "--columns", "9", "--repetitions", "1"],
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
        limit_seconds=place.limited(180),
        result=result,
        read=_read_rows,
        settings=settings,
    )


def _read_rows(path: Path) -> list[Row]:
    return json.loads(path.read_text())["rows"]
