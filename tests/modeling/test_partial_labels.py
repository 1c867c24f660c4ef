"""Rows of background say nothing of classes that nobody looked for in their image."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import NUM_CLASSES as K
from made_up_data import made_up_batch, made_up_statistics, small_config
from torch import Tensor, nn

from balms_seg.data.instances.known_classes import known_classes
from balms_seg.modeling import prepare_model
from balms_seg.modeling.box_rows import compute_box_rows
from balms_seg.training_objects import TrainingObjects

KNOWN = torch.tensor([True, False, True])  # of the second image; the first knows all


def record(classes: Sequence[int], **lists: list[int]) -> dict:
    return {"annotations": [{"category_id": c} for c in classes], **lists}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record([1]), None),
        (record([], neg_category_ids=[]), [False] * 4),
        (record([1, 1], neg_category_ids=[3]), [False, True, False, True]),
        (record([0], neg_category_ids=[1, 2, 3]), None),
        (record([1], not_exhaustive_category_ids=[1]), [True, False, True, True]),
        (
            record([1, 2], neg_category_ids=[3], not_exhaustive_category_ids=[2]),
            [False, True, False, True],
        ),
    ],
)
def test_known_are_annotated_and_absent_classes_but_not_incomplete_ones(
    given: dict, expected: list[bool] | None
) -> None:
    found = known_classes(given, 4)
    assert (found if found is None else found.tolist()) == expected


def built(method: str, heads: str = "LongTailedROIHeads") -> nn.Module:
    torch.manual_seed(0)
    settings = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": method, "MODEL.ROI_HEADS.NAME": heads}
    return prepare_model(build_model(small_config(settings)).train(), made_up_statistics())


def sampled(model: nn.Module, batch: list[dict]) -> list[Instances]:
    corners = torch.rand(30, 2, generator=torch.Generator().manual_seed(5)) * 30
    boxes = Boxes(torch.cat([corners, corners + 10], dim=1))
    targets = [sample["instances"] for sample in batch]
    proposals = [
        Instances(t.image_size, proposal_boxes=boxes, objectness_logits=torch.zeros(30))
        for t in targets
    ]
    with EventStorage():
        return model.roi_heads.label_and_sample_proposals(proposals, targets)


def partly_known_batch() -> list[dict]:
    batch = made_up_batch(2)
    batch[1]["instances"] = TrainingObjects(batch[1]["instances"], known_classes=KNOWN)
    return batch


def loop_over_rows(logits: Tensor, proposals: list[Instances], *, softmax: bool) -> Tensor:
    """Entry by entry; of a softmax, the denominator."""
    total, place = torch.zeros(()), 0
    for image, own in enumerate(proposals):
        for gt_class in own.gt_classes.tolist():
            row, place = logits[place], place + 1
            known = [gt_class < K or image == 0 or bool(KNOWN[c]) for c in range(K)]
            if softmax:
                columns = [*(c for c in range(K) if known[c]), K]
                total = total - row[gt_class] + row[columns].exp().sum().log()
                continue
            for c in range(K):
                if c == gt_class:
                    total = total - torch.sigmoid(row[c]).log()
                elif known[c]:
                    total = total - torch.sigmoid(-row[c]).log()
    return total / place


@pytest.mark.parametrize("method", ["softmax", "sigmoid"])
def test_the_loss_is_that_of_a_loop_over_what_is_known(method: str) -> None:
    model = built(method)
    proposals = sampled(model, partly_known_batch())
    assert any((own.gt_classes == K).any() for own in proposals)
    rows = sum(map(len, proposals))
    columns = K + (method == "softmax")
    logits = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    deltas = torch.zeros(rows, 4)
    with EventStorage():
        loss = model.roi_heads.box_predictor.losses((logits, deltas), proposals)["loss_cls"]
    expected = loop_over_rows(logits, proposals, softmax=method == "softmax")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("heads", ["LongTailedROIHeads", "CascadeLongTailedROIHeads"])
def test_an_unknown_class_gets_no_gradient_from_background(heads: str) -> None:
    """Batches without an object; with every class known, each gets some."""
    model, batch = built("sigmoid", heads), made_up_batch(1)
    none = batch[0]["instances"][:0]
    for known, moved in ((None, [True] * 3), (KNOWN, KNOWN.tolist())):
        model.zero_grad()
        with EventStorage():
            losses = model([batch[0] | {"instances": TrainingObjects(none, known_classes=known)}])
        sum(value for name, value in losses.items() if "loss_cls" in name).backward()
        predictors = model.roi_heads.box_predictor
        for stage in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
            assert (stage.cls_score.bias.grad != 0).tolist() == moved


def test_the_rows_of_a_classifier_alone_know_the_same() -> None:
    model, batch = built("softmax"), partly_known_batch()
    with EventStorage():
        rows = compute_box_rows(model, batch)
    is_background = rows.gt_classes == K
    second = is_background & (rows.images == 1)
    assert second.any()
    assert (rows.columns[second] == KNOWN).all()
    assert rows.columns[~second].all()
    with EventStorage():
        assert compute_box_rows(model, made_up_batch(2)).columns is None
