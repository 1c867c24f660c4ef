"""`tools/benchmark.py evaluation`: the evaluation beside lvis-api on made-up LVIS-like data.

Each side runs in a process of its own, so that the peak memory is its own; a process of ours runs
before and one after lvis-api, and the better of the two counts, as a busy machine is uneven.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
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
    return detections


def run_side(side: str, task: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Evaluate in this process; seconds, processor seconds and peak MiB above the data."""
    sys.path.insert(0, str(ROOT))
    from balms_seg.evaluation import evaluate_lvis

    content, detections = made_up_lvis(
        arguments.images,
        arguments.detections,
        num_classes=arguments.classes,
        with_masks=task == "segm",
    )
    # What both sides import is not counted for either.
    evaluate_lvis(*made_up_lvis(1, 2, num_classes=20, with_masks=True), task, backend=side)
    before = _memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    start, start_cpu = time.perf_counter(), time.process_time()
    result = evaluate_lvis(content, detections, task, backend=side)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "peak_mib": max(_memory_mib("VmHWM") - before, 0.0),
        "AP": result.metrics["AP"],
    }


def _memory_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run_in_process(side: str, task: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), side, task]
    for name in ("images", "detections", "classes"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} on {task} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def benchmark_evaluation(arguments: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Evaluation of made-up LVIS-like detections beside lvis-api: time and peak memory."""
    rows = []
    for task in arguments.tasks:
        first = _run_in_process("numpy", task, arguments)
        reference = None if arguments.ours_only else _run_in_process("lvis", task, arguments)
        second = first if arguments.ours_only else _run_in_process("numpy", task, arguments)
        ours = min(first, second, key=lambda run: run["cpu_seconds"])
        row: dict[str, Any] = {
            "task": task,
            "images": arguments.images,
            "detections": arguments.images * arguments.detections,
            "ours_s": ours["seconds"],
            "ours_cpu_s": ours["cpu_seconds"],
            "ours_peak_mib": ours["peak_mib"],
        }
        if reference is not None:
            row |= {
                "lvis_api_s": reference["seconds"],
                "lvis_api_cpu_s": reference["cpu_seconds"],
                "lvis_api_peak_mib": reference["peak_mib"],
                "speedup": reference["seconds"] / ours["seconds"],
                "cpu_speedup": reference["cpu_seconds"] / ours["cpu_seconds"],
                "memory_ratio": reference["peak_mib"] / max(ours["peak_mib"], 1e-9),
                "AP_difference": abs(reference["AP"] - ours["AP"]),
            }
        rows.append(row)
    return rows


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluation`."""
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=300, help="an image")
    parser.add_argument("--classes", type=int, default=1203)
    parser.add_argument("--tasks", nargs="+", choices=("bbox", "segm"), default=["bbox", "segm"])
    parser.add_argument("--ours-only", action="store_true", help="leave lvis-api out")


def main() -> None:
    """One side, as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=("numpy", "lvis"))
    parser.add_argument("task", choices=("bbox", "segm"))
    add_evaluation_arguments(parser)
    arguments = parser.parse_args()
    print(json.dumps(run_side(arguments.side, arguments.task, arguments)))


if __name__ == "__main__":
    main()
