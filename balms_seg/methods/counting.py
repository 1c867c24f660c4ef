"""What softmax methods share that know how many training samples each class has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.methods.softmax import Softmax

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class CountingSoftmax(Softmax):
    """A softmax that keeps each class's training instances (of whole images: its images)."""

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the (K,) counts."""
        super().prepare(statistics)
        counts = None if statistics is None else statistics.prior_counts("instance")
        self.keep("counts", counts)
