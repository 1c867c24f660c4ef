"""The images and categories of a json, checked and ordered by id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from balms_seg.wording import counted

from . import fields
from .arrays import Ragged
from .class_limits import check_class_names, check_num_classes
from .entries import Source, content_of, entry_name
from .errors import AnnotationError, FieldError, check_unique, shortened

#: Fields that LVIS adds to COCO's images: verified absent classes, and incompletely annotated ones.
LVIS_IMAGE_FIELDS = ("neg_category_ids", "not_exhaustive_category_ids")
FREQUENCIES = ("r", "c", "f")
# LVIS v0.5 keeps the names of COCO 2014, while the images are used from the 2017 folders.
_COCO_2014_NAME = re.compile(r"COCO_(train|val|test)2014_\d+\.\w+")


class ImageEntry(NamedTuple):
    """An image of a json.

    Attributes:
        id: of the image.
        path: where it lies below the folder of the images; empty where the json does not say.
        height: px; 0 where unknown.
        width: likewise.
        lists: category ids of each of LVIS's lists; None where it is absent.
    """

    id: int | str
    path: str
    height: int
    width: int
    lists: tuple[list[int | str] | None, ...]


def read_images(sources: Sequence[Source], path: str) -> list[ImageEntry]:
    """The images ordered by id.

    Raises:
        AnnotationError: a field cannot be taken, or ids are missing or repeated.
    """
    contents = _contents(sources, "image", path)
    is_lvis_style = all(
        any(content.get(name) is not None for content in contents) for name in LVIS_IMAGE_FIELDS
    )

    def image(content: Mapping[str, Any]) -> ImageEntry:
        height, width = fields.image_size(content.get("height"), content.get("width"))
        return ImageEntry(
            id=fields.canonical_id(content["id"]),
            path=_relative_path(content, is_lvis_style),
            height=height,
            width=width,
            lists=tuple(fields.id_list(content.get(name), name) for name in LVIS_IMAGE_FIELDS),
        )

    images = _taken(contents, image, "image", path)
    check_unique([entry.id for entry in images], "image", path)
    return sorted(images, key=lambda entry: id_order(entry.id))


def read_categories(sources: Sequence[Source], path: str) -> list[dict[str, Any]]:
    """The categories ordered by id, the order of the classes: `id`, `name` and where given others.

    A category without a name is called by its id.

    Raises:
        AnnotationError: a field cannot be taken, ids are missing or repeated, or a frequency is
            none of LVIS's.
    """

    def category(content: Mapping[str, Any]) -> dict[str, Any]:
        identifier = fields.canonical_id(content["id"])
        entry = {"id": identifier, "name": fields.text(content.get("name"), "name")}
        entry["name"] = entry["name"] or str(identifier)
        frequency = fields.text(content.get("frequency"), "frequency")
        if frequency:
            entry["frequency"] = frequency
        for name in ("image_count", "instance_count"):
            if content.get(name) is not None:
                entry[name] = fields.count(content[name], name)
        return entry

    check_num_classes(len(sources), path)
    contents = _contents(sources, "category", path)
    categories = _taken(contents, category, "category", path)
    check_class_names([entry["name"] for entry in categories], path)
    check_unique([entry["id"] for entry in categories], "category", path)
    unknown = sorted({c["frequency"] for c in categories if "frequency" in c} - set(FREQUENCIES))
    if unknown:
        raise AnnotationError(
            f"{path} has categories of frequency {shortened(unknown)}; expected 'r', 'c' or 'f', "
            "or no frequency at all."
        )
    return sorted(categories, key=lambda entry: id_order(entry["id"]))


def id_order(identifier: int | str) -> tuple[bool, int | str]:
    """Sorts ids: numbers first, then texts."""
    return isinstance(identifier, str), identifier


def _contents(sources: Sequence[Source], kind: str, path: str) -> list[Mapping[str, Any]]:
    contents = [
        content_of(source, f"{kind.capitalize()} at place {place} of {path}")
        for place, source in enumerate(sources)
    ]
    without = [place for place, content in enumerate(contents) if content.get("id") is None]
    if without:
        raise AnnotationError(
            f"{counted(len(without), kind)} in {path} without 'id' (positions in the list: "
            f"{shortened(without)})."
        )
    return contents


def _taken(
    contents: Sequence[Mapping[str, Any]],
    take: Callable[[Mapping[str, Any]], Any],
    kind: str,
    path: str,
) -> list[Any]:
    taken = []
    for place, content in enumerate(contents):
        try:
            taken.append(take(content))
        except FieldError as error:
            name = f"{kind.capitalize()} {entry_name(content['id'], place)}"
            raise AnnotationError(f"{name} in {path} has {error}.") from None
    return taken


def is_coco_2014_name(name: str) -> bool:
    """Whether an image has the name that COCO 2014 and LVIS v0.5 give it, in no folder."""
    return _COCO_2014_NAME.fullmatch(name) is not None


def _relative_path(content: Mapping[str, Any], is_lvis_style: bool) -> str:
    name = fields.text(content.get("file_name"), "file_name")
    url = fields.text(content.get("coco_url"), "coco_url")
    if name and not (url and is_lvis_style and is_coco_2014_name(name)):
        return name
    return "/".join(url.split("/")[-2:])


def flat_lists(
    lists: Sequence[list[int | str] | None], class_index: Mapping[Any, int]
) -> tuple[Ragged, int]:
    """Lists of category ids as class indices, and the number of ids that are no category's.

    Args:
        lists: one an image; None where it is absent.
        class_index: category id -> class.
    """
    known = [[class_index[i] for i in ids or () if i in class_index] for ids in lists]
    num_unknown = sum(map(len, filter(None, lists))) - sum(map(len, known))
    flat = np.fromiter((place for places in known for place in places), np.int32)
    return Ragged.of_lengths(flat, list(map(len, known))), num_unknown
