"""The objects of a training image, and what else its annotations say."""

from __future__ import annotations

from typing import Any

from detectron2.structures import Boxes, Instances
from torch import Tensor


class TrainingObjects(Instances):
    """Objects, and beside them what is no object and which classes were looked for.

    detectron2's models hand the objects of a batch to proposal generator and heads, and the rest
    goes with them: so any trainer's step honours it, whose loader's mapper is this package's.
    """

    def __init__(
        self,
        objects: Instances,
        *,
        ignored_boxes: Boxes | None = None,
        known_classes: Tensor | None = None,
    ) -> None:
        """Put all together.

        Args:
            objects: of the image.
            ignored_boxes: of regions that are no objects (`ignore` in the annotations), corners in
                px of the input image.
            known_classes: (K,) bool where labels are partial, see `known_classes`; None: all.
        """
        super().__init__(objects.image_size, **objects.get_fields())
        self._ignored_boxes, self._known_classes = ignored_boxes, known_classes

    @property
    def ignored_boxes(self) -> Boxes | None:
        """R boxes of regions that are no objects."""
        return self._ignored_boxes

    @property
    def known_classes(self) -> Tensor | None:
        """(K,) bool, classes that were looked for in the image; None: all."""
        return self._known_classes

    def to(self, *args: Any, **kwargs: Any) -> TrainingObjects:
        """All on another device."""
        boxes, known = self._ignored_boxes, self._known_classes
        return TrainingObjects(
            super().to(*args, **kwargs),
            ignored_boxes=None if boxes is None else boxes.to(*args, **kwargs),
            known_classes=None if known is None else known.to(*args, **kwargs),
        )
