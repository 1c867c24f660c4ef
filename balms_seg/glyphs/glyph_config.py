"""What a glyph data set is made of: its arguments, their defaults and their limits."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from balms_seg.glyphs.glyph_alphabet import SIMILAR_PAIRS
from balms_seg.glyphs.glyph_counts import highest_count, lvis_counts, tail_counts
from balms_seg.glyphs.glyph_labels import shown_counts
from balms_seg.glyphs.glyph_outlines import FACE_SETS

_ROOM_PX = 20  # an image has room for a crowd of n glyphs where its side is this times sqrt(n)


@dataclasses.dataclass(frozen=True)
class GlyphConfig:
    """What to generate; two equal configurations give identical data.

    Attributes:
        num_classes: K.
        train_images: training images; None takes as many as the counts need.
        min_count: training images of the rarest class.
        max_count: training images of the most frequent class; None takes as many as
            `train_images` have room for, or 800 where that is None too.
        tail_exponent: see `tail_counts`.
        val_images: images of the validation and of the held-out split; None takes 200, or more
            where 5 instances of every class need it.
        size: side of the square images in pixels.
        seed: in [0, 2 ** 32).
        instances_per_image: least and greatest number of glyphs in an image.
        similar: draw pairs of look-alikes, of which one is frequent and the other rare.
        faces: "bold" or "all"; thin strokes cost mask AP.
        tail: "exponential", see `tail_counts`, or "lvis", see `lvis_counts`.
        federated: annotate a part of the classes of each image, see `federated_labels`; else all.
    """

    num_classes: int = 40
    train_images: int | None = None
    min_count: int = 1
    max_count: int | None = None
    tail_exponent: float = 1.0
    val_images: int | None = None
    size: int = 128
    seed: int = 0
    instances_per_image: tuple[int, int] = (2, 6)
    similar: bool = False
    faces: str = "bold"
    tail: str = "exponential"
    federated: bool = False

    def annotated_counts(self, highest: int) -> np.ndarray:
        """(K,) training images that annotate each class, from the most to the least frequent."""
        if self.tail == "lvis":
            return lvis_counts(self.num_classes, highest)
        return tail_counts(self.num_classes, self.min_count, highest, self.tail_exponent)

    def shown_counts(self, annotated_counts: np.ndarray) -> np.ndarray:
        """(K,) training images that show each class."""
        return shown_counts(annotated_counts) if self.federated else annotated_counts

    def resolved(self) -> GlyphConfig:
        """The same with every None replaced by its value.

        Raises:
            ValueError: an argument is out of range, or the arguments contradict each other; all
                that is out of range is listed.
        """
        _check_ranges(self)
        mean = sum(self.instances_per_image) / 2
        num_images, highest = self.train_images, self.max_count
        if highest is None and num_images is None:
            highest = max(800, self.min_count)
        elif highest is None and num_images is not None:
            highest = highest_count(
                self.num_classes, self.min_count, mean * num_images, num_images, self.tail_exponent
            )
        assert highest is not None
        if num_images is None:
            shown = self.shown_counts(self.annotated_counts(highest))
            num_images = max(math.ceil(int(shown.sum()) / mean), int(shown.max()))
        least_val_images = math.ceil(self.num_classes / mean)
        val_images = self.val_images
        if val_images is None:
            val_images = max(200, math.ceil(5 * self.num_classes / mean))
        if val_images < least_val_images:
            raise ValueError(
                f"Expected at least {least_val_images} validation images, so that each of the "
                f"{self.num_classes} classes appears, but got {val_images}."
            )
        return dataclasses.replace(
            self, train_images=num_images, max_count=highest, val_images=val_images
        )


PRESETS = {
    "default": GlyphConfig(),
    "benchmark": GlyphConfig(train_images=843, min_count=3, max_count=400, val_images=200),
    # LVIS v1 in small: 300 classes, its image counts and its way of annotating.
    "lvis": GlyphConfig(
        num_classes=300,
        max_count=2000,
        val_images=1000,
        size=144,
        instances_per_image=(5, 17),
        tail="lvis",
        federated=True,
    ),
}


def _check_ranges(config: GlyphConfig) -> None:
    low, high = config.instances_per_image
    least_size = max(32, math.ceil(_ROOM_PX * math.sqrt(max(high, 1))))
    pairs = len(SIMILAR_PAIRS)
    rules = {
        "num_classes": [
            (config.num_classes >= 1, "at least 1"),
            (
                not config.similar or config.num_classes <= 2 * pairs,
                f"at most {2 * pairs} with similar glyphs",
            ),
            (
                not config.similar or config.num_classes % 2 == 0,
                "an even number with similar glyphs, which come in pairs",
            ),
        ],
        "train_images": [(config.train_images is None or config.train_images >= 1, "at least 1")],
        "min_count": [(config.min_count >= 1, "at least 1")],
        "max_count": [
            (
                config.max_count is None or config.max_count >= config.min_count,
                f"at least min_count, which is {config.min_count}",
            )
        ],
        "tail_exponent": [(0 < config.tail_exponent < math.inf, "a positive number")],
        "tail": [
            (config.tail in ("exponential", "lvis"), "exponential or lvis"),
            (
                config.tail != "lvis" or (config.min_count == 1 and config.tail_exponent == 1),
                "exponential with a min_count or tail_exponent, which lvis has of its own",
            ),
            (
                config.tail != "lvis" or (config.max_count or 0) > 100,
                "exponential where max_count is not above 100, as lvis needs it",
            ),
        ],
        "val_images": [(config.val_images is None or config.val_images >= 1, "at least 1")],
        "size": [
            (
                least_size <= config.size <= 4096,
                f"{least_size} to 4096 px for up to {high} glyphs in an image",
            )
        ],
        "seed": [(0 <= config.seed < 2**32, "0 to 2**32 - 1")],
        "instances_per_image": [(1 <= low <= high, "1 <= least <= greatest")],
        "faces": [(config.faces in FACE_SETS, f"one of {sorted(FACE_SETS)}")],
    }
    wrong = [
        f"{name}: expected {expected}, but got {getattr(config, name)}"
        for name, conditions in rules.items()
        for holds, expected in conditions
        if not holds
    ]
    if wrong:
        raise ValueError("Cannot generate this glyph data set. " + "; ".join(wrong) + ".")
