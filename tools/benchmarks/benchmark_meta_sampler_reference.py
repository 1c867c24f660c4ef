"""The authors' Meta Sampler rebuilt: what `benchmark.py meta_sampler` compares with.

Source: jiawei-ren/BalancedMetaSoftmax-Classification, data/MetaSampler.py and run_networks.py, read
for what an iteration computes and keeps; it uses the abandoned package `higher`.

n images, K classes, b images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Indices of images to their features and labels.
Images = Callable[[Tensor], tuple[Tensor, Tensor]]


class ReferenceMetaSampler:
    """One iteration: straight-through rows over all images, a meta step by autograd, a real step.

    Every image has a one-hot row of its class, and a batch a dense (b, n) matrix with its graph.
    """

    def __init__(
        self,
        layer: nn.Linear,
        optimizer: torch.optim.SGD,
        *,
        labels: Tensor,
        counts: Tensor,
        images: Images,
        meta_images: Callable[[], tuple[Tensor, Tensor]],
        batch_size: int,
        meta_lr: float = 0.01,
    ) -> None:
        """Prepare the scheme.

        Args:
            layer: the classifier.
            optimizer: of its weight and bias, with momentum.
            labels: (n,) of the training set.
            counts: (K,) of the training set.
            images: features (b, D) and labels (b,) of drawn images.
            meta_images: features and labels of the next meta batch.
            batch_size: b.
            meta_lr: Adam's.
        """
        self.layer, self.optimizer, self.batch_size = layer, optimizer, batch_size
        self.images, self.meta_images = images, meta_images
        like = layer.weight.detach()
        self.log_counts = counts.to(like).log()
        self.one_hot = F.one_hot(labels, len(counts)).to(like)
        self.psi = nn.Parameter(like.new_zeros(len(counts)))
        self.meta_optimizer = torch.optim.Adam([self.psi], lr=meta_lr)

    def run_step(self) -> None:
        """Draw a batch; a meta step and a training step on it."""
        rates = (self.one_hot @ self.psi[:, None]).sigmoid().squeeze(1)
        log_rates = rates[None].expand(self.batch_size, -1).log()
        rows = F.gumbel_softmax(log_rates, hard=True, dim=-1)
        queued = rows.clone()  # what the release's queue holds until the loss asks for it
        features, labels = self.images(rows.detach().nonzero()[:, 1])

        losses = self._losses(self.layer(features), labels)
        loss = (losses[:, None] * queued.detach() * queued).sum(dim=1).mean()
        parameters = [self.layer.weight, self.layer.bias]
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        virtual = [self._sgd(*pair) for pair in zip(parameters, gradients, strict=True)]
        meta_features, meta_labels = self.meta_images()
        self.meta_optimizer.zero_grad()
        meta_loss = F.cross_entropy(F.linear(meta_features, *virtual), meta_labels)
        (self.psi.grad,) = torch.autograd.grad(meta_loss, [self.psi])
        self.meta_optimizer.step()

        self.optimizer.zero_grad()
        self._losses(self.layer(features), labels).mean().backward()
        self.optimizer.step()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.log_counts, labels, reduction="none")

    def _sgd(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        (group,) = self.optimizer.param_groups
        velocity = gradient + group["weight_decay"] * parameter
        buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            velocity = group["momentum"] * buffer + velocity
        return parameter - group["lr"] * velocity
