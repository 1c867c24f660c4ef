"""The predictions of all processes of one evaluation, from their parts on disk to one file."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from balms_seg.evaluation.predictions.prediction_parts import (
    ImagePredictions,
    PartWriter,
    finished_images,
    is_part_of,
    part_path,
    parts_in,
    read_parts,
)

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
        self._fingerprint = ""
        self._keep = False

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        if self._output_dir is not None:
            return Path(self._output_dir) / "parts"
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="predictions_")
        return Path(self._temporary.name)

    def take_up(self, fingerprint: str) -> set[Any]:
        """Keep parts with this fingerprint; the ids of the images they hold. A collective call."""
        # Normalisation statistics are each process's own, so all go by the main process's.
        self._fingerprint = comm.all_gather(fingerprint)[0] if self._distributed else fingerprint
        paths = (
            parts_in(self.folder)
            if self._distributed
            else [part_path(self.folder, comm.get_rank())]
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
            comm.synchronize()
            paths = comm.gather(path, dst=0)
            if paths and self._keep:
                others = set(parts_in(self.folder)).difference(paths)
                paths += [path for path in sorted(others) if is_part_of(path, self._fingerprint)]
        self._keep = False
        return paths

    def read(self, paths: list[Path]) -> Iterator[ImagePredictions]:
        """All images of the parts that `finish` named."""
        return read_parts(paths, self._fingerprint)

    def remove(self, paths: list[Path]) -> None:
        """Remove parts that have been evaluated, and their folder with the last one."""
        for path in paths:
            path.unlink()
        if self._output_dir is not None and not parts_in(self.folder):
            self.folder.rmdir()

    def _open(self) -> PartWriter:
        """This process's part, truncated unless `take_up` found it worth keeping."""
        if self._writer is None:
            rank = comm.get_rank()
            if self._distributed and rank == 0 and not self._keep:
                current = [part_path(self.folder, i) for i in range(comm.get_world_size())]
                for path in set(parts_in(self.folder)).difference(current):
                    path.unlink()  # of an earlier run with more processes
            path = part_path(self.folder, rank)
            self._writer = PartWriter(path, self._fingerprint, keep=self._keep)
        return self._writer


@contextmanager
def results_file(
    output_dir: str | None,
) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """A function that adds detections to lvis_instances_results.json, written as they come.

    Args:
        output_dir: its folder; with None nothing is written.
    """
    if output_dir is None:
        yield lambda detections: None
        return
    PathManager.mkdirs(output_dir)
    path = os.path.join(output_dir, "lvis_instances_results.json")
    number = 0

    def write(detections: list[dict[str, Any]]) -> None:
        nonlocal number
        for detection in detections:
            file.write((", " if number else "") + json.dumps(detection))
            number += 1

    with PathManager.open(path, "w") as file:
        file.write("[")
        yield write
        file.write("]")
    logger.info("Wrote %d detections to %s", number, path)
