"""Notices an optimiser that was built before a classifier of its model was replaced.

Such an optimiser goes on changing what is no part of the model any more, and the new classifier
stays as it was initialised: the loss falls a little, and nothing says why it stops there.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

_REPLACED = WeakTensorKeyDictionary()  # old parameter -> weak reference to one that took its place


def note_replaced(old: nn.Module, new: nn.Module) -> None:
    """From now on, stop the step of an optimiser that holds `old`'s parameters and not `new`'s.

    Args:
        old: a layer that was part of a model.
        new: the one in its place, with parameters of its own.
    """
    _watch_optimizers()
    successor = weakref.ref(next(new.parameters()))
    for parameter in old.parameters():
        _REPLACED[parameter] = successor


@functools.cache
def _watch_optimizers() -> None:
    register_optimizer_step_pre_hook(_refuse_stale)


def _refuse_stale(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _REPLACED:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for old, reference in _REPLACED.items():
        new = reference()
        if new is not None and id(old) in held and id(new) not in held:
            raise RuntimeError(
                "The optimiser was built before replace_box_classifier and holds the parameters of "
                "the classifier that was replaced, so the new one would never be trained; build "
                "the optimiser (and a trainer, which builds one) after the replacement."
            )
