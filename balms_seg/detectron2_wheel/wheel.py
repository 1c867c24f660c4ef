"""Turn the source distribution of detectron2 0.6 into a pure-Python wheel.

Pure functions on the files' contents. A wheel is a zip archive with a list of its files, so no
build tool is needed and it takes under a second.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from balms_seg.detectron2_wheel.edits import EDITS, STUB_EXTENSION, STUB_PATH, Edit

SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION = "0.6"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"

# Where the distribution's files go in the wheel; what matches none is left out.
PREFIXES = (
    ("detectron2/", "detectron2/"),
    ("projects/PointRend/point_rend/", "detectron2/projects/point_rend/"),
    ("projects/DeepLab/deeplab/", "detectron2/projects/deeplab/"),
    ("projects/Panoptic-DeepLab/panoptic_deeplab/", "detectron2/projects/panoptic_deeplab/"),
)

# Upstream's requirements without its upper bound on iopath and without black, future, pydot and
# dataclasses, which only exports and formatting used. torch and torchvision are not listed upstream
# either: which build to take is the user's choice.
REQUIREMENTS = (
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
    "setuptools",
)

Files = Mapping[str, bytes]


class InstallError(RuntimeError):
    """Something the user has to know or to change before detectron2 can be installed."""


def verify_sha256(path: Path, expected: str) -> None:
    """Compare a file's hash with the expected one, before anything else is read from it.

    Raises:
        InstallError: the hashes differ.
    """
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise InstallError(
            f"{path.name} is not the expected file: expected sha256 {expected}, but got {actual}. "
            "Nothing was read from it. Delete it, and any cached copy, and run this again."
        )


def read_sdist(path: Path) -> dict[str, bytes]:
    """The files for the wheel, by their path in it, with the licence under "LICENSE"."""
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            target = _wheel_path(name)
            if not member.isfile() or target is None:
                continue
            content = archive.extractfile(member)
            assert content is not None, name  # holds for every regular file
            files[target] = content.read()
    return files


def _wheel_path(name: str) -> str | None:
    if name == "LICENSE":
        return name
    if name.endswith((".py", ".yaml")):
        for prefix, target in PREFIXES:
            if name.startswith(prefix):
                return target + name.removeprefix(prefix)
    return None


def apply_edits(files: Files, edits: Sequence[Edit]) -> dict[str, bytes]:
    """A copy of `files` with every edit applied.

    Raises:
        InstallError: a file is missing, an old text does not occur the expected number of times,
            or an edited Python file no longer compiles. All of them are listed.
    """
    edited, problems = dict(files), []
    for edit in edits:
        if edit.path not in edited:
            problems.append(f"{edit.path}: no such file")
            continue
        text = edited[edit.path].decode()
        hits = text.count(edit.old)
        if hits != edit.hits:
            problems.append(f"{edit.path}: expected {edit.hits} of {edit.old!r}, but found {hits}")
            continue
        edited[edit.path] = text.replace(edit.old, edit.new).encode()
    for path in sorted({edit.path for edit in edits} & edited.keys()):
        try:
            compile(edited[path], path, "exec")
        except SyntaxError as error:
            problems.append(f"{path}: does not compile after the edits: {error}")
    if problems:
        raise InstallError(
            "The source is not the one these edits were written for:\n  " + "\n  ".join(problems)
        )
    return edited


def write_wheel(files: Files, directory: Path, edited_paths: Sequence[str]) -> Path:
    """Write the wheel; the same files give the same bytes.

    Args:
        files: Contents by path in the wheel; "LICENSE" goes to the metadata.
        directory: Where the wheel is written.
        edited_paths: Files that differ from upstream's, named in the metadata as the licence asks.

    Returns:
        The wheel's path.
    """
    info = f"detectron2-{VERSION}.dist-info"
    contents = {path: data for path, data in files.items() if path != "LICENSE"}
    contents[f"{info}/METADATA"] = _metadata(edited_paths).encode()
    contents[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: balms_seg\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    contents[f"{info}/top_level.txt"] = b"detectron2\n"
    if "LICENSE" in files:
        contents[f"{info}/licenses/LICENSE"] = files["LICENSE"]
    rows = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in contents.items()]
    record = f"{info}/RECORD"
    contents[record] = "\n".join([*rows, f"{record},,", ""]).encode()

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in contents.items():
            entry = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            wheel.writestr(entry, data)
    target = directory / WHEEL_NAME
    directory.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    return target


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata(edited_paths: Sequence[str]) -> str:
    changed = "\n".join(f"- {path}" for path in sorted(set(edited_paths)))
    return "\n".join(
        [
            "Metadata-Version: 2.1",
            "Name: detectron2",
            f"Version: {VERSION}",
            "Summary: Object detection and segmentation (pure Python, without compiled extension)",
            "Author: FAIR",
            "License: Apache-2.0",
            "Requires-Python: >=3.11",
            *(f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS),
            "",
            f"detectron2 {VERSION} made by balms_seg.",
            "These files were changed or added:",
            "",
            changed,
            "",
        ]
    )


def make_wheel(sdist: Path, directory: Path) -> Path:
    """Make the wheel from the verified source distribution."""
    verify_sha256(sdist, SDIST_SHA256)
    files = apply_edits(read_sdist(sdist), EDITS)
    files[STUB_PATH] = STUB_EXTENSION.encode()
    return write_wheel(files, directory, [STUB_PATH, *(edit.path for edit in EDITS)])
