"""Files of one evaluation, which appear together once all of them are written.

Beside them stands a manifest, which names the evaluation and has the checksum of each file. It is
moved in last, so that whoever reads while files of two evaluations are mixed can tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DETECTIONS_FILE = "lvis_instances_results.json"
MANIFEST = "evaluation.json"
EARLIER = "earlier_"  # begins the names of folders that results were moved to, out of the way
UNFINISHED = ".unfinished_"  # likewise, of folders that an evaluation is writing in

_VERSION = 1
_NAMING = (
    *("per_class_*.json", "per_class_*.csv", "calibration_*.json", "matches_*.npz"),
    *("predictions_*.npz", "predictions_*.csv", "confusion_*.csv", DETECTIONS_FILE),
)


@contextmanager
def appearing_together(folder: str | Path, evaluation: str) -> Iterator[Path]:
    """A folder to write in; what is there at the end moves to `folder`, all or nothing.

    Whoever writes beside this does not mix with it but by the few renamings at the end, which the
    manifest tells.

    Args:
        folder: made where missing.
        evaluation: what the evaluation is called; no other process writes under this name.
    """
    folder = Path(folder)
    staging = folder / f"{UNFINISHED}{evaluation}"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        yield staging
        written = {path.name for path in staging.iterdir()}
        _write_manifest(staging, evaluation)
        for name in [*sorted(written), MANIFEST]:
            os.replace(staging / name, folder / name)
        for path in evaluation_files(folder):
            if path.name not in written:
                path.unlink(missing_ok=True)  # of a task that this evaluation left out
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_manifest(folder: Path, evaluation: str) -> None:
    sums = {path.name: _checksum(path) for path in evaluation_files(folder)}
    manifest = {"schema_version": _VERSION, "evaluation": evaluation, "checksums": sums}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def evaluation_files(folder: Path) -> list[Path]:
    """The files in a folder that the manifest of an evaluation names."""
    return sorted(path for pattern in _NAMING for path in folder.glob(pattern))


def require_one_evaluation(paths: Iterable[Path], record: Mapping[str, Any]) -> None:
    """Refuse files that another evaluation wrote than the one that results.json records.

    Args:
        paths: files as `evaluation_files` gives them.
        record: of results.json; {} where there is none, then a file without a manifest will do.

    Raises:
        ValueError: a file is of another evaluation; names it.
    """
    recorded = {name for name in (record.get("evaluations") or {}).values() if name}
    for folder, own in _by_folder(paths).items():
        manifest = _read_manifest(folder)
        if manifest is None and not recorded:
            continue
        evaluation, sums = manifest or (None, {})
        for path in own:
            is_recorded = not recorded or evaluation in recorded
            if not is_recorded or sums.get(path.name) != _checksum(path):
                raise ValueError(
                    f"{path} is of another evaluation than {MANIFEST} and results.json: one was "
                    "interrupted or is being written, two wrote to the same folder, or the file "
                    "was changed. Evaluate again with --eval-only."
                )


def _by_folder(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return folders


def _read_manifest(folder: Path) -> tuple[str, dict[str, str]] | None:
    """Evaluation and checksums by file name; None without a manifest that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["evaluation"]), dict(manifest["checksums"])
    return None
