"""What `predict` writes for a detector: COCO results, a table, and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balms_seg.csv_files import csv_file
from balms_seg.progress import with_progress
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from balms_seg.engine.instance_predictor import InstancePredictor

RESULTS_FILE, CSV_FILE, PICTURES = "predictions.json", "predictions.csv", "pictures"
_COLUMNS = ("image_id", "file_name", "class", "score", "x", "y", "width", "height")
_SMALLEST_SIDE_PX = 480  # longer side of a picture; smaller images are enlarged


def write_instances(
    predictor: InstancePredictor, addresses: Sequence[str], output: Path
) -> Counter[str]:
    """Predict and write; images are numbered from 1 in their order.

    Args:
        predictor: a detector.
        addresses: images, as `find_images` gives them.
        output: folder of predictions.json (COCO results, each with its file_name),
            predictions.csv, and a picture an image.

    Returns:
        How many instances each class has.

    Raises:
        OSError: images could not be read; those of the others are written by then.
    """
    import cv2
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json

    from balms_seg.annotations import shortened
    from balms_seg.report.instance_drawing import draw_instances

    classes = predictor.classes
    category_ids = classes.category_ids or range(len(classes.names))
    categories = {
        i: {"name": name, "frequency": group[0]}
        for i, (name, group) in enumerate(zip(classes.names, classes.groups, strict=True))
    }
    (output / PICTURES).mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    unreadable: list[str] = []
    with csv_file(output / CSV_FILE) as table:
        table.writerow(_COLUMNS)
        shown = with_progress(addresses, label="predicting", unit="image")
        for image_id, address in enumerate(shown, start=1):
            try:
                pixels = predictor.read(address)
            except OSError as error:
                unreadable.append(str(error))
                continue
            found = instances_to_coco_json(predictor(pixels), image_id)
            scale = max(_SMALLEST_SIDE_PX / max(pixels.shape[:2]), 1.0)
            bgr = pixels[:, :, ::-1].copy()
            drawn = draw_instances(bgr, found, categories, scale=scale)
            name = f"{image_id:06}_{Path(address).stem}.png"
            cv2.imwrite(str(output / PICTURES / name), drawn)
            for each in found:
                class_id = each["category_id"]
                counts[classes.names[class_id]] += 1
                box = [round(value, 2) for value in each["bbox"]]
                row = (image_id, address, classes.names[class_id], f"{each['score']:.4f}", *box)
                table.writerow(row)
                own = {"category_id": category_ids[class_id], "file_name": address}
                results.append({**each, **own})
    (output / RESULTS_FILE).write_text(json.dumps(results), encoding="utf-8")
    if unreadable:
        raise OSError(
            f"{len(unreadable)} of {counted(len(addresses), 'image')} "
            f"{agreeing(len(unreadable), 'was', 'were')} left out: {shortened(unreadable)}. What "
            f"the others show is in {output}."
        )
    return counts
