"""What a training step holds on its device: measured in part, and added up by a stated formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# What the CUDA context and the libraries take on a device before the first tensor.
CONTEXT_BYTES = 2**29
# detectron2's published peaks of Mask R-CNN R-50-FPN, two images a GPU, are 1.4 (COCO, 3.4 GB) and
# 1.8 times (LVIS v0.5, 7.1 GB) what is added up here.
PEAK_FACTOR = 1.8
_STATES = {"SGD": 1, "AdamW": 2}  # tensors that an optimiser keeps of each weight


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step holds on each device.

    Attributes:
        weights: of the model, buffers included.
        gradients: of what is trained.
        optimizer: momentum, or AdamW's two moments, of what is trained.
        average: the moving average's copy of the weights; 0 without one.
        activations: what a forward pass keeps of one image for the backward pass.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int


def training_memory(
    model: nn.Module, activations: int, *, optimizer: str, has_average: bool
) -> TrainingMemory:
    """Add up what the weights of a model need.

    Args:
        model: its parameters that require a gradient are those trained.
        activations: bytes of one image, see `activation_bytes`.
        optimizer: "SGD" or "AdamW".
        has_average: whether a moving average of the weights is kept.
    """
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    weights = sum(map(_bytes, [*model.parameters(), *model.buffers()]))
    return TrainingMemory(
        weights=weights,
        gradients=trained,
        optimizer=_STATES[optimizer] * trained,
        average=weights if has_average else 0,
        activations=activations,
    )


def activation_bytes(forward: Callable[[Any], Any], batch: Any, model: nn.Module) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights left out; storages once.

    Args:
        forward: takes the batch; runs the model with gradients.
        batch: what it takes.
        model: whose parameters and buffers are left out.
    """
    kept: dict[int, int] = {}
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    alive = []  # so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        forward(batch)
    return sum(kept.values())


def num_foreground_rows(cfg: CfgNode) -> int:
    """Sampled proposals of an image that lie on objects, at most."""
    heads = cfg.MODEL.ROI_HEADS
    return int(heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION)


def mask_logit_bytes(cfg: CfgNode, model: nn.Module) -> int:
    """Bytes of an image's mask logits and of their gradient, which a step holds at once.

    Args:
        cfg: of the run.
        model: where nothing before the logits is trained, they have no gradient.
    """
    if not cfg.MODEL.MASK_ON:
        return 0
    before = ("backbone.", "roi_heads.mask_head.")
    has_gradient = any(
        p.requires_grad for name, p in model.named_parameters() if name.startswith(before)
    )
    head = cfg.MODEL.ROI_MASK_HEAD
    num_classes = 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    side = 2 * head.POOLER_RESOLUTION
    return (1 + has_gradient) * 4 * num_foreground_rows(cfg) * num_classes * side**2


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
