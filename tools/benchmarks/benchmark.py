#!/usr/bin/env python3
"""Measures what the project claims about speed.

`python tools/benchmarks/benchmark.py loss [--output FILE]`.

Both sides of a comparison run alternately in one process, so that a change of the machine's load
falls on both; the result is the median and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmark_classification import add_classification_arguments, benchmark_classification
from benchmark_evaluation import add_evaluation_arguments, benchmark_evaluation
from benchmark_iteration import add_iteration_arguments, benchmark_iteration
from benchmark_meta import add_meta_arguments, benchmark_meta
from benchmark_meta_sampler import add_meta_sampler_arguments, benchmark_meta_sampler
from benchmark_throughput import add_throughput_arguments, benchmark_throughput
from benchmark_timing import Row, format_table, measure_alternately

from balms_seg import losses
from balms_seg.durable_files import write_whole


def benchmark_loss(arguments: argparse.Namespace) -> Iterator[Row]:
    """Forward and backward of each loss against torch's own of the same family."""
    for num_rows in arguments.rows:
        logits, targets = _loss_inputs(num_rows, arguments)
        pairs = _loss_pairs(logits, targets)
        if arguments.compile:
            pairs += _compiled_pairs(logits, targets)
        for name, reference_name, loss, reference in pairs:
            plain, ours = measure_alternately(
                partial(_forward_backward, reference, logits),
                partial(_forward_backward, loss, logits),
                repetitions=arguments.repetitions,
                calls=max(1, 4096 // num_rows),
                clock=arguments.clock,
            )
            yield {
                "loss": name,
                "reference": reference_name,
                "shape": list(logits.shape),
                "reference_ms": 1e3 * statistics.median(plain),
                "ours_ms": 1e3 * statistics.median(ours),
                "ratio": statistics.median(ours) / statistics.median(plain),
            }


def _loss_inputs(num_rows: int, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_rows, arguments.columns, generator=generator)
    targets = torch.randint(0, arguments.columns - 1, (num_rows,), generator=generator)
    targets[num_rows // 4 :] = arguments.columns - 1  # three quarters background, as in training
    device = torch.device(arguments.device)
    return logits.to(device).requires_grad_(), targets.to(device)


def _loss_pairs(logits: Tensor, targets: Tensor) -> list[tuple[str, str, Callable, Callable]]:
    num_rows, columns = logits.shape
    counts = torch.logspace(0, 5, columns, device=logits.device)
    frequency = (counts / 1.1e5).clamp(1e-5, 0.5)
    # The label matrix is made beforehand: to the reference's favour.
    labels = F.one_hot(targets, columns).float()
    labels[:, -1] = 0
    background = torch.where(targets == columns - 1, columns, targets)

    def cross_entropy() -> Tensor:
        return F.cross_entropy(logits, targets)

    def binary_cross_entropy() -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / num_rows

    def form(name: str) -> Callable[[], Tensor]:
        return lambda: losses.balanced_softmax_loss_with_background(
            logits,
            targets,
            counts[:-1],
            background=name,
            background_count=1.0 if name == "prior" else None,
        )

    softmax = [
        ("balanced_softmax", lambda: losses.balanced_softmax_loss(logits, targets, counts)),
        *((f"balanced_softmax, {name}", form(name)) for name in losses.BACKGROUND_FORMS),
    ]
    sigmoid = [
        ("sigmoid", lambda: losses.sigmoid_loss(logits, background)),
        (
            "balanced_sigmoid",
            lambda: losses.balanced_sigmoid_loss(logits, background, frequency),
        ),
    ]
    return [
        *((name, "cross_entropy", loss, cross_entropy) for name, loss in softmax),
        *((name, "BCE with logits", loss, binary_cross_entropy) for name, loss in sigmoid),
    ]


def _compiled_pairs(logits: Tensor, targets: Tensor) -> list[tuple[str, str, Callable, Callable]]:
    """Hand-written backward passes beside what torch.compile makes of the formula."""
    columns = logits.shape[1]
    counts = torch.logspace(0, 5, columns, device=logits.device)
    frequency = (counts / 1.1e5).clamp(1e-5, 0.5)
    log_counts, log_odds = counts.log(), torch.logit(frequency)
    labels = F.one_hot(targets, columns).float()

    @torch.compile
    def softmax_formula(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits + log_counts, targets)

    @torch.compile
    def sigmoid_formula(logits: Tensor) -> Tensor:
        shifted = logits + log_odds
        return F.binary_cross_entropy_with_logits(shifted, labels, reduction="sum") / len(logits)

    return [
        (
            "balanced_softmax",
            "torch.compile of its formula",
            lambda: losses.balanced_softmax_loss(logits, targets, counts),
            lambda: softmax_formula(logits),
        ),
        (
            "balanced_sigmoid, no background rows",
            "torch.compile of its formula",
            lambda: losses.balanced_sigmoid_loss(logits, targets, frequency),
            lambda: sigmoid_formula(logits),
        ),
    ]


def _forward_backward(loss: Callable[[], Tensor], logits: Tensor) -> None:
    logits.grad = None
    loss().backward()
    if logits.is_cuda:
        torch.cuda.synchronize()


def add_loss_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `loss`."""
    parser.add_argument("--rows", type=int, nargs="+", default=[512, 8192])
    parser.add_argument("--columns", type=int, default=1204, help="LVIS v1 and background: 1204")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also beside torch.compile")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: busy machine"
    )


# name -> (measure, add its options); one entry a benchmark
BENCHMARKS: dict[str, tuple[Callable, Callable]] = {
    "loss": (benchmark_loss, add_loss_arguments),
    "iteration": (benchmark_iteration, add_iteration_arguments),
    "throughput": (benchmark_throughput, add_throughput_arguments),
    "meta": (benchmark_meta, add_meta_arguments),
    "meta_sampler": (benchmark_meta_sampler, add_meta_sampler_arguments),
    "classification": (benchmark_classification, add_classification_arguments),
    "evaluation": (benchmark_evaluation, add_evaluation_arguments),
}


def describe_run(arguments: argparse.Namespace) -> Row:
    """What is needed to repeat the measurement."""
    return {
        "command": "python " + shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": _hardware(getattr(arguments, "device", "cpu")),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hardware(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return platform.processor() or platform.machine()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (measure, add_arguments) in BENCHMARKS.items():
        command = commands.add_parser(name, help=measure.__doc__.splitlines()[0])
        add_arguments(command)
        command.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
        command.add_argument("--output", type=Path, help="also write the result as json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = describe_run(arguments)
    rows = []
    for row in BENCHMARKS[arguments.benchmark][0](arguments):
        rows.append(row)
        if arguments.output:  # each time, so that an end before the last leaves the first
            result = {"schema_version": 1, "benchmark": arguments.benchmark, **run, "rows": rows}
            _write(result, arguments.output)
    print(format_table(rows))
    print("; ".join(f"{key}: {value}" for key, value in run.items()))


def _write(result: dict[str, object], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
