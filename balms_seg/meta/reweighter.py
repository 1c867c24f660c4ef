"""The Meta Reweighter: a learned loss weight for each class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from balms_seg.meta.adam import AdamState, adam_step
from balms_seg.meta.gradient import Sum
from balms_seg.meta.row_weights import (
    NORMALISE,
    RowWeights,
    class_weights,
    psi_gradient,
    sum_by_class,
)

logger = logging.getLogger(__name__)

_MAX_NAMES = 5  # named in a message


class MetaReweighter(nn.Module):
    """Class weights sigmoid(psi) on foreground rows, and the Adam that learns psi.

    N rows, K classes; target K is background, whose weight is 1. psi starts at 0, where every
    weight is 1. psi is a buffer, not a parameter: no optimiser and no data-parallel wrapper may
    touch it. All ranks hold the same psi as long as they call the same methods in the same order.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement B.2.
    """

    psi: Tensor
    first_moment: Tensor
    second_moment: Tensor
    num_steps: Tensor
    has_meta_samples: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        normalise: str = "global",
        sum_over_ranks: Sum | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Start with equal weights.

        Args:
            num_classes: K.
            lr: Adam's; 0.001 in the paper, 0.01 in the authors' release.
            betas: Adam's.
            weight_decay: L2 penalty that draws every weight back to the same value.
            normalise: "global" gives the foreground rows of all ranks mean weight 1, "rank" those
                of each rank (as released). The same with one rank.
            sum_over_ranks: adds a tensor up over the ranks; None for a single process.
            class_names: K names for messages, checked against a checkpoint's.

        Raises:
            ValueError: `normalise` is unknown, Adam's settings are out of range, or there are not
                K names.
        """
        super().__init__()
        if normalise not in NORMALISE:
            raise ValueError(
                f"Expected normalise to be one of {NORMALISE}, but got {normalise!r}; set "
                "META.NORMALISE."
            )
        if not (lr >= 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(
                f"Expected lr >= 0, weight_decay >= 0 and betas in [0, 1), but got {lr}, "
                f"{weight_decay} and {betas}; set META.LR and META.BETAS."
            )
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"Expected {num_classes} class names, but got {len(class_names)}.")
        self.lr, self.betas, self.weight_decay = lr, (betas[0], betas[1]), weight_decay
        self.normalise = normalise
        self.sum_over_ranks = sum_over_ranks
        self.class_names = None if class_names is None else list(class_names)
        for name in ("psi", "first_moment", "second_moment"):
            self.register_buffer(name, torch.zeros(num_classes))
        self.register_buffer("num_steps", torch.zeros(num_classes, dtype=torch.int64))
        is_present = torch.ones(num_classes, dtype=torch.bool)
        self.register_buffer("has_meta_samples", is_present, persistent=False)

    @property
    def rates(self) -> Tensor:
        """(K,) sigmoid(psi); only ratios matter."""
        return torch.sigmoid(self.psi)

    def set_meta_classes(self, has_samples: Tensor, *, warn: bool = True) -> None:
        """Say which classes the meta set holds; the others keep their rate at every step.

        A class that the meta loss cannot defend would only ever lose weight. Not part of the
        checkpoint: set it when the meta set is known, and again where it grows (a feature bank).

        Args:
            has_samples: (K,) bool, equal on all ranks.
            warn: log the missing classes.
        """
        if has_samples.shape != self.psi.shape or has_samples.dtype != torch.bool:
            raise ValueError(
                f"Expected a bool for each of {len(self.psi)} classes, but got "
                f"{has_samples.dtype} of shape {tuple(has_samples.shape)}."
            )
        self.has_meta_samples = has_samples.to(self.psi.device)
        if warn and not bool(has_samples.all()):
            logger.warning(
                "The meta set has no sample of %s; the weight of these classes stays where it is.",
                self._name_classes(~has_samples),
            )

    def weigh(self, targets: Tensor) -> RowWeights:
        """Weights (detached) of a training batch's rows, for both the virtual and the real step.

        Args:
            targets: (N,) int64 in [0, K].
        """
        return class_weights(self.psi, targets, self._sum_if("global"))

    def step(self, rows: RowWeights, sample_gradient: Tensor) -> None:
        """One Adam step on psi.

        A class that the meta set holds but that has no row in this batch has gradient zero and
        moves as in `torch.optim.Adam`, by its momentum and by weight decay; so does the release.

        Args:
            rows: what `weigh` returned for the batch; psi has not changed since.
            sample_gradient: (N,) derivative of the meta loss by each row's weight.

        Raises:
            FloatingPointError: psi would not be finite. It is then left as it was.
        """
        class_sums = sum_by_class(sample_gradient.to(self.psi), rows.targets, len(self.psi))
        class_sums = self._sum_if("global")(class_sums)
        gradient = psi_gradient(self.psi, class_sums, rows.scale, rows.count)
        gradient = self._sum_if("rank")(gradient)
        state = AdamState(self.first_moment, self.second_moment, self.num_steps)
        psi, state = adam_step(
            self.psi,
            gradient,
            state,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            is_updated=self.has_meta_samples,
        )
        self._check_is_finite(psi, class_sums[:, 0])
        self.psi = psi
        self.first_moment, self.second_moment, self.num_steps = state

    def get_extra_state(self) -> dict[str, Any]:
        """The class names, to recognise a checkpoint of other classes."""
        return {"class_names": self.class_names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore: `load_state_dict` has compared the names."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Restore psi and its Adam.

        Raises:
            ValueError: the checkpoint is of other classes.
        """
        num_saved = len(state_dict["psi"]) if "psi" in state_dict else len(self.psi)
        names = state_dict.get("_extra_state", {}).get("class_names")
        are_others = None not in (names, self.class_names) and names != self.class_names
        if num_saved != len(self.psi) or are_others:
            raise ValueError(
                f"Expected the class weights of this run's {len(self.psi)} classes, but the "
                f"checkpoint has {num_saved}{' of other names' if are_others else ''}; resume with "
                "the training set of that run, or start from its weights without --resume."
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _sum_if(self, normalise: str) -> Sum:
        if self.sum_over_ranks is None or self.normalise != normalise:
            return lambda tensor: tensor
        return self.sum_over_ranks

    def _check_is_finite(self, psi: Tensor, gradients: Tensor) -> None:
        if bool(psi.isfinite().all()):
            return
        is_origin = ~gradients.isfinite()  # the normaliser spreads it over the batch's classes
        culprits = is_origin if bool(is_origin.any()) else ~psi.isfinite()
        raise FloatingPointError(
            "The meta step gave a class weight that is not finite; it comes from "
            f"{self._name_classes(culprits)}. psi was left as it was and the last checkpoint is "
            f"intact; lower META.LR ({self.lr:g}) or the classifier's learning rate."
        )

    def _name_classes(self, is_named: Tensor) -> str:
        ids = is_named.nonzero().flatten().tolist()
        shown = [f"{i} ({self.class_names[i]})" if self.class_names else str(i) for i in ids]
        more = ", ..." if len(ids) > _MAX_NAMES else ""
        noun = "class" if len(ids) == 1 else f"{len(ids)} classes:"
        return f"{noun} {', '.join(shown[:_MAX_NAMES])}{more}"
