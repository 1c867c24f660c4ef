"""A made-up world of images, objects and a detector, of which any number of test sets are drawn."""

from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches

NUM_THRESHOLDS = 10


@dataclass(frozen=True)
class Objects:
    """What stands in the images of one test set: its size, and image and class of each object."""

    num_images: int
    images: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class World:
    """Classes from rare to frequent, each with a difficulty of its own.

    Attributes:
        num_classes: K; a third each is rare, common and frequent.
    """

    num_classes: int

    @property
    def frequency(self) -> tuple[str, ...]:
        """(K,) letters."""
        return tuple("rcf"[3 * k // self.num_classes] for k in range(self.num_classes))

    def draw_objects(self, num_images: int, rng: np.random.Generator) -> Objects:
        """A test set: Poisson numbers of objects, 0.02 an image of the rarest class to 0.5."""
        rates = np.geomspace(0.02, 0.5, self.num_classes)
        counts = rng.poisson(rates, size=(num_images, self.num_classes))
        images, classes = (np.repeat(part, counts.ravel()) for part in _grid(*counts.shape))
        return Objects(num_images, images, classes)

    def detect(self, objects: Objects, rng: np.random.Generator) -> StoredMatches:
        """Detections of one detector; another call is an exchangeable one on the same images."""
        # The detector's skill at each class belongs to the world, not to the draw.
        skill = np.random.default_rng(self.num_classes).normal(1.5, 0.7, self.num_classes)
        found = rng.random(len(objects.classes)) < 0.8
        true_classes, true_images = objects.classes[found], objects.images[found]
        false_rates = np.geomspace(0.02, 0.5, self.num_classes) * 1.5
        counts = rng.poisson(false_rates, size=(objects.num_images, self.num_classes))
        false_images, false_classes = (np.repeat(p, counts.ravel()) for p in _grid(*counts.shape))
        classes = np.concatenate([true_classes, false_classes])
        images = np.concatenate([true_images, false_images])
        scores = rng.normal(size=len(classes))
        scores[: len(true_classes)] += skill[true_classes]
        # Up to which of the thresholds a true detection's box is good enough; 0: for none.
        reach = np.zeros(len(classes), dtype=np.int64)
        reach[: len(true_classes)] = rng.binomial(NUM_THRESHOLDS, 0.75, size=len(true_classes))
        order = np.lexsort((-scores, classes))
        rows = np.flatnonzero(reach[order] > 0)
        is_matched = reach[order][rows, None] > np.arange(NUM_THRESHOLDS)
        return StoredMatches(
            task="bbox",
            fingerprint="made up",
            num_images=objects.num_images,
            class_names=tuple(f"class {k}" for k in range(self.num_classes)),
            frequency=self.frequency,
            images=images[order].astype(np.int32),
            classes=classes[order].astype(np.int32),
            scores=(1 / (1 + np.exp(-scores[order]))).astype(np.float32),
            counts_unmatched=np.ones(len(classes), dtype=bool),
            rows=rows,
            is_matched=is_matched,
            is_ignored=np.zeros_like(is_matched),
            annotation_images=objects.images.astype(np.int32),
            annotation_classes=objects.classes.astype(np.int32),
        )


def _grid(num_images: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    images, classes = np.indices((num_images, num_classes))
    return images.ravel(), classes.ravel()
