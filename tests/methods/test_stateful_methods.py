"""Methods with running state against their references, and their state over two processes.

The references' numbers: tests/golden/README.md. R rows, K classes; K is background.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from gloo_ranks import gloo_rank
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from balms_seg.methods import METHODS, LossContext, Method

GOLDEN = Path(__file__).parents[1] / "golden" / "stateful_losses.npz"
K, STEPS = 6, 3
STATEFUL = [name for name, method in METHODS.items() if method.has_state]
LEARNED = {
    "seesaw": ("seesaw_counts", ["counts"]),
    "eqlv2": ("eqlv2_gradients_so_far", ["positive_gradients", "negative_gradients"]),
}


def build(name: str, *, has_background: bool = True, **settings: float) -> Method:
    cls = METHODS[name]
    return cls(K, has_background=has_background, settings=cls.Settings(**settings))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


def rows_of(golden: dict[str, Tensor], step: int, method: Method) -> tuple[Tensor, Tensor]:
    logits = golden["logits"][step, :, : method.num_columns].clone().requires_grad_()
    return logits, golden["targets"][step]


@pytest.mark.parametrize("name", list(LEARNED))
def test_three_batches_in_a_row_equal_the_reference(name: str, golden: dict[str, Tensor]) -> None:
    method, (key, buffers) = build(name), LEARNED[name]
    for step in range(STEPS):
        logits, targets = rows_of(golden, step, method)
        loss = method.training_loss(logits, targets, LossContext()).mean()
        loss.backward()
        torch.testing.assert_close(loss, golden[f"{name}_loss"][step])
        torch.testing.assert_close(logits.grad, golden[f"{name}_gradient"][step])
        probabilities = method.probabilities(logits.detach())
        torch.testing.assert_close(probabilities, golden[f"{name}_probabilities"][step])
        state = torch.stack([getattr(method, buffer).double() for buffer in buffers]).squeeze(0)
        torch.testing.assert_close(state, golden[key][step])


@pytest.mark.parametrize("name", STATEFUL)
def test_the_second_step_depends_on_the_first(name: str, golden: dict[str, Tensor]) -> None:
    outcomes = []
    for first in (0, 1):
        method = build(name, **({"momentum": 0.1} if name == "logn" else {}))
        method.training_loss(*rows_of(golden, first, method), LossContext())
        logits, targets = rows_of(golden, 1, method)
        loss = method.loss(logits, targets, LossContext()).mean()
        outcomes.append(method.probabilities(logits)[:, 0].mean() if name == "logn" else loss)
    assert abs(outcomes[0] - outcomes[1]) > 1e-4


def test_seesaw_without_its_factors_is_two_cross_entropies(golden: dict[str, Tensor]) -> None:
    method = build("seesaw", p=0.0, q=0.0)
    logits, targets = rows_of(golden, 0, method)
    rows = method.training_loss(logits, targets, LossContext())
    is_background = targets == K
    expected = cross_entropy(logits[:, K:], is_background.long(), reduction="none")
    of_classes = cross_entropy(logits[:, :K], targets.clamp(max=K - 1), reduction="none")
    torch.testing.assert_close(rows, expected + torch.where(is_background, 0, of_classes))
    torch.testing.assert_close(rows, method.plain_loss(logits, targets))


def test_seesaw_softens_negatives_of_rare_classes_and_strengthens_wrong_ones() -> None:
    """By hand: 8 samples of class 0 and 1 of class 1 so far, p 0.5, q 2, a row of class 0."""
    method = METHODS["seesaw"](2, has_background=False, settings=METHODS["seesaw"].Settings(p=0.5))
    method.counts += torch.tensor([8, 1])
    for score in (0.2, 0.75):  # of class 1, below and above class 0's
        logits = torch.tensor([[1 - score, score]]).log()
        factor = (1 / 8) ** 0.5 * max(1, score / (1 - score)) ** 2
        expected = torch.tensor([1 + factor * score / (1 - score)]).log()
        rows = method.loss(logits, torch.tensor([0]), LossContext())
        torch.testing.assert_close(rows, expected)


def test_eqlv2_starts_as_the_plain_sigmoid_loss(golden: dict[str, Tensor]) -> None:
    method = build("eqlv2")
    logits, targets = rows_of(golden, 0, method)
    expected = binary_cross_entropy_with_logits(
        logits, one_hot(targets, K + 1).to(logits), reduction="none"
    ).sum(dim=1)
    torch.testing.assert_close(method.loss(logits, targets, LossContext()), expected)
    torch.testing.assert_close(method.plain_loss(logits, targets), expected)


def test_eqlv2_weighs_positives_up_and_negatives_down_by_the_ratio() -> None:
    """By hand: a ratio of mu gives negatives 1/2 and positives 1 + alpha / 2."""
    settings = METHODS["eqlv2"].Settings(gamma=12.0, mu=0.8, alpha=4.0)
    method = METHODS["eqlv2"](2, has_background=True, settings=settings)
    method.positive_gradients += torch.tensor([0.8, 80.0])
    method.negative_gradients += torch.tensor([1.0, 1.0])
    entries = torch.full((2, 3), 2.0).log()  # -log(1 - p) and -log p of p = 1/2
    rows = method.loss(torch.zeros(2, 3), torch.tensor([0, 2]), LossContext())
    torch.testing.assert_close(rows, (entries * torch.tensor([[3.0, 1, 1], [0.5, 1, 1]])).sum(1))


@pytest.mark.parametrize("name", STATEFUL)
def test_whole_images_have_neither_objectness_nor_background(name: str) -> None:
    method = build(name, has_background=False)
    assert method.num_columns == K
    logits = torch.zeros(3, K)
    scores = torch.full((3, K), 0.5 if method.independent_scores else 1 / K)
    torch.testing.assert_close(method.probabilities(logits), scores)


# Four iterations of two ranks; together classes 0, 1 and 2 have 14, 7 and 2 rows.
RANK_TARGETS = (
    ([0, 1, 1, 6], [0, 1, 2], [0, 1, 1, 6, 6], [0, 0]),
    ([0, 0, 0, 6], [], [0, 0, 1, 2], [0, 0, 0, 0, 1, 6]),
)


def rank_rows(rank: int, iteration: int) -> tuple[Tensor, Tensor]:
    targets = torch.tensor(RANK_TARGETS[rank][iteration], dtype=torch.int64)
    generator = torch.Generator().manual_seed(10 * iteration + rank)
    return torch.randn(len(targets), K + 2, generator=generator), targets


def train_on_rank(rank: int, folder: str) -> None:
    with gloo_rank(rank, folder):
        for name in STATEFUL:
            method = build(name)
            for iteration in range(4):
                logits, targets = rank_rows(rank, iteration)
                method.training_loss(logits[:, : method.num_columns], targets, LossContext())
            torch.save(method.state_dict(), f"{folder}/{name}_{rank}.pth")


def test_the_state_of_two_ranks_is_that_of_one_process(tmp_path: Path) -> None:
    mp.spawn(train_on_rank, args=(str(tmp_path),), nprocs=2)
    for name in STATEFUL:
        alone = build(name)
        for iteration in range(4):
            both = [rank_rows(rank, iteration) for rank in range(2)]
            logits, targets = (torch.cat(part) for part in zip(*both, strict=True))
            alone.training_loss(logits[:, : alone.num_columns], targets, LossContext())
        ranks = [torch.load(tmp_path / f"{name}_{rank}.pth") for rank in range(2)]
        for key, value in alone.state_dict().items():
            assert torch.equal(ranks[0][key], ranks[1][key])
            torch.testing.assert_close(ranks[0][key], value)
    counts = torch.load(tmp_path / "seesaw_0.pth")["counts"]
    assert counts.tolist() == [14, 7, 2, 0, 0, 0]
