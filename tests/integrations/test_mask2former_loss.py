"""Hugging Face's Mask2Former with Balanced Softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="an integration for who has transformers")
pytest.importorskip("scipy", reason="Mask2Former matches with scipy")

from mask2former_models import K, tiny_mask2former  # noqa: E402

from balms_seg.integrations import BalancedMask2FormerLoss  # noqa: E402
from balms_seg.losses import balanced_softmax_loss_with_background  # noqa: E402


def loss_of(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(2, 64, 64)
    masks[0, 4:30, 4:30], masks[1, 20:50, 30:60] = 1, 1
    torch.manual_seed(2)  # the points at which masks are compared
    return model(
        pixel_values=torch.rand(1, 3, 64, 64, generator=generator),
        mask_labels=[masks],
        class_labels=[torch.tensor([0, 2])],
    ).loss


def balanced(counts: list[int]) -> nn.Module:
    made = tiny_mask2former()
    counts_of = torch.tensor(counts)
    made.criterion = BalancedMask2FormerLoss(made.config, made.weight_dict, counts_of)
    return made


def test_equal_counts_give_its_own_loss_and_gradients() -> None:
    theirs, ours = tiny_mask2former(), balanced([37] * K)
    expected, found = loss_of(theirs), loss_of(ours)
    assert found.item() == expected.item()
    expected.backward()
    found.backward()
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)
    assert theirs.state_dict().keys() == ours.state_dict().keys()


def test_matched_queries_take_our_balanced_softmax() -> None:
    counts = torch.tensor([90, 9, 3])
    criterion = balanced(counts.tolist()).criterion
    logits = torch.randn(1, 4, K + 1, generator=torch.Generator().manual_seed(3))
    indices = [(torch.tensor([3, 1]), torch.tensor([0, 1]))]  # queries 3 and 1 are of objects
    labels = [torch.tensor([2, 0])]
    found = criterion.loss_labels(logits, labels, indices)["loss_cross_entropy"]
    targets = torch.tensor([K, 0, K, 2])
    rows = balanced_softmax_loss_with_background(
        logits[0], targets, counts, background="neutral", reduction="none"
    )
    weights = criterion.empty_weight[targets]  # "no object" counts less, as in theirs
    torch.testing.assert_close(found, (weights * rows).sum() / weights.sum())


def test_counts_move_the_loss() -> None:
    assert loss_of(balanced([3, 30, 90])).item() != loss_of(tiny_mask2former()).item()
