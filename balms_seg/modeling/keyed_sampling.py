"""Proposal and anchor sampling that is a function of (seed, stream position).

detectron2 draws both from the global generator, so the sampled proposals of an image depend on
everything drawn before it. Inside `keyed_sampling` each image has a generator of its own, on the
CPU, which makes a resumed run equal an uninterrupted one and the draws independent of how a batch
is shared out and of the device. Outside of it (another project's training loop) nothing changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes
from torch import Tensor
from torch.overrides import TorchFunctionMode

from balms_seg.device_copies import sent
from balms_seg.modeling.ignored_regions import lies_on_ignored
from balms_seg.sampling.keyed import position_seed


class _Keys:
    def __init__(self, seed: int, positions: Sequence[int], iteration: int | None) -> None:
        self.seed = seed
        self.positions = positions
        self.images_seen: Counter[str] = Counter()
        self.of_batch: torch.Generator | None = None
        if iteration is not None:
            key = position_seed(seed, iteration, "batch")
            self.of_batch = torch.Generator().manual_seed(key)

    def next_seed(self, purpose: str) -> int:
        """The seed of the next image; the heads visit the images of a batch in order."""
        image = self.images_seen[purpose] % len(self.positions)
        self.images_seen[purpose] += 1
        return position_seed(self.seed, self.positions[image], purpose)


_KEYS: ContextVar[_Keys | None] = ContextVar("balms_seg_sampling_keys", default=None)


@contextmanager
def keyed_sampling(
    seed: int, positions: Sequence[int], *, iteration: int | None = None
) -> Iterator[None]:
    """Key the sampling of one forward pass.

    Args:
        seed: the run's seed.
        positions: stream position of each image of this rank's batch, in the batch's order.
        iteration: of the run, which keys what is drawn for the global batch; None: nothing is.
    """
    token = _KEYS.set(_Keys(seed, positions, iteration))
    try:
        yield
    finally:
        _KEYS.reset(token)


def batch_generator() -> torch.Generator | None:
    """What draws for the global batch: the same numbers on all ranks, and in a resumed run.

    None outside of `keyed_sampling`.
    """
    keys = _KEYS.get()
    return None if keys is None else keys.of_batch


class _PermutationsOfHost(TorchFunctionMode):
    """detectron2 permutes on the device, whose generator gives other numbers than the CPU's."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not torch.randperm:
            return func(*args, **kwargs)
        device = kwargs.pop("device", "cpu")
        return sent(func(*args, generator=self._generator, **kwargs), device)


def next_image(purpose: str) -> AbstractContextManager[Any]:
    """Within it permutations are drawn by the generator of the batch's next image."""
    keys = _KEYS.get()
    return nullcontext() if keys is None else _PermutationsOfHost(keys.next_seed(purpose))


@PROPOSAL_GENERATOR_REGISTRY.register()
class KeyedRPN(RPN):
    """detectron2's RPN, its anchor sampling keyed by stream position.

    Anchors on ignored regions are neither foreground nor background. In training mode an empty list
    of ground truth gives the proposals of training without losses.
    """

    def label_and_sample_anchors(self, anchors: list[Any], gt_instances: list[Any]) -> Any:
        """As detectron2's, without anchors on ignored regions; nothing without ground truth."""
        if not gt_instances:
            return [], []
        boxes = Boxes.cat(anchors)
        on_regions = [lies_on_ignored(boxes, target) for target in gt_instances]
        self._on_regions = iter(on_regions)  # detectron2 visits the images in order
        return super().label_and_sample_anchors(anchors, gt_instances)

    def losses(
        self, anchors: list[Any], logits: Any, gt_labels: list[Tensor], deltas: Any, gt_boxes: Any
    ) -> dict[str, Tensor]:
        """As detectron2's; nothing where no anchor was labelled."""
        return super().losses(anchors, logits, gt_labels, deltas, gt_boxes) if gt_labels else {}

    def _subsample_labels(self, label: Tensor) -> Tensor:
        is_on_region = next(self._on_regions, None)
        if is_on_region is not None:
            label = torch.where(is_on_region, label.new_tensor(-1), label)
        with next_image("anchors"):
            return super()._subsample_labels(label)
