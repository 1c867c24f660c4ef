"""Train a few parameters of a model and leave everything else as it is."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import MethodType

from torch import nn
from torch.nn.modules.batchnorm import _NormBase as NormWithStatistics

logger = logging.getLogger(__name__)


def train_only(
    model: nn.Module, patterns: Sequence[str], *, frozen_norm: str = "eval"
) -> nn.Module:
    """Freeze every parameter that no pattern matches, in place.

    Normalisation layers without a matching parameter or buffer stay in evaluation mode from now
    on, also through `model.train()`, so that their running statistics do not change.

    Args:
        model: any model.
        patterns: names of parameters or modules, with the wildcards of `fnmatch`; a module stands
            for all parameters below it. "roi_heads.box_predictor.cls_score" is the box classifier,
            "roi_heads.box_predictor.*.cls_score" those of cascade heads.
        frozen_norm: "train" lets the normalisation of frozen layers follow the batches instead, as
            the authors' release does for classification; evaluation then sees other statistics
            than those that the checkpoint was written with.

    Returns:
        The same model.

    Raises:
        ValueError: `patterns` is empty, one of them matches no parameter, or `frozen_norm` is
            unknown.
    """
    if frozen_norm not in ("eval", "train"):
        raise ValueError(
            f"Expected frozen_norm eval or train, but got {frozen_norm!r}; set MODEL.FROZEN_NORM."
        )
    names = [name for name, _ in model.named_parameters()]
    _check_patterns(names, patterns)
    num_trained = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_matches(name, patterns))
        num_trained += parameter.numel() if parameter.requires_grad else 0
    if frozen_norm == "eval":
        _freeze_statistics(model, patterns)
    logger.info(
        "Training %d of the model's %d parameters: %s.",
        num_trained,
        sum(parameter.numel() for parameter in model.parameters()),
        ", ".join(name for name in names if _matches(name, patterns)),
    )
    return model


@contextmanager
def normalised_as_in_evaluation(model: nn.Module) -> Iterator[None]:
    """Within, normalisation layers use their running statistics, and leave them as they are."""
    following = [m for m in model.modules() if isinstance(m, NormWithStatistics) and m.training]
    for module in following:
        module.eval()
    try:
        yield
    finally:
        for module in following:
            module.train()


def _freeze_statistics(model: nn.Module, patterns: Sequence[str]) -> None:
    for name, module in model.named_modules():
        if isinstance(module, NormWithStatistics) and not any(
            _matches(f"{name}.{own}", patterns) for own in module.state_dict()
        ):
            module.eval()
            setattr(module, "train", MethodType(_stay_in_evaluation_mode, module))  # noqa: B010


def _stay_in_evaluation_mode(self: nn.Module, mode: bool = True) -> nn.Module:
    return self


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def _check_patterns(names: Sequence[str], patterns: Sequence[str]) -> None:
    if not patterns:
        raise ValueError("Expected names of parameters to train, but got none.")
    # A module's name can be meant as well as a parameter's.
    prefixes = {
        name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)
    }
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            near = difflib.get_close_matches(pattern, sorted(prefixes), n=3, cutoff=0.4)
            hint = f" Names like it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"Expected a name of parameters to train (MODEL.TRAIN_ONLY), but {pattern!r} "
                f"matches none of the model's {len(names)} parameters.{hint}"
            )
