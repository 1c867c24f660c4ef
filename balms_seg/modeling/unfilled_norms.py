"""FrozenBN layers that no pretrained weights have filled."""

from __future__ import annotations

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

#: What to do about it, for warnings and errors.
REMEDY = (
    "normalises nothing, so activations grow from layer to layer and a loss soon is not finite: "
    "name pretrained MODEL.WEIGHTS, or train from scratch with MODEL.RESNETS.NORM BN (several "
    "images a GPU) or GN"
)


def has_unfilled_norms(model: nn.Module) -> bool:
    """Whether the model has FrozenBN layers, and all of them are as they were built.

    Their scale and statistics never train. Weights that were converted have the statistics in the
    scale, so either would show that they were loaded.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, FrozenBatchNorm2d)]
    return bool(layers) and all(map(_is_as_built, layers))


def _is_as_built(layer: FrozenBatchNorm2d) -> bool:
    built = FrozenBatchNorm2d(layer.num_features, layer.eps).state_dict()
    return all((value.cpu() == built[name]).all() for name, value in layer.state_dict().items())
