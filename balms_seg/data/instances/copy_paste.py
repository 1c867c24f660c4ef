"""Rare-class copy-paste: instances of rare classes appear in more images than show them.

Symbols: K classes, r_c the repeat factor of class c.

Source: Ghiasi et al. 2021, Simple Copy-Paste (arXiv 2012.07177): instances go from one augmented
image into another, covered objects lose what is covered. That only rare classes are pasted, in
proportion to r_c - 1, is ours: a class that the sampler would not repeat is not pasted either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from balms_seg.class_statistics import flatten_annotations
from balms_seg.class_statistics.pasted_counts import PastesPerImage
from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.loading.image_errors import naming_image
from balms_seg.sampling.repeat_factor import repeat_factor_sampler
from balms_seg.training_objects import TrainingObjects

logger = logging.getLogger(__name__)

#: An object of which a smaller share stays visible is one no longer.
MIN_VISIBLE = 0.1


def expected_pastes(
    cfg: Any, dataset_dicts: Sequence[dict], num_classes: int
) -> PastesPerImage | None:
    """What an image gets, in expectation; None: nothing.

    As if every cutout succeeded, which it does unless a crop misses the object.
    """
    options = cfg.INPUT.COPY_PASTE
    if options.PROBABILITY <= 0:
        return None
    _, classes = flatten_annotations(dataset_dicts)
    weights = _class_weights(cfg, dataset_dicts, num_classes)
    weights[np.bincount(classes, minlength=num_classes) == 0] = 0
    if not weights.any():  # which the mapper refuses
        return None
    shares = weights / weights.sum()
    numbers = 1 + np.arange(options.MAX_INSTANCES)  # all as probable
    without = (1 - shares) ** numbers[:, None]
    return PastesPerImage(
        instances=options.PROBABILITY * numbers.mean() * shares,
        images=options.PROBABILITY * (1 - without.mean(axis=0)),
        any_class=options.PROBABILITY,
    )


def _class_weights(cfg: Any, dataset_dicts: Sequence[dict], num_classes: int) -> np.ndarray:
    """(K,) r_c - 1 by the sampler's class factors; 0 where it draws a class less often."""
    sampler = repeat_factor_sampler(cfg)
    factors = sampler.class_factors(cfg, dataset_dicts, num_classes=num_classes)
    return np.maximum(factors - 1, 0)


class _Cutout(NamedTuple):
    """An instance cut out of an input image."""

    pixels: Tensor  # (C, h, w)
    mask: Tensor  # (h, w) bool
    class_id: int


class CopyPasteMapper:
    """A training mapper, after which some images hold instances of rare classes from others.

    Random numbers come from numpy's global generator, which a keyed loader seeds for each image.

    Args:
        mapper: maps the images, those that instances are taken from as well, to detectron2's
            model input with masks as bitmasks; None drops an image.
        dataset_dicts: N images to take instances from.
        class_weights: (K,) non-negative, in proportion to which classes are drawn.
        probability: share of images that get instances.
        max_instances: most that one image gets.

    Raises:
        ValueError: no class with a weight has an instance.
    """

    def __init__(
        self,
        mapper: Callable[[dict], dict | None],
        dataset_dicts: Sequence[dict],
        class_weights: np.ndarray,
        *,
        probability: float,
        max_instances: int,
    ) -> None:
        self._mapper = mapper
        self._dicts: Sequence[dict] | DatasetFromList = dataset_dicts
        if not isinstance(dataset_dicts, DatasetDicts):  # those make each dict anew
            # Copies, since a mapper may change what it gets.
            self._dicts = DatasetFromList(list(dataset_dicts), copy=True, serialize=False)
        self._probability, self._max_instances = probability, max_instances
        images, classes = flatten_annotations(dataset_dicts)
        is_source = class_weights[classes] > 0
        order = np.argsort(classes[is_source], kind="stable")
        # Images of the sources, class by class: an image twice that shows a class twice.
        self._images = images[is_source][order]
        ids, self._starts = np.unique(classes[is_source][order], return_index=True)
        if not len(ids):
            raise ValueError(
                "INPUT.COPY_PASTE.PROBABILITY is above 0, but no class is rare: all repeat factors "
                "are 1. Set DATALOADER.REPEAT_THRESHOLD to a share of the images below which "
                "classes are rare, or to -1, by which a third of them are."
            )
        self._class_ids = ids
        self._shares = class_weights[ids] / class_weights[ids].sum()

    @classmethod
    def of(
        cls,
        cfg: Any,
        mapper: Callable[[dict], dict | None],
        dataset_dicts: Sequence[dict],
        num_classes: int,
    ) -> CopyPasteMapper:
        """With `INPUT.COPY_PASTE`, and weights r_c - 1 by the sampler's class factors."""
        options = cfg.INPUT.COPY_PASTE
        made = cls(
            mapper,
            dataset_dicts,
            _class_weights(cfg, dataset_dicts, num_classes),
            probability=options.PROBABILITY,
            max_instances=options.MAX_INSTANCES,
        )
        logger.info(
            "Copy-paste: %.0f%% of the images get 1 to %d instances of %d classes, of which there "
            "are %d.",
            100 * options.PROBABILITY,
            options.MAX_INSTANCES,
            len(made._class_ids),
            len(made._images),
        )
        return made

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """The mapped image, perhaps with pasted instances, which come last.

        Raises:
            OSError: an image file cannot be read; names it.
            TypeError: masks are missing or no bitmasks, or objects have more than class, box and
                mask, which a pasted one would lack.
        """
        output = self._mapper(dataset_dict)
        if np.random.random() >= self._probability:
            return output
        if output is None or "instances" not in output:
            return output
        for _ in range(1 + np.random.randint(self._max_instances)):
            cutout = self._draw_cutout()
            if cutout is not None:
                output["image"], output["instances"] = _pasted(
                    output["image"], output["instances"], cutout
                )
        return output

    def _draw_cutout(self) -> _Cutout | None:
        """An instance of a class drawn by weight; None where the crop of its image lacks it."""
        drawn = np.random.choice(len(self._class_ids), p=self._shares)
        ends = np.append(self._starts, len(self._images))
        place = self._images[np.random.randint(ends[drawn], ends[drawn + 1])]
        record = self._dicts[place]
        with naming_image(record.get("file_name", f"image {place}")):
            output = self._mapper(record)
        if output is None:
            return None
        class_id = int(self._class_ids[drawn])
        objects = output["instances"]
        candidates = torch.nonzero(objects.gt_classes == class_id).flatten().tolist()
        if not candidates:
            return None
        mask = _masks(objects)[candidates[np.random.randint(len(candidates))]]
        rows, columns = (torch.nonzero(mask.any(dim=axis)).flatten() for axis in (1, 0))
        if not len(rows):
            return None
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        return _Cutout(output["image"][:, *box], mask[box], class_id)


def _masks(objects: Instances) -> Tensor:
    """(N, H, W) bool; detectron2 gives an image without objects none."""
    if not objects.has("gt_masks"):
        if len(objects):
            raise TypeError(
                "INPUT.COPY_PASTE needs a mask of every object, but the mapper made none; give "
                "each annotation its segmentation."
            )
        return torch.zeros((0, *objects.image_size), dtype=torch.bool)
    masks = objects.gt_masks
    if not isinstance(masks, BitMasks):
        raise TypeError(
            "INPUT.COPY_PASTE needs masks as BitMasks, but the mapper made "
            f"{type(masks).__name__}; set INPUT.MASK_FORMAT bitmask."
        )
    return masks.tensor


def _pasted(image: Tensor, objects: Instances, cutout: _Cutout) -> tuple[Tensor, Instances]:
    """Image and objects with the cutout at a random place; what is larger than the image is cut."""
    size = image.shape[1:]
    pixels, mask = cutout.pixels[:, : size[0], : size[1]], cutout.mask[: size[0], : size[1]]
    top, left = (
        int(np.random.randint(whole - part + 1))
        for whole, part in zip(size, mask.shape, strict=True)
    )
    covered = torch.zeros(size, dtype=torch.bool)
    covered[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    if not covered.any():
        return image, objects
    image = image.clone()
    image[:, covered] = pixels[:, mask]
    return image, _with_object(objects, covered, cutout.class_id)


def _with_object(objects: Instances, covered: Tensor, class_id: int) -> Instances:
    """Objects without what is covered, and the one that covers it as the last."""
    if more := objects.get_fields().keys() - {"gt_boxes", "gt_classes", "gt_masks"}:
        raise TypeError(
            f"INPUT.COPY_PASTE pastes class, box and mask, but the mapper's objects have "
            f"{', '.join(sorted(more))} as well; leave it out, or set PROBABILITY 0."
        )
    before = _masks(objects)
    masks = before & ~covered
    areas, left = before.flatten(1).sum(1), masks.flatten(1).sum(1)
    boxes = objects.gt_boxes.tensor.clone()
    is_cut = left < areas
    boxes[is_cut] = BitMasks(masks[is_cut]).get_bounding_boxes().tensor.to(boxes)
    is_kept = ~is_cut | (left >= MIN_VISIBLE * areas)
    new = BitMasks(covered[None])
    together = Instances(
        objects.image_size,
        gt_boxes=Boxes(torch.cat([boxes[is_kept], new.get_bounding_boxes().tensor.to(boxes)])),
        gt_classes=torch.cat(
            [objects.gt_classes[is_kept], torch.full((1,), class_id).to(objects.gt_classes)]
        ),
        gt_masks=BitMasks(torch.cat([masks[is_kept], new.tensor])),
    )
    if not isinstance(objects, TrainingObjects):
        return together
    return TrainingObjects(
        together, ignored_boxes=objects.ignored_boxes, known_classes=objects.known_classes
    )
