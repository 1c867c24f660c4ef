"""Decides the classes of a glyph data set and what stands in every image, before drawing."""

from __future__ import annotations

import dataclasses

import numpy as np

from balms_seg.glyphs.glyph_alphabet import SIMILAR_PAIRS
from balms_seg.glyphs.glyph_config import GlyphConfig
from balms_seg.glyphs.glyph_counts import assign_classes, tail_counts
from balms_seg.glyphs.glyph_outlines import choose_characters

# Image i of split s draws from the key (seed, s, i), what a split holds from (seed, 3 + s), and
# which class is how frequent from (seed, 6): apart even though seed sequences ignore final zeros.
SPLITS = ("train", "val", "heldout")
_SECOND_INSTANCE = 0.15  # chance that a class stands in a training image twice


@dataclasses.dataclass(frozen=True)
class GlyphPlan:
    """The classes and what stands in every image, before anything is drawn.

    Attributes:
        characters: character of each class; class index k has category id k + 1.
        image_counts: (K,) training images per class.
        instances: split name -> for each image the class index of every instance.
    """

    characters: tuple[str, ...]
    image_counts: np.ndarray
    instances: dict[str, list[list[int]]]


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
    tail = tail_counts(num_classes, config.min_count, config.max_count, config.tail_exponent)
    if config.similar:
        pairs = SIMILAR_PAIRS[: num_classes // 2]
        characters = tuple(pair[0] for pair in pairs) + tuple(pair[1] for pair in pairs[::-1])
        image_counts = tail
    else:
        characters = choose_characters(num_classes)
        image_counts = tail[keyed_generator(config.seed, 2 * len(SPLITS)).permutation(num_classes)]
    per_class = min(int(config.val_images * (low + high) / 2 / num_classes), config.val_images)
    instances = {}
    for number, split in enumerate(SPLITS):
        rng = keyed_generator(config.seed, len(SPLITS) + number)
        counts, num_images = image_counts, config.train_images
        if split != "train":
            counts, num_images = np.full(num_classes, per_class), config.val_images
        # Few classes cannot fill an image: then some images hold one class several times.
        least = low if counts.sum() >= low * num_images else 1
        images = [i.tolist() for i in assign_classes(counts, num_images, least, high, rng)]
        if split == "train":
            images = [_repeat_some(image, high, rng) for image in images]
        instances[split] = [(image * low)[: max(low, len(image))] for image in images]
    return GlyphPlan(characters, image_counts, instances)


def _repeat_some(classes: list[int], most: int, rng: np.random.Generator) -> list[int]:
    twice = [c for c in classes if rng.random() < _SECOND_INSTANCE]
    return classes + twice[: most - len(classes)]


def keyed_generator(*key: int) -> np.random.Generator:
    """A generator that depends on nothing but the key."""
    return np.random.default_rng(np.random.SeedSequence(key))
