"""Anchors and proposals on ignored regions are neither foreground nor background."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import made_up_batch, small_config
from PIL import Image

from balms_seg.data.instances.dataset_dicts import load_annotations
from balms_seg.data.instances.mapper import InstanceMapper
from balms_seg.engine.step import TrainingStep
from balms_seg.modeling.ignored_regions import lies_on_ignored
from balms_seg.training_objects import TrainingObjects

REGION = torch.tensor([[10.0, 10.0, 30.0, 30.0], [0.0, 0.0, 4.0, 4.0]])


def intersection_share(box: list[float], region: list[float]) -> float:
    """The share of a box that lies in a region, by plain arithmetic."""
    width = min(box[2], region[2]) - max(box[0], region[0])
    height = min(box[3], region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def test_half_of_the_own_area_decides() -> None:
    corners = torch.rand(200, 2, generator=torch.Generator().manual_seed(1)) * 30
    boxes = torch.cat([corners, corners + torch.tensor([8.0, 12.0])], dim=1)
    expected = [
        max(intersection_share(box, region) for region in REGION.tolist()) >= 0.5
        for box in boxes.tolist()
    ]
    assert any(expected)
    assert not all(expected)
    objects = Instances((40, 40), gt_boxes=Boxes(boxes[:2]))
    assert lies_on_ignored(Boxes(boxes), objects) is None
    with_regions = TrainingObjects(objects, ignored_boxes=Boxes(REGION))
    assert lies_on_ignored(Boxes(boxes), with_regions).tolist() == expected


@pytest.mark.parametrize("heads", ["LongTailedROIHeads", "CascadeLongTailedROIHeads"])
def test_no_proposal_on_a_region_is_sampled_and_objects_stay(heads: str) -> None:
    torch.manual_seed(0)
    settings = {"MODEL.ROI_HEADS.NAME": heads, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}
    model = build_model(small_config(settings)).train()
    batch = made_up_batch(2)
    targets = [sample["instances"] for sample in batch]
    targets[1] = TrainingObjects(targets[1], ignored_boxes=Boxes(REGION))
    corners = torch.rand(60, 2, generator=torch.Generator().manual_seed(5)) * 30
    boxes = torch.cat([corners, corners + 10], dim=1)
    proposals = [
        Instances(t.image_size, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(60))
        for t in targets
    ]
    with EventStorage():
        first, second = model.roi_heads.label_and_sample_proposals(proposals, targets)
    on_region = lies_on_ignored(Boxes(boxes), targets[1])
    assert on_region.any()
    objects = targets[1].gt_boxes.tensor.tolist()
    sampled = [box for box in second.proposal_boxes.tensor.tolist() if box not in objects]
    assert sampled
    assert not [box for box in sampled if box in boxes[on_region].tolist()]
    assert [box for box in first.proposal_boxes.tensor.tolist() if box in boxes[on_region].tolist()]
    assert all(box in second.proposal_boxes.tensor.tolist() for box in objects)


def test_no_anchor_on_a_region_is_labelled() -> None:
    torch.manual_seed(0)
    model = build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"})).train()
    rpn, batch = model.proposal_generator, made_up_batch(2)
    rpn.batch_size_per_image = 100_000  # all of them
    images = model.preprocess_image(batch)
    anchors = rpn.anchor_generator(list(model.backbone(images.tensor).values()))
    targets = [sample["instances"] for sample in batch]
    with EventStorage():
        before, _ = rpn.label_and_sample_anchors(anchors, targets)
        targets[0] = TrainingObjects(targets[0], ignored_boxes=Boxes(REGION))
        after, _ = rpn.label_and_sample_anchors(anchors, targets)
    on_region = lies_on_ignored(Boxes.cat(anchors), targets[0])
    assert (before[0][on_region] >= 0).any()
    assert (after[0][on_region] == -1).all()
    assert after[0][~on_region].tolist() == before[0][~on_region].tolist()
    assert after[1].tolist() == before[1].tolist()


def test_regions_follow_the_image_through_the_mapper(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    annotation = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 6]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [annotation, {**annotation, "bbox": [10, 4, 20, 10], "ignore": 1}],
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    (record,) = load_annotations(path, tmp_path)
    assert len(record["annotations"]) == 1
    cfg = small_config({"INPUT.MIN_SIZE_TRAIN": (40,), "INPUT.MAX_SIZE_TRAIN": 80})
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.MODEL.MASK_ON = False
    mapped = InstanceMapper(cfg, True)(record)
    assert mapped["instances"].ignored_boxes.tensor.tolist() == [[20.0, 8.0, 60.0, 28.0]]
    assert len(mapped["instances"]) == 1


def test_regions_reach_a_model_in_any_step() -> None:
    """Through detectron2's own forward pass, the way from a worker process included."""
    torch.manual_seed(0)
    model = build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"})).train()
    batch = made_up_batch(2)
    everything = Boxes(torch.tensor([[-500.0, -500.0, 1000.0, 1000.0]]))
    for sample in batch:
        sample["instances"] = TrainingObjects(sample["instances"], ignored_boxes=everything)
    batch = pickle.loads(pickle.dumps(batch))
    with EventStorage() as storage:
        model(batch)
        counts = {name: value for name, (value, _) in storage.latest().items()}
    assert counts["rpn/num_neg_anchors"] == 0
    assert counts["roi_head/num_bg_samples"] == 0
    assert counts["roi_head/num_fg_samples"] > 0  # the objects themselves


def test_regions_that_a_mapper_leaves_to_nobody_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OneWeight(torch.nn.Linear):
        def forward(self, batch: list) -> dict[str, torch.Tensor]:
            return {"loss": self.weight.sum()}

    def steps(records: list[dict]) -> int:
        caplog.clear()
        model = OneWeight(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = TrainingStep(model, [[record] for record in records], optimizer, seed=1)
        with EventStorage() as step.storage:
            for step.iter in range(len(records)):
                step.run_step()
        return caplog.text.count("leaves ignored_regions")

    with caplog.at_level("WARNING"):
        assert steps([{"stream_position": 1}]) == 0
        assert steps([{"ignored_regions": [[1, 2, 3, 4]]}] * 2) == 1
