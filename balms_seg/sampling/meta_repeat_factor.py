"""The meta repeat-factor sampler: image rates with a learned factor per class.

For detection the factor multiplies repeat factors; for whole images it is the class rate itself,
as in the paper's Meta Sampler.
"""

from __future__ import annotations

import copy
import logging
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg.declared_keys import require_our_keys
from balms_seg.meta.adam import AdamSettings
from balms_seg.meta.class_parameters import ClassParameters
from balms_seg.sampling.estimators import ESTIMATORS
from balms_seg.sampling.image_rates import (
    BoundedLink,
    ImageClasses,
    ImageRates,
    Link,
    SigmoidLink,
    compute_image_rates,
    compute_loss_weights,
    never_largest,
    tilted_start,
)
from balms_seg.sampling.keyed import keyed_uniforms
from balms_seg.sampling.meta_rate_settings import (
    PlannedRates,
    base_repeat_factors,
    check_settings,
    whole_batches,
)
from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.repeat_factor import compute_repeat_factors, repeat_factor_settings
from balms_seg.sampling.streams import Block, IndexStream
from balms_seg.sampling.systematic import systematic_counts

logger = logging.getLogger(__name__)


@SAMPLER_REGISTRY.register()
class MetaRepeatFactorTrainingSampler(IndexStream):
    """Draws image I with probability p(I) = r(I) / sum of r, whose class rates are learned.

    r(I) is the largest of r(c) = base(c) * link(psi_c) among the image's classes (1 for an image
    without any). A training step with this sampler:

    1. `draws = draws_of(batch)`; the weights `loss_weights(draws)` multiply the images' losses;
    2. `gradient = rate_gradient(draws, dL / dweight)`, summed over the ranks;
    3. `update(gradient)`, on all ranks, before the next batch is taken.

    Draws come in blocks of `block_size` by systematic sampling, in seeded order. A block's rates
    are settled `lookahead` indices before training gets to it: an update holds from the first block
    on that starts at least so far ahead. A loader that draws no farther ahead than that leaves the
    stream a function of the seed and the updates, whatever its number of workers; all ranks hold
    the same one. With a loader that copies the stream into its workers, as detectron2's own does,
    updates reach no draw: use `balms_seg.data.build_train_loader`.

    Args:
        image_classes: the classes of each of the N images.
        base_rates: (K,) positive class rates without the link: repeat factors, or ones.
        seed: seed of the stream, the same on all ranks.
        link: what psi does to a class rate.
        estimator: how psi gets its gradient: a key of `ESTIMATORS`.
        temperature: of the straight-through estimators.
        block_size: indices in a block.
        lookahead: how many indices a loader may draw ahead of training.
        adam: settings of Adam on psi; its weight decay draws every class back to where it started.
        start: (K,) where psi starts; None: 0.

    Raises:
        ValueError: shapes disagree, a base rate is not positive, or a setting is out of range.

    Attributes:
        parameters: psi and its Adam, in float64 on the CPU; give it the class names for better
            error messages.
    """

    def __init__(
        self,
        image_classes: ImageClasses,
        base_rates: np.ndarray | Sequence[float],
        *,
        seed: int,
        link: Link,
        estimator: str,
        block_size: int,
        lookahead: int,
        adam: AdamSettings,
        start: np.ndarray | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(image_classes.num_images, seed=seed)
        self.link = link
        self.block_size = block_size
        self.max_drawn_ahead = lookahead
        self._image_classes = image_classes
        self._base_rates = np.array(base_rates, dtype=np.float64)
        check_settings(self._base_rates, image_classes, estimator, block_size, lookahead)
        self.estimator, self.temperature = estimator, temperature
        start = np.zeros(image_classes.num_classes) if start is None else start
        self.parameters = ClassParameters(
            image_classes.num_classes, adam, start=torch.tensor(start, dtype=torch.float64)
        )
        self._plan = [PlannedRates(0, self._psi)]
        self._rates: ImageRates | None = None
        self._num_never_largest = 0
        content = (self._base_rates, image_classes.images, image_classes.classes)
        self._crc32 = zlib.crc32(b"".join(array.tobytes() for array in content))

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> MetaRepeatFactorTrainingSampler:
        """Build with the `META` keys.

        For annotated instances on the repeat factors of `DATALOADER.REPEAT_THRESHOLD`, with a
        bounded link; for images of one label each on flat rates, with a sigmoid that starts as
        `META.INIT_POW` says.

        Raises:
            ValueError: a setting is out of range, or the configuration has no `META` keys.
        """
        require_our_keys(cfg)
        image_classes = ImageClasses(dataset_dicts, num_classes)
        meta, batch_size = cfg.META, cfg.SOLVER.IMS_PER_BATCH
        block_size = whole_batches(meta.BLOCK, batch_size)
        link: Link
        if image_classes.are_labels:
            base_rates, link = np.ones(num_classes), SigmoidLink()
            start = tilted_start(image_classes.image_counts, meta.INIT_POW)
        else:
            base_rates, link = base_repeat_factors(cfg, image_classes), BoundedLink(meta.MAX_FACTOR)
            start = None
        return cls(
            image_classes,
            base_rates,
            seed=seed,
            link=link,
            estimator=meta.ESTIMATOR,
            block_size=block_size,
            lookahead=meta.LOOKAHEAD * batch_size,
            adam=AdamSettings(meta.LR, tuple(meta.BETAS), meta.WEIGHT_DECAY),
            start=start,
            temperature=meta.TEMPERATURE,
        )

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) image rates at the start, before anything is learned."""
        image_classes = ImageClasses(dataset_dicts, num_classes)
        if not image_classes.are_labels:
            return compute_repeat_factors(dataset_dicts, num_classes, **repeat_factor_settings(cfg))
        start = tilted_start(image_classes.image_counts, cfg.META.INIT_POW)
        return image_classes.maximum(SigmoidLink().factor(start))

    @property
    def rates(self) -> ImageRates:
        """Class rates and image probabilities of the present psi."""
        if self._rates is None:
            self._rates = self._rates_of(self._psi)
        return self._rates

    @property
    def _psi(self) -> np.ndarray:
        return self.parameters.psi.numpy()

    @property
    def repeat_factors(self) -> np.ndarray:
        """(N,) r(I) of the present psi; the repeat factors themselves while it is 0."""
        return self._image_classes.maximum(self.rates.class_rates)

    def never_largest(self) -> np.ndarray:
        """Ids of the classes that have images but the largest rate in none of them."""
        return never_largest(self.rates, self._image_classes)

    def loss_weights(self, draws: Block) -> Tensor:
        """(B,) float64 p(I) / p_draw(I): 1 where the rates are still those of the draw."""
        return torch.from_numpy(compute_loss_weights(draws, self.rates))

    def rate_gradient(self, draws: Block, weight_gradient: Tensor) -> Tensor:
        """Gradient of a loss by psi, through the weights of these draws.

        Args:
            draws: (B,) this rank's draws.
            weight_gradient: (B,) derivative of the loss by each of `loss_weights(draws)`.

        Returns:
            (K,) float64 on the CPU. Sum it over the ranks where each has a part of the loss.

        Raises:
            ValueError: the gradient's length is not the number of draws.
        """
        if weight_gradient.shape != (len(draws),):
            raise ValueError(
                f"Expected one derivative for each of {len(draws)} draws, but got shape "
                f"{tuple(weight_gradient.shape)}."
            )
        by_weight = weight_gradient.detach().to("cpu", torch.float64).numpy()

        def noise(rows: slice, count: int) -> np.ndarray:
            if draws.positions is None:
                raise ValueError(
                    f"Expected draws with their stream positions for META.ESTIMATOR "
                    f"{self.estimator}, whose noise they key; take them from draws_of(batch)."
                )
            return -np.log1p(-keyed_uniforms(self.seed, draws.positions[rows], "gumbel", count))

        gradient = ESTIMATORS[self.estimator](
            by_weight, draws, self.rates, self._image_classes, noise, self.temperature
        )
        return torch.from_numpy(gradient)

    def update(self, gradient: Tensor) -> None:
        """Take an Adam step on psi and plan its rates for the first block not yet settled.

        Args:
            gradient: (K,) gradient by psi, the same on all ranks.

        Raises:
            ValueError: wrong shape.
            FloatingPointError: the gradient or the new psi is not finite; names the classes.
        """
        self.parameters.step(gradient)
        self._rates = None
        settled = max(self._consumed + (self.max_drawn_ahead or 0), self._position)
        planned = PlannedRates(math.ceil(settled / self.block_size), self._psi)
        earlier = [rates for rates in self._plan if rates.first_block < planned.first_block]
        self._plan = [*earlier, planned]

    def draw_block(self, generator: torch.Generator) -> Block:
        """`block_size` draws at the rates planned for this block."""
        holding = max(i for i, r in enumerate(self._plan) if r.first_block <= self._block_number)
        self._plan = self._plan[holding:]
        rates = self._rates_of(self._plan[0].psi)
        self._log_never_largest(rates)
        offset = torch.rand((), dtype=torch.float64, generator=generator).item()
        counts = systematic_counts(rates.probabilities, self.block_size, offset)
        order = torch.randperm(self.block_size, generator=generator).numpy()
        indices = np.repeat(np.arange(self.size), counts)[order]
        return Block(indices, rates.probabilities[indices])

    def state_dict(self) -> dict[str, Any]:
        """The stream's state, psi, its optimiser, and the rates of this block and those to come."""
        return {
            **super().state_dict(),
            "parameters": copy.deepcopy(self.parameters.state_dict()),
            "plan": {
                "first_block": [rates.first_block for rates in self._plan],
                "psi": torch.from_numpy(np.stack([rates.psi for rates in self._plan])),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with psi, optimiser and stream of `state`.

        Raises:
            ValueError: `state` belongs to another data set, sampler, link, block size or class set.
        """
        super().load_state_dict(state)
        self.parameters.load_state_dict(state["parameters"])
        plan = state["plan"]
        psis = plan["psi"].clone().numpy()
        self._plan = [PlannedRates(*row) for row in zip(plan["first_block"], psis, strict=True)]
        self._rates = None

    def _identity(self) -> dict[str, Any]:
        return {
            **super()._identity(),
            "num_classes": self._image_classes.num_classes,
            "block_size": self.block_size,
            "link": repr(self.link),
            "classes_crc32": self._crc32,
        }

    def _rates_of(self, psi: np.ndarray) -> ImageRates:
        return compute_image_rates(psi, self._base_rates, self.link, self._image_classes)

    def _log_never_largest(self, rates: ImageRates) -> None:
        count = len(never_largest(rates, self._image_classes))
        if count != self._num_never_largest:
            logger.info(
                "%d of %d classes with images have the largest rate in none of them; their rates "
                "cannot be learned from block %d on, until the others' change.",
                count,
                np.count_nonzero(self._image_classes.image_counts),
                self._block_number,
            )
        self._num_never_largest = count
