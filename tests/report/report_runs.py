"""A made-up evaluation whose outcome is known, as a run leaves it in its output folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from balms_seg.evaluation.lvis.analysis import analyse_task
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.ground_truth import load_ground_truth
from balms_seg.evaluation.output.evaluation_files import write_task_files
from balms_seg.evaluation.output.results_file import write_results

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))

from lvis_cases import SIDE_PX, annotation, detection  # noqa: E402

# Category 1 is frequent, 2 common, 3 and 4 rare.
NAMES = ("cat", "bee", "</script><b>axe", "eel")
IMAGE_COUNTS = (400, 40, 4, 2)
FREQUENCY = "fcrr"
NUM_IMAGES = 6
DATASET = "made_up_val"


def box_of(category: int) -> list[float]:
    """Each class has its own corner of every image."""
    return [4.0 + 30 * ((category - 1) % 2), 4.0 + 30 * ((category - 1) // 2), 20.0, 20.0]


def annotations(frequency: str = FREQUENCY) -> dict[str, Any]:
    """One object of each class in every image."""
    categories = [
        {"id": i, "name": name, "frequency": letter, "image_count": count, "instance_count": count}
        for i, (name, letter, count) in enumerate(
            zip(NAMES, frequency, IMAGE_COUNTS, strict=True), start=1
        )
    ]
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIDE_PX, "width": SIDE_PX}
        | {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for i in range(1, NUM_IMAGES + 1)
    ]
    found = [
        {"id": 10 * i + category, **annotation(i, category, box_of(category))}
        for i in range(1, NUM_IMAGES + 1)
        for category in range(1, 5)
    ]
    return {"images": images, "categories": categories, "annotations": found}


def predictions(*, confused: int = 6) -> list[dict[str, Any]]:
    """Classes 1 and 2 are right; of class 3 so many are taken for 1; of class 4 none is found."""
    found = []
    for i in range(1, NUM_IMAGES + 1):
        found += [detection(i, category, box_of(category), 0.9) for category in (1, 2)]
        said, score = (1, 0.95) if i <= confused else (3, 0.5)
        found.append(detection(i, said, box_of(3), score))
    moved = [box_of(4)[0] + 8, box_of(4)[1] + 8, 20.0, 20.0]
    found.append(detection(1, 4, moved, 0.4))  # IoU 0.22: misplaced, in one image
    return found


def write_data(folder: Path) -> tuple[Path, Path]:
    """Annotations and images; their paths."""
    images = folder / "images"
    images.mkdir(parents=True)
    content = annotations()
    (folder / "val.json").write_text(json.dumps(content))
    for image in content["images"]:
        pixels = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
        Image.fromarray(pixels).save(images / image["file_name"])
    return folder / "val.json", images


def write_run(
    folder: Path,
    *,
    confused: int = 6,
    tasks: tuple[str, ...] = ("bbox", "segm"),
    frequency: str = FREQUENCY,
) -> Path:
    """An output folder as training leaves it."""
    truth = load_ground_truth(annotations(frequency))
    found = predictions(confused=confused)
    training = TrainingCounts.from_entries(annotations()["categories"])
    metrics = {}
    for task in tasks:
        analysis = analyse_task(truth, found, task)
        metrics[task] = {name: 100 * value for name, value in analysis.result.metrics.items()}
        class_ids = {category: category - 1 for category in truth.category_ids}
        write_task_files(
            folder / "inference", task, analysis, class_ids=class_ids, training=training
        )
    (folder / "inference" / "lvis_instances_results.json").write_text(json.dumps(found))
    lines = [
        {"iteration": i, "total_loss": 5.0 / (i + 1), "loss_cls": 2.0 / (i + 1), "lr": 0.1}
        for i in range(0, 100, 20)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_results(
        folder / "results.json",
        metrics={DATASET: metrics},
        group_sizes={DATASET: analysis.result.group_sizes},
        config="SEED: 3\nSOLVER:\n  MAX_ITER: 100\n",
        commit="0123abc",
        versions={"torch": "2.0", "balms_seg": "0.1.0"},
    )
    return folder
