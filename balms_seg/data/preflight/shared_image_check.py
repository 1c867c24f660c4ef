"""A warning of images that are trained on and tested on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from balms_seg.annotations.shared_files import describe_shared, files_of_both, real_files
from balms_seg.data.images.repeated_images import images_of_both
from balms_seg.data.instances.builtin import Load
from balms_seg.data.instances.dataset_dicts import DatasetDicts

logger = logging.getLogger(__name__)


def warn_of_shared_images(
    trained_on: Sequence[str], tested_on: Sequence[str], *, of_images: bool, load: Load
) -> None:
    """Say of each set that is tested on how many of its images are in others that are trained on.

    Annotated images are known by their files and copies of the same name, whole ones by their
    content.

    Args:
        trained_on: names of sets that can be read.
        tested_on: likewise; one that is trained on under the same name is left out.
        of_images: whether the sets are of whole images.
        load: what reads a set.
    """
    shared_with = _shared_pictures if of_images else shared_files
    for name in tested_on:
        if name in trained_on:
            continue
        num_images, shared = shared_with(name, trained_on, load)
        holding = [other for other, images in shared.items() if images]
        if holding:
            number = len(set().union(*shared.values()))
            metric = "accuracy" if of_images else "AP"
            logger.warning(describe_shared(number, num_images, name, holding, metric=metric))


Shared = tuple[int, dict[str, Collection[str]]]  # images of the set; those in each other one


def shared_files(name: str, others: Sequence[str], load: Load) -> Shared:
    """How many images an annotated set has, and which of its files are in each other one.

    Args:
        name: of a registered set.
        others: likewise.
        load: what reads a set.
    """
    own = real_files(_file_names(load(name)))
    return len(own), {
        other: files_of_both(own, real_files(_file_names(load(other)))) for other in others
    }


def _shared_pictures(name: str, others: Sequence[str], load: Load) -> Shared:
    own = load(name)
    return len(own), {other: images_of_both(load(other), own) for other in others}


def _file_names(records: Sequence[dict[str, Any]]) -> list[str]:
    images = records.images() if isinstance(records, DatasetDicts) else records
    return [record["file_name"] for record in images]
