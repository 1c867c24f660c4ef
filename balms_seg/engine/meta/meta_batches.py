"""Where the rows of a meta batch come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.device_copies import sent
from balms_seg.meta import FeatureBank
from balms_seg.modeling.classifier_rows import ClassifierRows
from balms_seg.sampling import position_seed, positions_of

RowsOf = Callable[
    [list[dict], int], ClassifierRows
]  # of a batch and the seed that keys its randomness


class RowPlaces(NamedTuple):
    """(R,) classes and (R,) images of a batch's rows, on the CPU."""

    gt_classes: Tensor
    images: Tensor


class MetaBatches(Protocol):
    """A source of class-balanced rows."""

    def has_samples(self) -> Tensor:
        """(K,) bool: classes that a meta batch can hold."""

    def next_rows(self, iteration: int, rows_of: RowsOf) -> ClassifierRows:
        """This rank's part of the next meta batch; may be empty."""

    def add(self, batch: list[dict], features: Tensor, places: RowPlaces) -> None:
        """Take note of the (R, D) features of a training batch that was used."""

    def state_dict(self) -> dict[str, Any]:
        """What makes the next meta batch come out the same."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class LoadedBatches:
    """Images of a class-balanced loader, through the same trunk as the training batches."""

    def __init__(self, loader: KeyedLoader, has_samples: Tensor) -> None:
        """Use a loader with a seed of its own, and say which (K,) classes its data set holds."""
        self.loader, self._has_samples = loader, has_samples
        self._iterator = iter(loader)
        self.state_dict = loader.state_dict
        self.load_state_dict = loader.load_state_dict

    def has_samples(self) -> Tensor:
        """Classes of the loader's data set."""
        return self._has_samples

    def next_rows(self, iteration: int, rows_of: RowsOf) -> ClassifierRows:
        """The rows of the loader's next batch."""
        with EventStorage():  # its proposal counts are not those of training
            return rows_of(next(self._iterator), self.loader.seed)

    def add(self, batch: list[dict], features: Tensor, places: RowPlaces) -> None:
        """Nothing to note."""


class BankedBatches:
    """Rows of past training batches, class by class; needs no second pass of the trunk."""

    def __init__(
        self,
        bank: FeatureBank,
        *,
        num_foreground: int,
        num_background: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw from a bank.

        Args:
            bank: empty; equal on all ranks.
            num_foreground: foreground rows of a meta batch, over all ranks.
            num_background: background rows, likewise.
            seed: keys the draws, together with the iteration.
            device: where the rows drawn are used.
        """
        self.bank, self.seed, self._device = bank, seed, device
        self._num_foreground, self._num_background = num_foreground, num_background

    def has_samples(self) -> Tensor:
        """Classes that the bank holds by now."""
        return self.bank.sizes[:-1] > 0

    def next_rows(self, iteration: int, rows_of: RowsOf) -> ClassifierRows:
        """This rank's share of the rows drawn for an iteration; none from an empty bank."""
        key = position_seed(self.seed, iteration, "feature bank")
        features, classes = self.bank.draw(
            self._num_foreground, self._num_background, torch.Generator().manual_seed(key)
        )
        share = slice(comm.get_rank(), None, comm.get_world_size())
        features, classes = (sent(part[share], self._device) for part in (features, classes))
        return ClassifierRows(features, classes, images=torch.zeros_like(classes))

    def add(self, batch: list[dict], features: Tensor, places: RowPlaces) -> None:
        """Take in the foreground of all ranks' images, and as much background of each image."""
        num_classes = len(self.bank.sizes) - 1
        classes, images = places
        is_foreground = classes < num_classes
        count = torch.bincount(images[is_foreground], minlength=len(batch))
        # Rows come image by image, and the background of an image in random order.
        background_so_far = (~is_foreground).cumsum(0)
        before = torch.bincount(images[~is_foreground], minlength=len(batch))
        place = background_so_far - 1 - (before.cumsum(0) - before)[images]
        kept = (is_foreground | (place < count[images])).nonzero().flatten()

        positions = torch.tensor(positions_of(batch))
        row_positions, classes = positions[images[kept]], classes[kept]
        features = features[sent(kept, features.device)].half()
        if comm.get_world_size() > 1:
            features = features.cpu()
        parts = comm.all_gather((row_positions, features, classes))
        row_positions, features, classes = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        order = torch.argsort(row_positions, stable=True)  # that of the global batch
        self.bank.add(features[sent(order, features.device)], classes[order])

    def state_dict(self) -> dict[str, Any]:
        """The seed and the bank's content."""
        return {"seed": self.seed, "bank": self.bank.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is of another bank.
        """
        self.seed = state["seed"]
        self.bank.load_state_dict(state["bank"])
