"""The predictions of all processes of one evaluation, from their parts on disk to one file."""

from __future__ import annotations

import json
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from balms_seg.distributed import wait_for_all
from balms_seg.evaluation.predictions.detection_stream import DetectionStream
from balms_seg.evaluation.predictions.prediction_parts import (
    ImagePredictions,
    PartWriter,
    finished_images,
    is_part_of,
    part_path,
    parts_in,
    read_parts,
    remove_forgotten,
)
from balms_seg.evaluation.predictions.staged_files import DETECTIONS_FILE
from balms_seg.progress import with_progress
from balms_seg.wording import agreeing, counted

logger = logging.getLogger(__name__)


class RankParts:
    """One part a process: taken up or truncated, written, read together, removed."""

    def __init__(self, output_dir: str | None, *, distributed: bool) -> None:
        """Write nothing yet.

        Args:
            output_dir: its folder `parts` takes them; None for a temporary folder.
            distributed: whether the main process reads the parts of all, or each its own.
        """
        self._output_dir = output_dir
        self._distributed = distributed
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._writer: PartWriter | None = None
        self._fingerprint: str | None = None
        self._keep = False

    @property
    def fingerprint(self) -> str:
        """Of the evaluation; without `take_up` the same for no other. A collective call then."""
        if self._fingerprint is None:
            self._fingerprint = self._shared(uuid.uuid4().hex)
        return self._fingerprint

    def _shared(self, text: str) -> str:
        return comm.all_gather(text)[0] if self._distributed else text

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        if self._output_dir is not None:
            return Path(self._output_dir) / "parts"
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="predictions_")
        return Path(self._temporary.name)

    @property
    def are_there(self) -> bool:
        """Whether any process has written a part of this evaluation."""
        return self._fingerprint is not None and bool(parts_in(self.folder, self._fingerprint))

    def take_up(self, fingerprint: str) -> set[Any]:
        """Keep parts with this fingerprint; the ids of the images they hold. A collective call."""
        # Normalisation statistics are each process's own, so all go by the main process's.
        self._fingerprint = self._shared(fingerprint)
        paths = (
            parts_in(self.folder, self._fingerprint)
            if self._distributed
            else [part_path(self.folder, self._fingerprint, comm.get_rank())]
        )
        done = finished_images(paths, self._fingerprint)
        if self._distributed:
            comm.synchronize()  # nobody writes before all have read
        self._keep = bool(done)
        return done

    def write(self, predictions: ImagePredictions) -> None:
        """Add an image to this process's part."""
        self._open().write(predictions)

    def stop(self) -> None:
        """Close this process's part where it is open; what it holds stays."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> list[Path]:
        """Close this process's part; the parts that this process has to read. A collective call."""
        path = self._open().path
        self.stop()
        paths = [path]
        if self._distributed:
            wait_for_all()
            paths = comm.gather(path, dst=0)
            if paths and self._keep:
                others = set(parts_in(self.folder, self.fingerprint)).difference(paths)
                paths += [path for path in sorted(others) if is_part_of(path, self.fingerprint)]
        self._keep = False
        return paths

    def pass_on(
        self,
        paths: list[Path],
        stream: DetectionStream,
        *,
        image_ids: Iterable[Any],
        class_ids: Mapping[Any, int],
        folder: Path | None,
    ) -> tuple[int, bool]:
        """Pass all images of the parts to the stream, and to the results file.

        Args:
            paths: as `finish` named them.
            stream: takes the detections, with the category ids of the json.
            image_ids: of the ground truth; those without predictions are counted in a warning.
            class_ids: contiguous class id per category id.
            folder: of the results file; None writes none.

        Returns:
            Number of images, and whether the model predicts masks.
        """
        num_images, has_masks = 0, False
        missing = set(image_ids)
        total = len(missing)
        category_ids = {class_id: category for category, class_id in class_ids.items()}
        images = with_progress(
            read_parts(paths, self.fingerprint),
            total=total,
            label="reading predictions",
            unit="image",
        )
        with _results_file(folder) as write:
            for image in images:
                detections = image.with_category_ids(category_ids)
                stream.add(image.image_id, detections)
                write(detections)
                num_images += 1
                has_masks |= image.has_masks
                missing.discard(image.image_id)
        if missing and num_images:
            logger.warning(
                "%d of %s of the ground truth %s not processed; the objects there count as missed.",
                len(missing),
                counted(total, "image"),
                agreeing(len(missing), "was", "were"),
            )
        return num_images, has_masks

    def remove(self, paths: list[Path]) -> None:
        """Remove parts that have been evaluated, and their folder with the last one."""
        for path in paths:
            path.unlink()
        self.forget()
        if self._output_dir is not None:
            with suppress(OSError):  # it holds parts of other evaluations
                self.folder.rmdir()

    def forget(self) -> None:
        """The next evaluation is another one; to be called by every process."""
        self._fingerprint = None

    def _open(self) -> PartWriter:
        """This process's part, truncated unless `take_up` found it worth keeping."""
        if self._writer is None:
            rank = comm.get_rank()
            if self._distributed and rank == 0:
                remove_forgotten(self.folder)
                for path in [] if self._keep else parts_in(self.folder, self.fingerprint):
                    if int(path.stem.rpartition("_")[2]) >= comm.get_world_size():
                        path.unlink()  # of an earlier run with more processes
            path = part_path(self.folder, self.fingerprint, rank)
            self._writer = PartWriter(path, self.fingerprint, keep=self._keep)
        return self._writer


@contextmanager
def _results_file(
    folder: Path | None,
) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """A function that adds detections to lvis_instances_results.json, written as they come.

    Args:
        folder: where it is; with None nothing is written.
    """
    if folder is None:
        yield lambda detections: None
        return
    path = folder / DETECTIONS_FILE
    number = 0

    def write(detections: list[dict[str, Any]]) -> None:
        nonlocal number
        for detection in detections:
            file.write((", " if number else "") + json.dumps(detection))
            number += 1

    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        yield write
        file.write("]")
    logger.info("Wrote %s", counted(number, "detection"))
