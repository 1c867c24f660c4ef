"""Decides the classes of a glyph data set and what stands in every image, before drawing."""

from __future__ import annotations

import dataclasses

import numpy as np

from balms_seg.glyphs.glyph_alphabet import SIMILAR_PAIRS
from balms_seg.glyphs.glyph_config import GlyphConfig
from balms_seg.glyphs.glyph_counts import assign_classes
from balms_seg.glyphs.glyph_labels import ImageLabels, complete_labels, federated_labels
from balms_seg.glyphs.glyph_outlines import choose_characters

# Image i of split s draws from the key (seed, s, i), what a split holds from (seed, 3 + s), and
# which class is how frequent from (seed, 6), and what is annotated of it from (seed, 7 + s): apart
# even though seed sequences ignore final zeros.
SPLITS = ("train", "val", "heldout")
_SECOND_INSTANCE = 0.15  # chance that a class stands in a training image twice


@dataclasses.dataclass(frozen=True)
class GlyphPlan:
    """The classes and what stands in every image, before anything is drawn.

    Attributes:
        characters: character of each class; class index k has category id k + 1.
        image_counts: (K,) training images that annotate each class.
        instances: split name -> for each image the class index of every instance.
        labels: split name -> what is annotated of each image.
    """

    characters: tuple[str, ...]
    image_counts: np.ndarray
    instances: dict[str, list[list[int]]]
    labels: dict[str, list[ImageLabels]]


def plan_glyphs(config: GlyphConfig) -> GlyphPlan:
    """Decide the classes, their long tail and the classes of every image.

    The validation and held-out splits hold every class in equally many images.

    Raises:
        ValueError: the configuration is impossible.
    """
    config = config.resolved()
    num_classes, (low, high) = config.num_classes, config.instances_per_image
    assert config.max_count is not None
    assert config.train_images is not None
    assert config.val_images is not None
    tail = config.annotated_counts(config.max_count)
    if config.similar:
        pairs = SIMILAR_PAIRS[: num_classes // 2]
        characters = tuple(pair[0] for pair in pairs) + tuple(pair[1] for pair in pairs[::-1])
        image_counts = tail
    else:
        characters = choose_characters(num_classes)
        image_counts = tail[keyed_generator(config.seed, 2 * len(SPLITS)).permutation(num_classes)]
    per_class = min(int(config.val_images * (low + high) / 2 / num_classes), config.val_images)
    shown = config.shown_counts(image_counts)
    instances, labels = {}, {}
    for number, split in enumerate(SPLITS):
        rng = keyed_generator(config.seed, len(SPLITS) + number)
        counts, num_images = shown, config.train_images
        if split != "train":
            counts, num_images = np.full(num_classes, per_class), config.val_images
        # Few classes cannot fill an image: then some images hold one class several times.
        least = low if counts.sum() >= low * num_images else 1
        images = [i.tolist() for i in assign_classes(counts, num_images, least, high, rng)]
        if split == "train":
            images = [_repeat_some(image, high, rng) for image in images]
        filled = [(image * low)[: max(low, len(image))] for image in images]
        instances[split] = filled
        if config.federated:
            rng = keyed_generator(config.seed, 2 * len(SPLITS) + 1 + number)
            labels[split] = federated_labels(filled, num_classes, rng)
        else:
            labels[split] = [complete_labels(image, num_classes) for image in filled]
    return GlyphPlan(characters, image_counts, instances, labels)


def _repeat_some(classes: list[int], most: int, rng: np.random.Generator) -> list[int]:
    twice = [c for c in classes if rng.random() < _SECOND_INSTANCE]
    return classes + twice[: most - len(classes)]


def keyed_generator(*key: int) -> np.random.Generator:
    """A generator that depends on nothing but the key."""
    return np.random.default_rng(np.random.SeedSequence(key))
