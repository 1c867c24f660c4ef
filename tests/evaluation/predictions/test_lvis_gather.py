import json
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from gloo_ranks import gloo_rank
from lvis_cases import random_case

from balms_seg.evaluation import LongTailedLVISEvaluator

NAME = "gather_test_set"
SIDE_PX = 160


def evaluate_share(
    json_file: str,
    output_dir: str,
    image_ids: list[int],
    seed: int,
    *,
    stop_after: int | None = None,
) -> dict:
    """Evaluate random predictions that depend on the image only, or stop as if interrupted."""
    MetadataCatalog.get(NAME).json_file = json_file
    content = json.loads(Path(json_file).read_text())
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=output_dir, resume=True, ap_fixed=True)
    loader = [[{"image_id": image_id}] for image_id in image_ids]
    left = list(evaluator.remaining(loader, torch.nn.Linear(2, 1, bias=False)))
    evaluator.reset()  # as detectron2's loop does
    for image_id in [batch[0]["image_id"] for batch in left][:stop_after]:
        generator = torch.Generator().manual_seed(seed + image_id)
        own = [a for a in content["annotations"] if a["image_id"] == image_id]
        xywh = torch.tensor([a["bbox"] for a in own])
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        boxes += torch.randn(boxes.shape, generator=generator)
        order = sorted(category["id"] for category in content["categories"])
        predicted = Instances((SIDE_PX, SIDE_PX))
        predicted.pred_boxes = Boxes(boxes)
        predicted.scores = torch.rand(len(own), generator=generator)
        predicted.pred_classes = torch.tensor([order.index(a["category_id"]) for a in own])
        predicted.pred_masks = torch.zeros(len(own), SIDE_PX, SIDE_PX, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(predicted.pred_masks, boxes.int().tolist(), strict=True):
            mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
        evaluator.process([{"image_id": image_id}], [{"instances": predicted}])
    return evaluator.evaluate() if stop_after is None else {"left": len(left)}


def run_rank(
    rank: int, folder: str, shares: list[list[int]], stop_after: int | None = None
) -> None:
    with gloo_rank(rank, folder, ranks=len(shares)):
        torch.manual_seed(0)  # the model's weights
        results = evaluate_share(
            f"{folder}/val.json", f"{folder}/out", shares[rank], 0, stop_after=stop_after
        )
        Path(folder, f"rank{rank}.json").write_text(json.dumps(results))


@pytest.mark.slow
@pytest.mark.parametrize("first_share", [0, 1, 7])
def test_two_processes_give_the_results_of_one(first_share: int, tmp_path: Path) -> None:
    """Also when the main process got no image, so that it saw no mask."""
    content, _ = random_case(0, num_images=12)
    (tmp_path / "val.json").write_text(json.dumps(content))
    image_ids = [image["id"] for image in content["images"]]
    shares = [image_ids[:first_share], image_ids[first_share:]]
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), shares), nprocs=2)
    try:
        expected = evaluate_share(
            str(tmp_path / "val.json"), str(tmp_path / "single"), image_ids, 0
        )
    finally:
        MetadataCatalog.pop(NAME)
    assert list(expected) == ["bbox", "segm"]
    assert 5 < expected["segm"]["AP"] < 95
    # As text, since nan differs from itself.
    assert (tmp_path / "rank0.json").read_text() == json.dumps(expected)
    assert json.loads((tmp_path / "rank1.json").read_text()) == {}
    for name in ("per_class_bbox.csv", "per_class_segm.csv", "lvis_instances_results.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "single" / name).read_text()
    assert not (tmp_path / "out" / "parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_interrupted_evaluation_goes_on_with_any_number_of_processes(
    processes: int, tmp_path: Path
) -> None:
    """Two processes take in two images each and stop."""
    content, _ = random_case(0, num_images=12)
    (tmp_path / "val.json").write_text(json.dumps(content))
    image_ids = [image["id"] for image in content["images"]]
    halves = [image_ids[:6], image_ids[6:]]
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), halves, 2), nprocs=2)
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    assert [len(part.read_text().splitlines()) for part in parts] == [3, 3]
    (tmp_path / "rendezvous").unlink(missing_ok=True)
    shares = halves if processes == 2 else [image_ids]
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), shares), nprocs=processes)
    try:
        torch.manual_seed(0)
        expected = evaluate_share(
            str(tmp_path / "val.json"), str(tmp_path / "single"), image_ids, 0
        )
    finally:
        MetadataCatalog.pop(NAME)
    assert (tmp_path / "rank0.json").read_text() == json.dumps(expected)
    assert not (tmp_path / "out" / "parts").exists()
