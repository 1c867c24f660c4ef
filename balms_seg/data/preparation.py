"""Where the builtin data sets are expected, and linking downloads into that place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LVIS_PAGE = "https://www.lvisdataset.org/dataset"
_COCO_PAGE = "https://cocodataset.org/#download"
# Folders with more entries hold images; no download lies below them.
_LARGEST_SEARCHED_FOLDER = 1000


@dataclass(frozen=True)
class Part:
    """A file or an image folder of a data set.

    Attributes:
        path: where it belongs, relative to DETECTRON2_DATASETS.
        archive: name of the official download that holds it.
        page: official page to get it from.
        num_images: images of a folder; None for a file.
    """

    path: str
    archive: str
    page: str
    num_images: int | None = None


COCO_IMAGES = (
    Part("coco/train2017", "train2017.zip", _COCO_PAGE, 118287),
    Part("coco/val2017", "val2017.zip", _COCO_PAGE, 5000),
)
PARTS = {
    "coco": (
        *COCO_IMAGES,
        Part(
            "coco/annotations/instances_train2017.json",
            "annotations_trainval2017.zip",
            _COCO_PAGE,
        ),
        Part("coco/annotations/instances_val2017.json", "annotations_trainval2017.zip", _COCO_PAGE),
    ),
    "lvis_v0.5": (
        *COCO_IMAGES,
        Part("lvis/lvis_v0.5_train.json", "lvis_v0.5_train.json.zip", _LVIS_PAGE),
        Part("lvis/lvis_v0.5_val.json", "lvis_v0.5_val.json.zip", _LVIS_PAGE),
    ),
    "lvis_v1": (
        *COCO_IMAGES,
        Part("lvis/lvis_v1_train.json", "lvis_v1_train.json.zip", _LVIS_PAGE),
        Part("lvis/lvis_v1_val.json", "lvis_v1_val.json.zip", _LVIS_PAGE),
    ),
}


@dataclass(frozen=True)
class PartStatus:
    """What was found of a part.

    Attributes:
        part: the part.
        problem: what is wrong with it, and what to do; empty if nothing is.
        linked_to: the download that a link was made to, if one was.
    """

    part: Part
    problem: str = ""
    linked_to: Path | None = None


def datasets_root() -> Path:
    """The folder that detectron2 looks in: DETECTRON2_DATASETS, or ./datasets without it."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def prepare(names: Iterable[str], root: Path, downloads: Sequence[Path] = ()) -> list[PartStatus]:
    """Check the parts of data sets, and link those that lie elsewhere into the tree.

    Nothing is copied, moved, unpacked or replaced, except for links to nowhere.

    Args:
        names: keys of `PARTS`.
        root: the tree to check; see `datasets_root`.
        downloads: folders to look in for what the tree lacks.

    Returns:
        One status a part, in order.

    Raises:
        NotADirectoryError: a folder of `downloads` is none.
    """
    for folder in downloads:
        if not folder.is_dir():
            raise NotADirectoryError(f"Expected a folder with downloads, but {folder} is none.")
    parts = dict.fromkeys(part for name in names for part in PARTS[name])
    return [_prepare_part(part, root, downloads) for part in parts]


def _prepare_part(part: Part, root: Path, downloads: Sequence[Path]) -> PartStatus:
    target = root / part.path
    if target.exists():
        return PartStatus(part, _problem(part, target))
    reasons = []
    for found in _find(target.name, downloads):
        problem = _problem(part, found)
        if not problem:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a link to nowhere
            target.symlink_to(found.resolve(), target_is_directory=found.is_dir())
            return PartStatus(part, linked_to=found)
        reasons.append(problem)
    reasons += [f"{archive} is there; unpack it." for archive in _find(part.archive, downloads)]
    if target.is_symlink():
        reasons.append(f"{target} links to {target.readlink()}, which does not exist.")
    reasons.append(f"Get {part.archive} from {part.page}.")
    return PartStatus(part, " ".join(["missing.", *reasons]))


def _problem(part: Part, path: Path) -> str:
    """What is wrong with a part at a path; empty if nothing is."""
    if part.num_images is None:
        return _json_problem(path)
    if not path.is_dir():
        return f"{path} is not a folder; it should hold {part.num_images} images."
    with os.scandir(path) as entries:
        num_images = sum(entry.name.endswith(".jpg") for entry in entries)
    if num_images < part.num_images:
        return (
            f"{path} holds {num_images} of {part.num_images} images; unpack {part.archive} again "
            f"({part.page})."
        )
    return ""


def _json_problem(path: Path) -> str:
    # The ends suffice to meet a download that was cut short; reading all of LVIS takes minutes.
    if not path.is_file():
        return f"{path} is not a file."
    with path.open("rb") as file:
        begin = file.read(64).lstrip()
        file.seek(max(0, path.stat().st_size - 64))
        end = file.read().rstrip()
    if begin.startswith(b"{") and end.endswith(b"}"):
        return ""
    return f"{path} is not a whole json file; get it again."


def _find(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, subfolders, files in os.walk(folder):
            if name in subfolders or name in files:
                yield Path(parent) / name
            if len(files) > _LARGEST_SEARCHED_FOLDER:
                subfolders.clear()
            subfolders.sort()


def format_status(statuses: Sequence[PartStatus], root: Path) -> str:
    """A line for each part, and a last one on all of them."""
    lines = []
    for status in statuses:
        found = f"linked to {status.linked_to}" if status.linked_to else "found"
        lines.append(f"{'MISSING' if status.problem else 'ok':8}{status.part.path}")
        lines.append(f"{'':8}{status.problem or found}")
    num_missing = sum(bool(status.problem) for status in statuses)
    summary = f"{num_missing} of {len(statuses)} parts missing" if num_missing else "complete"
    return "\n".join([*lines, f"{root.absolute()}: {summary}."])
