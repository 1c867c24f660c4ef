"""Made-up data sets and the independent implementation that the evaluation is tested against."""

import copy
import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

SIDE_PX = 64
METRICS = [
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *("AR", "ARs", "ARm", "ARl"),
]

ALL_METRICS = [*METRICS, "ARr", "ARc", "ARf"]  # lvis-api has no recall by group


def rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def to_rle(segmentation: Any, side_px: int = SIDE_PX) -> dict[str, Any]:
    rle = mask_utils.merge(mask_utils.frPyObjects(segmentation, side_px, side_px))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def annotation(image_id: int, category_id: int, box: list[float], **fields: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "area": box[2] * box[3],
        "segmentation": rectangle(*box),
        **fields,
    }


def detection(image_id: int, category_id: int, box: list[float], score: float) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "score": score,
        "segmentation": to_rle(rectangle(*box)),
    }


def dataset(
    annotations: list[dict[str, Any]],
    *,
    num_images: int = 1,
    frequency: str = "rcf",
    negatives: dict[int, list[int]] | None = None,
    not_exhaustive: dict[int, list[int]] | None = None,
) -> dict[str, Any]:
    """LVIS-style ground truth; images and categories are numbered from 1."""
    return {
        "images": [
            {
                "id": i,
                "height": SIDE_PX,
                "width": SIDE_PX,
                "neg_category_ids": (negatives or {}).get(i, []),
                "not_exhaustive_category_ids": (not_exhaustive or {}).get(i, []),
            }
            for i in range(1, num_images + 1)
        ],
        "categories": [
            {"id": k, "name": f"class {k}", "frequency": letter}
            for k, letter in enumerate(frequency, start=1)
        ],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, start=1)],
    }


def random_case(
    seed: int, *, num_images: int = 25, detections_per_image: int = 40
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Federated ground truth of 9 classes and noisy detections, with ties and all box sizes."""
    rng = np.random.default_rng(seed)
    side = 160
    # Neither ids nor their order may matter; class 8 has no ground truth.
    category_ids = rng.permutation(100)[:9] + 1
    categories = [
        {"id": int(i), "name": f"class {i}", "frequency": "rcfrcffff"[k]}
        for k, i in enumerate(category_ids)
    ]
    images, annotations, detections = [], [], []
    for image_id in map(int, rng.permutation(1000)[:num_images]):
        classes = rng.permutation(9)
        present = [int(k) for k in classes[:3] if k != 8]
        images.append(
            {
                "id": image_id,
                "height": side,
                "width": side,
                "neg_category_ids": [int(category_ids[k]) for k in classes[3:6]],
                "not_exhaustive_category_ids": [int(category_ids[k]) for k in classes[2:5:2]],
            }
        )
        boxes = []
        for k in present:
            for _ in range(rng.integers(1, 5)):
                extent = np.exp(rng.uniform(np.log(4), np.log(120), 2))
                corner = rng.uniform(0, side - extent)
                box = [*corner.tolist(), *extent.tolist()]
                boxes.append((k, box))
                segmentation = rectangle(*box)
                annotations.append(
                    annotation(
                        image_id,
                        int(category_ids[k]),
                        box,
                        id=len(annotations) + 1,
                        area=float(mask_utils.area(to_rle(segmentation, side))),
                        ignore=int(rng.random() < 0.05),
                    )
                )
        for _ in range(detections_per_image):
            k, box = boxes[rng.integers(len(boxes))]
            k = k if rng.random() < 0.7 else int(rng.integers(9))
            noise = rng.normal(0, rng.choice([0, 0.05, 0.2]), 4) * [box[2], box[3], box[2], box[3]]
            noisy = np.maximum(np.array(box) + noise, [0, 0, 1, 1]).tolist()
            found = detection(image_id, int(category_ids[k]), noisy, round(float(rng.random()), 1))
            detections.append({**found, "segmentation": to_rle(rectangle(*noisy), side)})
    order = rng.permutation(len(detections))
    return (
        {"images": images, "annotations": annotations, "categories": categories},
        [detections[i] for i in order],
    )


def ground_truth_as_detections(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every annotation as a detection of score 1."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "score": 1.0,
            "segmentation": mask_utils.merge(
                mask_utils.frPyObjects(a["segmentation"], *sizes[a["image_id"]])
            ),
        }
        for a in content["annotations"]
    ]


class NumpyWithFloat:
    """numpy with the alias that lvis-api 0.5.3 uses and numpy 2 no longer has."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def run_lvis_api(
    content: dict[str, Any],
    detections: list[dict[str, Any]],
    iou_type: str,
    monkeypatch: Any,
    *,
    max_detections: int = 300,
) -> Any:
    """The LVISEval of lvis-api after its run, as detectron2 calls it."""
    import lvis
    import lvis.eval

    monkeypatch.setattr(lvis.eval, "np", NumpyWithFloat())
    ground_truth = lvis.LVIS.__new__(lvis.LVIS)
    ground_truth.logger = logging.getLogger("lvis")
    ground_truth.dataset = copy.deepcopy(content)
    ground_truth._create_index()
    detections = copy.deepcopy(detections)
    if iou_type == "segm":
        for found in detections:
            del found["bbox"]  # else the mask would have its box's area
    results = lvis.LVISResults(ground_truth, detections, max_dets=max_detections)
    evaluation = lvis.LVISEval(ground_truth, results, iou_type)
    evaluation.run()
    return evaluation


def made_up_lvis(*arguments: Any, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What tools/benchmarks/benchmark.py evaluates."""
    path = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "made_up_detections.py"
    spec = importlib.util.spec_from_file_location("made_up_detections", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_up_lvis(*arguments, **options)


def data_jsons(shared_data: Path) -> list[Path]:
    return [
        shared_data / "lvis_v0.5_val_100.json",
        shared_data / "coco_mini_lvis" / "coco_mini_lvis_val.json",
    ]
