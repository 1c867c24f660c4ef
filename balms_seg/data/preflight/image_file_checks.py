"""Whether the images that annotations name are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from balms_seg.annotations import describe_alike, is_coco_2014_name, shortened
from balms_seg.wording import agreeing, counted

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(address: str) -> bool:
    """Whether an image lies behind a prefix such as s3://, where detectron2 fetches it."""
    return _SCHEME.match(address) is not None


def missing_images(file_names: Iterable[str]) -> list[str]:
    """Those of the files that do not exist; one folder listing each instead of a call per file."""
    listings: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        folder, name = os.path.split(file_name)
        if is_remote(file_name):
            continue
        if folder not in listings:
            listings[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in listings[folder]:
            missing.append(file_name)
    return missing


def describe_missing(
    missing: Sequence[str],
    num_images: int,
    image_root: str | None,
    *,
    is_lvis_style: bool = False,
) -> str:
    """One sentence on missing images, with the likely cause where it can be told.

    Args:
        missing: paths, at least one.
        num_images: of the set.
        image_root: its folder; None where that is not known.
        is_lvis_style: the json has LVIS's fields, of which `coco_url` says where an image lies.
    """
    text = (
        f"{len(missing)} of {counted(num_images, 'image')} {agreeing(len(missing), 'is', 'are')} "
        f"missing: {shortened(missing, 3)}"
    )
    if is_lvis_style and any(is_coco_2014_name(os.path.basename(path)) for path in missing):
        # Where an entry has one, the path is no longer of this name.
        text += (
            "; entries of these names have no coco_url here, by which LVIS's images are found "
            "below coco/train2017 and coco/val2017"
        )
    text += "."
    if image_root is None:
        return text
    root = Path(image_root)
    if not root.is_dir():
        return (
            f"the image folder {root} does not exist, so {agreeing(num_images, 'the', 'all')} "
            f"{counted(num_images, 'image')} {agreeing(num_images, 'is', 'are')} missing."
        )
    hint = _folder_that_would_do(missing, root) if len(missing) == num_images else None
    if hint:
        return f"{text} Register the set with image folder {hint}."
    return text + describe_alike(missing, root)


def _folder_that_would_do(missing: Sequence[str], root: Path) -> Path | None:
    try:
        names = [Path(path).relative_to(root) for path in missing]
    except ValueError:
        return None
    below = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    candidates = [root.parent, root.parent.parent, *below]
    return next((f for f in candidates if all((f / name).is_file() for name in names)), None)
