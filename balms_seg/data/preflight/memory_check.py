"""What annotations take of a machine's memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from balms_seg.annotations import Annotations, num_bytes

logger = logging.getLogger(__name__)

_GIB = 1 << 30
_WORTH_TELLING = 10 << 20  # bytes
_SHARE = 0.5  # of the machine's memory; the rest is for images, processes and the system


def note_memory(files: Iterable[Annotations], *, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Compare what annotation files take with the machine's memory; warn where it is much.

    Where it is next to nothing, nothing is said.

    Arrays on disk are mapped, so that all ranks and data workers of a machine share them. Others
    are each rank's own, and shared by its workers.

    Args:
        files: of all data sets of a run.
        meminfo: where the system says how much memory there is.
    """
    different = {id(file): file for file in files}.values()
    needed = sum(map(num_bytes, different))
    own = sum(num_bytes(file) for file in different if file.cache_file is None)
    try:
        lines = meminfo.read_text().splitlines()
        total = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal"))
    except (OSError, StopIteration):
        return
    text = (
        f"Annotations take {needed / _GIB:.2f} of the {total / _GIB:.1f} GiB of this machine, "
        f"{own / _GIB:.2f} GiB of it in each rank."
    )
    if needed > _SHARE * total:
        logger.warning("%s A run needs room for images and processes besides.", text)
    elif needed > _WORTH_TELLING:
        logger.info("%s", text)
