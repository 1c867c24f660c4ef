"""The losses alone, in a training loop of plain PyTorch: classes of 1000, 100 and 10 points.

    python docs/examples/plain_pytorch.py

Neither detectron2 nor a configuration is needed. Takes seconds on a CPU.
"""

import torch
from torch import nn

from balms_seg.losses import balanced_softmax_loss


def made_up_points(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """So many points of each class around the class's own centre, which overlap."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    centres = torch.eye(len(counts), 8)
    return 2 * centres[targets] + torch.randn(len(targets), 8, generator=generator), targets


def train(counts: list[int], *, balanced: bool) -> list[float]:
    """The accuracy of each class on as many points of each."""
    inputs, targets = made_up_points(counts, seed=0)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, len(counts)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    class_counts = torch.bincount(targets, minlength=len(counts))
    for _ in range(200):
        logits = model(inputs)
        if balanced:
            loss = balanced_softmax_loss(logits, targets, class_counts)
        else:
            loss = nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test_inputs, test_targets = made_up_points([500] * len(counts), seed=2)
    is_right = model(test_inputs).argmax(dim=1) == test_targets  # the plain logits at test time
    return [is_right[test_targets == c].float().mean().item() for c in range(len(counts))]


if __name__ == "__main__":
    for balanced in (False, True):
        accuracies = " ".join(f"{each:.2f}" for each in train([1000, 100, 10], balanced=balanced))
        print("balanced softmax" if balanced else "cross-entropy   ", accuracies)
