"""The objects of a training image together with regions of it that are no objects."""

from __future__ import annotations

from typing import Any

from detectron2.structures import Boxes, Instances


class InstancesWithIgnored(Instances):
    """Objects, and beside them the boxes of regions that are none (`ignore` in the annotations).

    detectron2's models hand the objects of a batch to proposal generator and heads, and the regions
    go with them: so any trainer's step honours them, whose loader's mapper is this package's.
    """

    def __init__(self, objects: Instances, ignored_boxes: Boxes) -> None:
        """Put both together.

        Args:
            objects: of the image.
            ignored_boxes: corners in px of the input image.
        """
        super().__init__(objects.image_size, **objects.get_fields())
        self._ignored_boxes = ignored_boxes

    @property
    def ignored_boxes(self) -> Boxes:
        """R boxes of regions that are no objects."""
        return self._ignored_boxes

    def to(self, *args: Any, **kwargs: Any) -> InstancesWithIgnored:
        """Both on another device."""
        return InstancesWithIgnored(
            super().to(*args, **kwargs), self._ignored_boxes.to(*args, **kwargs)
        )
