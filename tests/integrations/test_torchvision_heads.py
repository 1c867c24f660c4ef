"""torchvision's detectors with Balanced Softmax: its own numbers where the classes are equal."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision_models import COUNTS, K, tiny_mask_rcnn, tiny_retinanet

from balms_seg.integrations import BalancedRetinaNetHead, BalancedRoIHeads
from balms_seg.losses import balanced_softmax_loss_with_background

TINY = {MaskRCNN: tiny_mask_rcnn, RetinaNet: tiny_retinanet}


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 4:30, 4:30], masks[1, 20:50, 30:60] = 1, 1
    boxes = torch.tensor([[4.0, 4, 30, 30], [30, 20, 60, 50]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks}
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(3, 64, 64, generator=generator)] * 2, [target] * 2


def losses(model: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)  # which proposals are sampled
    return model.train()(*batch())


def balanced_rcnn(counts: Tensor) -> nn.Module:
    model = tiny_mask_rcnn()
    model.roi_heads = BalancedRoIHeads(model.roi_heads, counts)
    return model


def balanced_retinanet(frequency: Tensor) -> nn.Module:
    model = tiny_retinanet()
    head = model.head.classification_head
    model.head.classification_head = BalancedRetinaNetHead(head, frequency)
    return model


@pytest.mark.parametrize("kind", [MaskRCNN, RetinaNet])
def test_equal_classes_give_torchvisions_own_losses_and_gradients(kind: type[nn.Module]) -> None:
    theirs = TINY[kind]()
    equal = {MaskRCNN: torch.full((K,), 37), RetinaNet: torch.full((K + 1,), 0.5)}[kind]
    ours = (balanced_rcnn if kind is MaskRCNN else balanced_retinanet)(equal)
    expected, found = losses(theirs), losses(ours)
    assert {key: value.item() for key, value in found.items()} == {
        key: value.item() for key, value in expected.items()
    }
    sum(expected.values()).backward()
    sum(found.values()).backward()
    for (name, one), (other_name, other) in zip(
        theirs.named_parameters(), ours.named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one.grad, other.grad)


def test_the_classification_loss_is_our_balanced_softmax() -> None:
    """Of background moved from the first column to the last."""
    model, seen = balanced_rcnn(COUNTS), {}
    plain = copy.deepcopy(model.roi_heads.box_predictor)
    model.roi_heads.box_head.register_forward_hook(
        lambda module, inputs, output: seen.update(logits=plain(output)[0])
    )
    found = losses(model)["loss_classifier"]
    is_object = model.roi_heads._is_object
    assert 0 < is_object.sum() < len(is_object)
    labels = relabelled(model)
    logits = torch.cat([seen["logits"][:, 1:], seen["logits"][:, :1]], dim=1)
    expected = balanced_softmax_loss_with_background(
        logits, (labels - 1) % (K + 1), COUNTS, background="neutral"
    )
    torch.testing.assert_close(found, expected)
    assert not torch.isclose(found, F.cross_entropy(seen["logits"], labels))


def relabelled(model: nn.Module) -> Tensor:
    """The labels of the samples, from another pass with the same draws."""
    seen = []
    theirs = model.roi_heads.select_training_samples

    def select(*args: object) -> object:
        samples = theirs(*args)
        seen.append(torch.cat(samples[2]))
        return samples

    model.roi_heads.select_training_samples = select
    losses(model)
    return seen[0]


def test_rare_classes_of_retinanet_are_pushed_up_by_anchors_of_objects_alone() -> None:
    frequency = torch.tensor([0.5, 0.6, 0.2, 0.02])
    plain = losses(tiny_retinanet())["classification"]
    assert losses(balanced_retinanet(frequency))["classification"] > plain
    images, targets = batch()
    empty = [{key: value[:0] for key, value in target.items()} for target in targets]
    ours, theirs = balanced_retinanet(frequency), tiny_retinanet()
    assert torch.equal(
        ours.train()(images, empty)["classification"],
        theirs.train()(images, empty)["classification"],
    )


@pytest.mark.parametrize("kind", [MaskRCNN, RetinaNet])
def test_inference_and_the_weights_names_are_torchvisions(kind: type[nn.Module]) -> None:
    theirs = TINY[kind]().eval()
    made = balanced_rcnn(COUNTS) if kind is MaskRCNN else balanced_retinanet(torch.full((4,), 0.1))
    assert made.state_dict().keys() == theirs.state_dict().keys()
    images, _ = batch()
    with torch.no_grad():
        for one, other in zip(theirs(images), made.eval()(images), strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        balanced_rcnn(torch.tensor([3, 0, 1]))
    with pytest.raises(ValueError, match="classifier of 3 columns.* but got 4; give counts"):
        losses(balanced_rcnn(torch.tensor([3, 1])))
