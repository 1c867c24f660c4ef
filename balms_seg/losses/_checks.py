"""Argument checks that the losses share.

Shapes and dtypes are checked on every call. Values are read only where that is free: targets and
class vectors on the CPU at every call, a class vector on another device once, because reading it
stalls the queue; none where torch.compile or a transform of torch.func traces the call. A target
out of range stops in the indexing kernel on a GPU, as in `F.cross_entropy`.
"""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")

# What to do about it.
_PIXELS = (
    "; of pixels, (N, C, H, W), pass logits.movedim(1, -1).flatten(0, -2), and of their class ids, "
    "(N, H, W), targets.flatten()"
)
_CLASS_IDS = "; pass targets.flatten() of class ids, targets.argmax(1).flatten() of one-hot columns"
_IGNORED_PIXEL = 255  # in masks

# id -> (the tensor, its version when it was found valid); entries leave with their tensor.
_valid_class_vectors: dict[int, tuple[weakref.ref[Tensor], int]] = {}


def check_logits_and_targets(
    logits: Tensor, targets: Tensor, *, min_columns: int = 1, has_implicit_background: bool = False
) -> None:
    """Raise unless logits are (N, C), targets (N,) int64 and, on the CPU, in [0, C).

    Args:
        logits: what the caller got.
        targets: what the caller got.
        min_columns: fewest columns C that make sense.
        has_implicit_background: target C is legal too: background without a column.
    """
    require_tensors(logits=logits, targets=targets)
    if logits.dim() != 2 or logits.shape[1] < min_columns:
        raise ValueError(
            f"Expected logits of shape (N, C) with at least {min_columns} columns, "
            f"but got {tuple(logits.shape)}{_PIXELS if logits.dim() > 2 else ''}."
        )
    if not logits.is_floating_point():
        raise TypeError(
            f"Expected floating-point logits, but got {logits.dtype}; pass what the classifier "
            "gives, before any argmax."
        )
    if targets.shape != logits.shape[:1]:
        raise ValueError(
            f"Expected targets of shape ({logits.shape[0]},), one for each row of logits, "
            f"but got {tuple(targets.shape)}{_CLASS_IDS if targets.dim() > 1 else ''}."
        )
    if targets.dtype != torch.int64:
        raise TypeError(f"Expected int64 targets, but got {targets.dtype}; convert with .long().")
    if targets.is_cpu and targets.numel() > 0 and not _is_traced():
        lowest, highest = (int(value) for value in torch.aminmax(targets))
        limit = logits.shape[1] if has_implicit_background else logits.shape[1] - 1
        if lowest < 0 or highest > limit:
            remedy = "class ids count from 0"
            if lowest < 0 or highest == _IGNORED_PIXEL:
                remedy = (
                    "leave out the rows that such values mark as ignored: keep = (targets >= 0) & "
                    f"(targets <= {limit}), then logits[keep] and targets[keep]"
                )
            raise ValueError(
                f"Expected targets in [0, {limit}], but got values from {lowest} to {highest}; "
                f"{remedy}."
            )


def require_tensors(**arguments: object) -> None:
    """Raise TypeError where an argument is a list or an array."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"Expected {name} to be a tensor, but got {type(value).__name__}; "
                "pass torch.as_tensor(...)."
            )


def check_class_vector(
    vector: Tensor, *, name: str, num_classes: int | None = None, upper: float
) -> None:
    """Raise unless `vector` is (K,), a constant, and strictly between 0 and `upper`.

    Args:
        vector: what the caller got.
        name: of the argument.
        num_classes: K; None: whatever it has.
        upper: see above.
    """
    require_tensors(**{name: vector})
    num_classes = vector.numel() if num_classes is None else num_classes
    if vector.shape != (num_classes,):
        raise ValueError(
            f"Expected {name} of shape ({num_classes},), one for each class, "
            f"but got {tuple(vector.shape)}."
        )
    if vector.requires_grad:
        raise ValueError(f"{name} are constants here, but require a gradient; pass .detach().")
    if _is_traced():
        return
    known = _valid_class_vectors.get(id(vector))
    if known is not None and known[0]() is vector and known[1] == vector._version:
        return
    _check_values(vector, name=name, upper=upper)
    if vector.device.type != "cpu" and not vector.is_inference():  # those have no version
        _remember_as_valid(vector)


def _is_traced() -> bool:
    """Whether tensors have no values to read: under torch.compile, or in a torch.func transform."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _remember_as_valid(vector: Tensor) -> None:
    key = id(vector)
    reference = weakref.ref(vector, lambda _: _valid_class_vectors.pop(key, None))
    _valid_class_vectors[key] = (reference, vector._version)


def _check_values(vector: Tensor, *, name: str, upper: float) -> None:
    lowest, highest = torch.stack(torch.aminmax(vector)).tolist()  # one read of the device
    if not (lowest > 0 and highest < upper):  # a NaN fails too
        interval = f"in (0, {upper:g})" if math.isfinite(upper) else "positive and finite"
        raise ValueError(
            f"Expected {name} {interval}, but got values from {lowest:g} to {highest:g}; "
            "prior_counts of ClassStatistics has a value for classes without a sample."
        )


def check_reduction(reduction: str) -> None:
    """Raise unless `reduction` is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"Expected reduction to be one of {REDUCTIONS}, but got {reduction!r}.")


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Reduce a loss (N,); "mean" divides by N and is 0, with a gradient, where N = 0."""
    if reduction == "none":
        return loss
    total = loss.sum()
    return total / max(loss.numel(), 1) if reduction == "mean" else total


def widen_with(values: Tensor, like: Tensor) -> Tensor:
    """Class counts in the wider of their dtype and that of widened logits; integers in the latter.

    So that the logarithm of integer or float32 counts is as exact as float64 logits.
    """
    return values.to(torch.promote_types(values.dtype, like.dtype))


def widen(values: Tensor) -> Tensor:
    """Half precision and integers become float32; float32 and float64 stay as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
