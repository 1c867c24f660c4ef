"""`benchmark.py evaluation`: the evaluation beside lvis-api on made-up LVIS-like data.

Each side runs in a process of its own, so that the peak memory is its own; a process of ours runs
before and one after lvis-api, and the better of the two counts, as a busy machine is uneven.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from made_up_detections import made_up_lvis, read_data, write_data

from balms_seg.evaluation import evaluate_lvis
from balms_seg.evaluation.lvis.lvis_backend import run_lvis_api

Tables = tuple[np.ndarray, np.ndarray]  # precision (T, R, K, A), recall (T, K, A)


def _numpy_tables(content: dict, detections: list, task: str) -> Tables:
    result = evaluate_lvis(content, detections, task)
    return result.precision, result.recall


def _hotcoco_tables(content: dict, detections: list, task: str) -> Tables:
    import hotcoco

    reference = hotcoco.COCO(content)
    evaluation = hotcoco.LVISEval(reference, hotcoco.LVISResults(reference, detections), task)
    return _accumulated(evaluation)


def _faster_coco_tables(content: dict, detections: list, task: str) -> Tables:
    from faster_coco_eval import COCO, COCOeval_faster

    reference = COCO(content)
    found = reference.loadRes(detections)
    evaluation = COCOeval_faster(reference, found, task, lvis_style=True, print_function=str)
    evaluation.params.maxDets = [300]
    return _accumulated(evaluation)


def _vernier_tables(content: dict, detections: list, task: str) -> Tables:
    from vernier.instance import CocoDataset, evaluate_bbox_grid, evaluate_segm_grid

    evaluate = evaluate_segm_grid if task == "segm" else evaluate_bbox_grid
    num_areas = 4
    if task == "segm":  # it takes no mask without a box, and sorts masks into sizes by that box
        detections = [{**found, "bbox": [0.0, 0.0, 1.0, 1.0]} for found in detections]
        num_areas = 1  # all sizes together
    reference = CocoDataset.from_lvis_json(json.dumps(content).encode())
    settings = {"parity_mode": "strict", "max_dets_per_image": 300, "use_cats": True}
    found = evaluate(reference, detections, **settings).accumulate([300])
    return found.precision[..., :num_areas, -1], found.recall[..., :num_areas, -1]


def _accumulated(evaluation: Any) -> Tables:
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]


SIDES: dict[str, Callable[[dict, list, str], Tables]] = {
    "numpy": _numpy_tables,
    "lvis": run_lvis_api,
    "hotcoco": _hotcoco_tables,
    "faster-coco-eval": _faster_coco_tables,
    "vernier": _vernier_tables,
}


def run_side(side: str, task: str, data: Path) -> dict[str, float]:
    """Evaluate in this process; seconds, processor seconds and peak MiB above the data.

    Precision and recall are left beside the data, for comparison.
    """
    small, few = made_up_lvis(1, 2, num_classes=20, with_masks=task == "segm")
    SIDES[side](small, few, task)  # what a side imports is not counted
    content, detections = read_data(data)
    gc.collect()
    before = _memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    start, start_cpu = time.perf_counter(), time.process_time()
    precision, recall = SIDES[side](content, detections, task)
    measured = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "peak_mib": max(_memory_mib("VmHWM") - before, 0.0),
    }
    tables = [np.where(np.asarray(t) < 0, np.nan, t) for t in (precision, recall)]
    np.savez(data.with_suffix(f".{side}.npz"), precision=tables[0], recall=tables[1])
    return measured


def _memory_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run_in_process(*words: str) -> str:
    command = [sys.executable, str(Path(__file__).resolve()), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def benchmark_evaluation(arguments: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Evaluation of made-up LVIS-like detections beside lvis-api: time and peak memory."""
    _require_installed(_others(arguments))
    rows = []
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            rows += _compare(task, Path(folder) / "data.pickle", arguments)
    return rows


def _others(arguments: argparse.Namespace) -> list[str]:
    return [*([] if arguments.ours_only else ["lvis"]), *arguments.also]


def _require_installed(sides: Sequence[str]) -> None:
    """Stop before minutes of measuring where an evaluator is not there."""
    absent = [side for side in sides if importlib.util.find_spec(side.replace("-", "_")) is None]
    if absent:
        sys.exit(
            f"benchmark evaluation: {', '.join(absent)} cannot be imported; pip install "
            f"{' '.join(absent)}, or leave it out (--ours-only, --also)."
        )


def _compare(task: str, data: Path, arguments: argparse.Namespace) -> list[Mapping[str, Any]]:
    size = [f"--{name}={getattr(arguments, name)}" for name in ("images", "detections", "classes")]
    _run_in_process("data", task, str(data), *size)
    others = _others(arguments)
    order = ["numpy", *others, *(["numpy"] if others else [])]
    runs: dict[str, dict[str, float]] = {}
    for side in order:
        run = json.loads(_run_in_process(side, task, str(data)).splitlines()[-1])
        if side not in runs or run["cpu_seconds"] < runs[side]["cpu_seconds"]:
            runs[side] = run
        print(f"{task}, {side}: {run}", file=sys.stderr, flush=True)
    first = "numpy" if arguments.ours_only else "lvis"
    reference = runs[first] if others else None
    rows = []
    for side, run in runs.items():
        row: dict[str, Any] = {
            "task": task,
            "images": arguments.images,
            "detections": arguments.images * arguments.detections,
            "evaluator": side,
            **run,
        }
        if reference is not None:
            row |= {
                "speedup": reference["seconds"] / run["seconds"],
                "cpu_speedup": reference["cpu_seconds"] / run["cpu_seconds"],
                "memory_ratio": run["peak_mib"] / reference["peak_mib"],
                "largest_difference": _largest_difference(data, first, side),
            }
        rows.append(row)
    return rows


def _largest_difference(data: Path, first: str, second: str) -> float:
    """Over AP and AR of all classes and the areas that both have; nan against a number is 1."""
    largest = 0.0
    with (
        np.load(data.with_suffix(f".{first}.npz")) as one,
        np.load(data.with_suffix(f".{second}.npz")) as other,
    ):
        for name in ("precision", "recall"):
            axes = (0, 1) if name == "precision" else 0
            left, right = (np.asarray(tables[name]).mean(axis=axes) for tables in (one, other))
            left = left[..., : right.shape[-1]]
            if (np.isnan(left) != np.isnan(right)).any():
                return 1.0
            largest = max(largest, float(np.nanmax(np.abs(left - right))))
    return largest


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluation`."""
    _add_size_arguments(parser)
    parser.add_argument("--tasks", nargs="+", choices=("bbox", "segm"), default=["bbox", "segm"])
    parser.add_argument("--ours-only", action="store_true", help="leave lvis-api out: ours is 1")
    parser.add_argument(
        "--also",
        nargs="+",
        choices=("hotcoco", "faster-coco-eval", "vernier"),
        default=[],
        help="further evaluators, which have to be installed",
    )
    parser.add_argument("--scratch", type=Path, help="folder for the data; default: temporary")


def _add_size_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=300, help="an image")
    parser.add_argument("--classes", type=int, default=1203)


def main() -> None:
    """One side, as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=("data", *SIDES))
    parser.add_argument("task", choices=("bbox", "segm"))
    parser.add_argument("data", type=Path)
    _add_size_arguments(parser)
    arguments = parser.parse_args()
    if arguments.side == "data":
        write_data(arguments.data, arguments.task, arguments)
    else:
        print(json.dumps(run_side(arguments.side, arguments.task, arguments.data)))


if __name__ == "__main__":
    main()
