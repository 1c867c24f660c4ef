"""One training step on the device beside the same one on the CPU."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from made_up_data import IMAGE_SIZE_PX, made_up_batch, made_up_statistics, small_config
from torch import Tensor, nn

from balms_seg.engine.step import TrainingStep
from balms_seg.methods import METHODS
from balms_seg.modeling import replace_box_classifier

FIXED_PROPOSALS = {"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals"}
CLASSIFIERS = ("softmax", "balanced_softmax", "sigmoid", "balanced_sigmoid")


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def batch_with_proposals() -> list[dict]:
    """Images whose objects, moved by some pixels, are the proposals, and some background."""
    batch = made_up_batch()
    generator = torch.Generator().manual_seed(0)
    for record in batch:
        objects = record["instances"].gt_boxes.tensor
        shifts = torch.randint(-3, 4, (4 * len(objects), 1), generator=generator)
        corners = torch.randint(0, 40, (8, 2), generator=generator).float()
        boxes = torch.cat([objects.repeat(4, 1) + shifts, torch.cat([corners, corners + 12], 1)])
        record["proposals"] = Instances(
            (IMAGE_SIZE_PX, IMAGE_SIZE_PX),
            proposal_boxes=Boxes(boxes),
            objectness_logits=torch.zeros(len(boxes)),
        )
    return batch


def step_on(device: str, model: nn.Module, batch: list[dict]) -> dict[str, Tensor]:
    """Losses of a step on a device, and the weights that it leaves."""
    model = copy.deepcopy(model).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = TrainingStep(model, [batch], optimizer, seed=0)
    with EventStorage() as storage:
        step.iter = 0
        step.run_step()
        losses = {
            name: torch.tensor(v[0]) for name, v in storage.latest().items() if "loss" in name
        }
    return losses | {name: value.cpu() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_losses_and_weights_are_those_of_the_cpu(classifier: str) -> None:
    torch.manual_seed(0)
    model = build_model(
        small_config({**FIXED_PROPOSALS, "MODEL.ROI_BOX_HEAD.CLASSIFIER": classifier})
    ).train()
    replace_box_classifier(model, classifier, made_up_statistics())
    batch = batch_with_proposals()
    here, there = step_on("cpu", model, batch), step_on("cuda", model, batch)
    assert {"loss_cls", "loss_box_reg", "loss_mask", "total_loss"} <= here.keys()
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_proposals_drawn_on_the_device_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balms_seg.modeling.roi_heads.next_image", lambda purpose: nullcontext())
    with pytest.raises(AssertionError, match="not close"):
        test_losses_and_weights_are_those_of_the_cpu("softmax")


def test_a_loss_of_another_scale_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS["balanced_softmax"]
    right = method.training_loss

    def with_mistake(self: nn.Module, logits: Tensor, *args: object) -> Tensor:
        losses = right(self, logits, *args)
        return losses * 1.001 if logits.is_cuda else losses

    monkeypatch.setattr(method, "training_loss", with_mistake)
    with pytest.raises(AssertionError, match="not close"):
        test_losses_and_weights_are_those_of_the_cpu("balanced_softmax")
