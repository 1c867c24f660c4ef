"""Where the builtin data sets are expected, and linking downloads into that place."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

_LVIS_PAGE = "https://www.lvisdataset.org/dataset"
_COCO_PAGE = "https://cocodataset.org/#download"
_LVIS_FILES = "https://dl.fbaipublicfiles.com/LVIS"
_COCO_FILES = "http://images.cocodataset.org"
# Folders with more entries hold images; no download lies below them.
_LARGEST_SEARCHED_FOLDER = 1000


@dataclass(frozen=True)
class Part:
    """A file or an image folder of a data set.

    Attributes:
        path: where it belongs, relative to DETECTRON2_DATASETS.
        url: of the official download that holds it, a zip.
        page: official page, with the terms.
        gigabytes: unpacked, about.
        num_images: images of a folder; None for a file.
    """

    path: str
    url: str
    page: str
    gigabytes: float
    num_images: int | None = None

    @property
    def archive(self) -> str:
        """File name of the download."""
        return self.url.rpartition("/")[2]


def _coco(path: str, archive: str, gigabytes: float, num_images: int | None = None) -> Part:
    return Part(f"coco/{path}", f"{_COCO_FILES}/{archive}", _COCO_PAGE, gigabytes, num_images)


def _lvis(name: str, gigabytes: float) -> Part:
    return Part(f"lvis/{name}", f"{_LVIS_FILES}/{name}.zip", _LVIS_PAGE, gigabytes)


COCO_IMAGES = (
    _coco("train2017", "zips/train2017.zip", 18, 118287),
    _coco("val2017", "zips/val2017.zip", 1, 5000),
)
_COCO_ANNOTATIONS = "annotations/annotations_trainval2017.zip"
PARTS = {
    "coco": (
        *COCO_IMAGES,
        _coco("annotations/instances_train2017.json", _COCO_ANNOTATIONS, 0.45),
        _coco("annotations/instances_val2017.json", _COCO_ANNOTATIONS, 0.02),
    ),
    "lvis_v0.5": (
        *COCO_IMAGES,
        _lvis("lvis_v0.5_train.json", 0.7),
        _lvis("lvis_v0.5_val.json", 0.05),
    ),
    "lvis_v1": (
        *COCO_IMAGES,
        _lvis("lvis_v1_train.json", 1.1),
        _lvis("lvis_v1_val.json", 0.2),
    ),
}
# What to train first on each, once it is there.
_FIRST_CONFIG = {
    "lvis_v0.5": "configs/lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml",
    "lvis_v1": "configs/lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml",
}


@dataclass(frozen=True)
class PartStatus:
    """What was found of a part.

    Attributes:
        part: the part.
        problem: what is wrong with it, and what to do; empty if nothing is.
        linked_to: the download that a link was made to, if one was.
        warning: why it is perhaps not the published file; empty if nothing says so.
    """

    part: Part
    problem: str = ""
    linked_to: Path | None = None
    warning: str = ""


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
        return PartStatus(part, _problem(part, target), warning=_other_size(part, target))
    reasons = []
    for found in _find(target.name, downloads):
        problem = _problem(part, found)
        if not problem:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a link to nowhere
            target.symlink_to(found.resolve(), target_is_directory=found.is_dir())
            return PartStatus(part, linked_to=found, warning=_other_size(part, found))
        reasons.append(problem)
    reasons += [f"{archive} is there; unpack it." for archive in _find(part.archive, downloads)]
    if target.is_symlink():
        reasons.append(f"{target} links to {target.readlink()}, which does not exist.")
    reasons.append(f"{part.archive} of {part.page} has it.")
    return PartStatus(part, " ".join(reasons))


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


def _other_size(part: Part, path: Path) -> str:
    """A warning where a file has less than half or more than twice the published size."""
    if part.num_images is not None or not path.is_file():
        return ""
    megabytes, published = path.stat().st_size / 1e6, 1000 * part.gigabytes
    if published / 2 <= megabytes <= 2 * published:
        return ""
    return (
        f"WARNING: it has {megabytes:,.1f} MB, but the published file about {published:,.0f} MB; "
        "what another one gives is not comparable with published numbers."
    )


def _find(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, subfolders, files in os.walk(folder):
            if name in subfolders or name in files:
                yield Path(parent) / name
            if len(files) > _LARGEST_SEARCHED_FOLDER:
                subfolders.clear()
            subfolders.sort()


def format_status(
    statuses: Sequence[PartStatus], root: Path, names: Sequence[str] = tuple(PARTS)
) -> str:
    """A line for each part, one on all of them, and the commands that come next.

    What is wrong with several parts in a row, such as two files of one archive, is said once.

    Args:
        statuses: of the parts.
        root: the tree.
        names: keys of `PARTS` that were asked for.
    """
    lines = []
    for problem, alike in groupby(statuses, key=attrgetter("problem")):
        for status in alike:
            if problem:
                size = f"{status.part.gigabytes:g} GB unpacked"
                lines.append(f"{'MISSING':8}{status.part.path}, {size}")
            else:
                lines.append(f"{'ok':8}{status.part.path}")
                linked = status.linked_to
                lines.append(f"{'':8}{f'linked to {linked}' if linked else 'found'}")
            if status.warning:
                lines.append(f"{'':8}{status.warning}")
        if problem:
            lines.append(f"{'':8}{problem}")
    absent = [status.part for status in statuses if status.problem]
    summary = f"{len(absent)} of {len(statuses)} parts missing" if absent else "complete"
    return "\n".join(
        [*lines, f"{root.absolute()}: {summary}.", "", *_next_commands(absent, root, names)]
    ).rstrip()


def _next_commands(absent: Sequence[Part], root: Path, names: Sequence[str]) -> Iterator[str]:
    """Download, unpack and check again; or, where nothing is missing, train."""
    here = shlex.quote(str(root.absolute()))
    if absent:
        gigabytes = sum(part.gigabytes for part in absent)
        yield "Next, once you have read the terms on the pages. The archives come where you run"
        yield f"this and take about {gigabytes:.2g} GB there until you remove them, their content"
        yield f"as much in {root.absolute()}. `curl -C - -LO` goes on where one was cut short."
    for url in dict.fromkeys(part.url for part in absent):
        path = next(part.path for part in absent if part.url == url)
        folder = shlex.quote(str(root.absolute() / path.partition("/")[0]))
        archive = url.rpartition("/")[2]
        yield f"  curl -LO {url} && mkdir -p {folder} && unzip -qo {archive} -d {folder}"
    if absent:
        yield f"  python datasets/prepare_lvis_and_coco.py {' '.join(names)} --root {here}"
    elif configs := [_FIRST_CONFIG[name] for name in names if name in _FIRST_CONFIG]:
        yield "Next (docs/lvis.md goes on from here):"
        yield f"  export DETECTRON2_DATASETS={here}"
        yield from (
            f"  balms-seg train --config-file {file} --num-gpus 8 --dry-run" for file in configs
        )
