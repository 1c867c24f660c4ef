"""Reads result files, also mmdetection's pairs of them, for an evaluation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from balms_seg.annotations.json_file import paused_garbage_collection
from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.predictions.detection_entry import decode_detections
from balms_seg.evaluation.predictions.detection_file import iterate_entries
from balms_seg.evaluation.predictions.table_builder import TableBuilder

logger = logging.getLogger(__name__)

#: Memory that reading takes at most, over the size of the file, and besides it.
MEMORY_OVER_FILE = 2
_BESIDES_BYTES = 1 << 28
_GIB = 1 << 30
_BOXES, _MASKS = ".bbox.json", ".segm.json"  # how mmdetection's files end


@dataclass(frozen=True, eq=False)
class StoredDetections:
    """Detections of one file, or of a pair.

    Attributes:
        boxes: what boxes are evaluated with.
        masks: what masks are evaluated with; the same unless there is a pair.
    """

    boxes: DetectionTable
    masks: DetectionTable

    def __len__(self) -> int:
        return max(len(self.boxes), len(self.masks))

    def of_task(self, task: str) -> DetectionTable:
        """The detections for "bbox", "segm" or "boundary"."""
        return self.boxes if task == "bbox" else self.masks

    @property
    def shape_keys(self) -> tuple[str, ...]:
        """Of "bbox" and "segmentation", those that there are; both without a detection."""
        found = []
        if not len(self) or self.boxes.has_shape("bbox").any():
            found.append("bbox")
        if not len(self) or self.masks.has_shape("segm").any():
            found.append("segmentation")
        return tuple(found)


def read_stored_detections(
    path: str | Path, ground_truth: GroundTruth, *, with_masks: bool = True
) -> StoredDetections:
    """Read the detections of a file in the LVIS or COCO results format.

    Of mmdetection's pair X.bbox.json and X.segm.json either may be given, or X; boxes are then
    taken from the one and masks from the other.

    Args:
        path: json list of detections.
        ground_truth: says which images and classes there are.
        with_masks: whether masks are going to be evaluated, and thus have to fit their images.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed, or holds detections of other images or classes, scores
            that are not finite or masks that are damaged or of another size than their image; or it
            does not fit into memory.
    """
    pair = _pair_of(Path(path))
    if pair is None or not with_masks:
        table = read_table(pair[0] if pair else path, ground_truth, with_masks=with_masks)
        return StoredDetections(table, table)
    logger.warning("Boxes are read from %s, masks from %s.", *pair)
    return StoredDetections(
        read_table(pair[0], ground_truth, with_masks=False), read_table(pair[1], ground_truth)
    )


def read_table(
    path: str | Path, ground_truth: GroundTruth, *, with_masks: bool = True
) -> DetectionTable:
    """The detections of one file; arguments and errors as for `read_stored_detections`."""
    _check_memory(Path(path))
    builder = TableBuilder(ground_truth, source=str(path), with_masks=with_masks)
    with paused_garbage_collection():
        for batch in iterate_entries(path, decode_detections):
            builder.add(batch)
    return builder.build()


def _pair_of(path: Path) -> tuple[Path, Path] | None:
    """Mmdetection's two files, where the path is of one of them and both are there."""
    name = str(path)
    prefix = name.removesuffix(_BOXES).removesuffix(_MASKS)
    pair = Path(prefix + _BOXES), Path(prefix + _MASKS)
    if path.is_file() and prefix == name:
        return None
    return pair if all(one.is_file() for one in pair) else None


def _check_memory(path: Path) -> None:
    available = available_memory_bytes()
    if available is None or not path.is_file():
        return
    needed = MEMORY_OVER_FILE * path.stat().st_size + _BESIDES_BYTES
    if needed > available:
        raise ValueError(
            f"Expected room for the detections in {path}, at most {needed / _GIB:.1f} GiB, but "
            f"{available / _GIB:.1f} GiB of memory remain; evaluate on a larger machine."
        )


def available_memory_bytes() -> int | None:
    """Memory that this process may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(one.split()[1]) << 10 for one in lines if one.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:  # the limit of a container
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, limit - used)
