"""`benchmark.py evaluation`: the evaluation beside lvis-api on made-up LVIS-like data.

Each side runs in a process of its own, so that the peak memory is its own; a process of ours runs
before and one after lvis-api, and the better of the two counts, as a busy machine is uneven.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from balms_seg.evaluation import evaluate_lvis
from balms_seg.evaluation.lvis.lvis_backend import run_lvis_api

_PART = 100_000  # detections
HEIGHT_PX, WIDTH_PX = 480, 640


def made_up_lvis(
    num_images: int,
    detections_per_image: int,
    *,
    num_classes: int = 1203,
    with_masks: bool = False,
    seed: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Federated ground truth with a long tail, and detections of it.

    An image has 1 to 8 classes, each with 1 to 6 objects, 5 verified negatives and one class that
    is not exhaustively annotated. Of the detections half lie near objects, the rest anywhere; a
    tenth has another class than its object. Masks are octagons in their boxes.

    Returns:
        content: of an LVIS json.
        detections: in the LVIS results format.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_classes + 1)
    share = rng.permutation(share / share.sum())
    images, annotations, detections = [], [], []
    for image_id in range(1, num_images + 1):
        chosen = rng.choice(num_classes, 14, replace=False, p=share) + 1
        present = chosen[: rng.integers(1, 9)]
        images.append(
            {
                "id": image_id,
                "height": HEIGHT_PX,
                "width": WIDTH_PX,
                "neg_category_ids": chosen[8:13].tolist(),
                "not_exhaustive_category_ids": chosen[:1].tolist() if image_id % 3 == 0 else [],
            }
        )
        classes = np.repeat(present, rng.integers(1, 7, len(present)))
        boxes = _random_boxes(rng, len(classes))
        polygons = [[p] for p in _octagons(boxes).tolist()]
        for class_id, box, polygon in zip(classes.tolist(), boxes.tolist(), polygons, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": box,
                    "area": box[2] * box[3] * (7 / 8 if with_masks else 1),
                    "segmentation": polygon,
                }
            )
        detections.extend(
            _detections(rng, image_id, classes, boxes, chosen, detections_per_image, with_masks)
        )
    frequency = np.array(list("rcf"))[np.digitize(share, np.quantile(share, [0.28, 0.66]))]
    categories = [
        {"id": k, "name": f"class {k}", "frequency": str(letter)}
        for k, letter in enumerate(frequency, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def _random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))
    corners = rng.uniform(0, [WIDTH_PX, HEIGHT_PX] - sides)
    return np.concatenate([corners, sides], axis=1).round(2)


def _octagons(boxes: np.ndarray) -> np.ndarray:
    """(n, 16) corners x, y, ..., a quarter of each side cut off."""
    x = np.array([0.25, 0.75, 1, 1, 0.75, 0.25, 0, 0])
    y = np.array([0, 0, 0.25, 0.75, 1, 1, 0.75, 0.25])
    corners = np.stack([boxes[:, :1] + boxes[:, 2:3] * x, boxes[:, 1:2] + boxes[:, 3:] * y], axis=2)
    return corners.reshape(-1, 16)


def _detections(
    rng: np.random.Generator,
    image_id: int,
    classes: np.ndarray,
    boxes: np.ndarray,
    chosen: np.ndarray,
    number: int,
    with_masks: bool,
) -> list[dict[str, Any]]:
    source = rng.integers(len(boxes), size=number)
    noise = rng.normal(0, 1, (number, 4)) * rng.choice([0.03, 0.15], (number, 1))
    found = boxes[source] + noise * boxes[source][:, [2, 3, 2, 3]]
    is_near = rng.random(number) < 0.5
    found = np.where(is_near[:, None], found, _random_boxes(rng, number))
    found[:, 2:] = np.maximum(found[:, 2:], 2)
    found[:, :2] = np.clip(found[:, :2], 0, [WIDTH_PX - 4, HEIGHT_PX - 4])
    found[:, 2:] = np.minimum(found[:, 2:], [WIDTH_PX, HEIGHT_PX] - found[:, :2])
    found = found.round(2)
    is_right = rng.random(number) < 0.9
    found_classes = np.where(is_right, classes[source], rng.choice(chosen, number))
    scores = (rng.random(number) ** np.where(is_near, 2, 6)).round(4)
    detections = [
        {"image_id": image_id, "category_id": k, "bbox": box, "score": score}
        for k, box, score in zip(
            found_classes.tolist(), found.tolist(), scores.tolist(), strict=True
        )
    ]
    if with_masks:
        import pycocotools.mask as mask_utils

        rles = mask_utils.frPyObjects(_octagons(found).tolist(), HEIGHT_PX, WIDTH_PX)
        for detection, rle in zip(detections, rles, strict=True):
            detection["segmentation"] = rle
            del detection["bbox"]  # lvis-api would take the area from it
    return detections


def write_data(path: Path, task: str, arguments: argparse.Namespace) -> None:
    """Make the data of a benchmark and write it in parts, so that pickle's memory stays small."""
    content, detections = made_up_lvis(
        arguments.images,
        arguments.detections,
        num_classes=arguments.classes,
        with_masks=task == "segm",
    )
    with path.open("wb") as file:
        pickle.dump(content, file)
        for start in range(0, len(detections), _PART):
            pickle.dump(detections[start : start + _PART], file)


def read_data(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and detections that `write_data` wrote."""
    detections: list[dict[str, Any]] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        content = pickle.load(file)
        while file.tell() < size:
            detections += pickle.load(file)
    return content, detections


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


def _accumulated(evaluation: Any) -> Tables:
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]


SIDES: dict[str, Callable[[dict, list, str], Tables]] = {
    "numpy": _numpy_tables,
    "lvis": run_lvis_api,
    "hotcoco": _hotcoco_tables,
    "faster-coco-eval": _faster_coco_tables,
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
    rows = []
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            rows += _compare(task, Path(folder) / "data.pickle", arguments)
    return rows


def _compare(task: str, data: Path, arguments: argparse.Namespace) -> list[Mapping[str, Any]]:
    size = [f"--{name}={getattr(arguments, name)}" for name in ("images", "detections", "classes")]
    _run_in_process("data", task, str(data), *size)
    others = [] if arguments.ours_only else ["lvis", *arguments.also]
    order = ["numpy", *others, *(["numpy"] if others else [])]
    runs: dict[str, dict[str, float]] = {}
    for side in order:
        run = json.loads(_run_in_process(side, task, str(data)).splitlines()[-1])
        if side not in runs or run["cpu_seconds"] < runs[side]["cpu_seconds"]:
            runs[side] = run
        print(f"{task}, {side}: {run}", file=sys.stderr, flush=True)
    reference = runs.get("lvis")
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
                "largest_difference": _largest_difference(data, "lvis", side),
            }
        rows.append(row)
    return rows


def _largest_difference(data: Path, first: str, second: str) -> float:
    """Over AP and AR of all classes and areas; nan against a number counts as 1."""
    largest = 0.0
    with (
        np.load(data.with_suffix(f".{first}.npz")) as one,
        np.load(data.with_suffix(f".{second}.npz")) as other,
    ):
        for name in ("precision", "recall"):
            axes = (0, 1) if name == "precision" else 0
            left, right = (np.asarray(tables[name]).mean(axis=axes) for tables in (one, other))
            if (np.isnan(left) != np.isnan(right)).any():
                return 1.0
            largest = max(largest, float(np.nanmax(np.abs(left - right))))
    return largest


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluation`."""
    _add_size_arguments(parser)
    parser.add_argument("--tasks", nargs="+", choices=("bbox", "segm"), default=["bbox", "segm"])
    parser.add_argument("--ours-only", action="store_true", help="leave lvis-api out")
    parser.add_argument(
        "--also",
        nargs="+",
        choices=("hotcoco", "faster-coco-eval"),
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
