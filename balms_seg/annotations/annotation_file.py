"""Reading and checking a COCO- or LVIS-style json, before anything is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json

# Fields that LVIS adds to COCO's format.
LVIS_IMAGE_FIELDS = ("neg_category_ids", "not_exhaustive_category_ids")
FREQUENCIES = ("r", "c", "f")
_NUM_NAMED = 5


class AnnotationError(ValueError):
    """An annotation file that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class AnnotationFile:
    """A json that passed the structural checks.

    Attributes:
        path: where it was read from.
        images: the json's images, ordered by id.
        categories: the json's categories, ordered by id; the order of the contiguous ids.
        annotations: image id -> its annotations, in the file's order; every image has an entry.
        num_annotations: annotations in the file.
    """

    path: Path
    images: tuple[dict[str, Any], ...]
    categories: tuple[dict[str, Any], ...]
    annotations: dict[Hashable, list[dict[str, Any]]] = field(repr=False)
    num_annotations: int = 0

    @property
    def contiguous_ids(self) -> dict[int, int]:
        """The json's category id -> index of the class in [0, K)."""
        return {category["id"]: index for index, category in enumerate(self.categories)}

    def has_image_field(self, name: str) -> bool:
        """Whether any image carries the field."""
        return any(name in image for image in self.images)

    @property
    def is_lvis_style(self) -> bool:
        """Whether the images say which classes were verified absent, as LVIS's do."""
        return all(self.has_image_field(name) for name in LVIS_IMAGE_FIELDS)


def read_annotation_file(json_file: str | Path) -> AnnotationFile:
    """Read a COCO- or LVIS-style json and check that its parts refer to each other rightly.

    Args:
        json_file: a path, or anything that detectron2's `PathManager` resolves.

    Returns:
        The checked content.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: the file is not json, is cut short, lacks images, annotations or
            categories, repeats an id, or has annotations of unknown images or categories.
    """
    path = local_path(json_file)
    content = _parse(path)
    _check_sections(content, path)
    images, categories = content["images"], content["categories"]
    annotations = content["annotations"]
    _check_fields(images, ("id", "height", "width"), "image", path)
    _check_fields(categories, ("id", "name"), "category", path)
    _check_fields(annotations, ("image_id", "category_id"), "annotation", path)
    for kind, items in (("image", images), ("category", categories), ("annotation", annotations)):
        _check_unique((item["id"] for item in items if "id" in item), kind, path)
    by_image: dict[Hashable, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    category_ids = {category["id"] for category in categories}
    _check_references(annotations, "image_id", by_image.keys(), "images", path)
    _check_references(annotations, "category_id", category_ids, "categories", path)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    return AnnotationFile(
        path=path,
        images=tuple(sorted(images, key=lambda image: image["id"])),
        categories=tuple(sorted(categories, key=lambda category: category["id"])),
        annotations=by_image,
        num_annotations=len(annotations),
    )


def local_path(json_file: str | Path) -> Path:
    """Where the file lies on this machine; `~` and detectron2's path prefixes are resolved."""
    name = str(json_file)
    if "://" in name:
        from detectron2.utils.file_io import PathManager

        return Path(PathManager.get_local_path(name))
    return Path(name).expanduser()


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise AnnotationError(str(error)) from error
    if not isinstance(content, dict):
        raise AnnotationError(
            f"{path} holds a {type(content).__name__}, expected an object with images, annotations "
            "and categories. A list is usually a file of results."
        )
    return content


def _check_sections(content: dict[str, Any], path: Path) -> None:
    names = ("images", "annotations", "categories")
    wrong = [name for name in names if not isinstance(content.get(name), list)]
    if wrong:
        raise AnnotationError(
            f"{path} has no list named {' and none named '.join(wrong)}; expected images, "
            f"annotations and categories, got {', '.join(sorted(content)) or 'an empty object'}."
        )
    for name in ("images", "categories"):
        if not content[name]:
            raise AnnotationError(f"The list of {name} in {path} is empty.")


def _check_fields(
    items: list[dict[str, Any]], fields: tuple[str, ...], kind: str, path: Path
) -> None:
    for name in fields:
        wrong = [
            i for i, item in enumerate(items) if not isinstance(item, dict) or name not in item
        ]
        if wrong:
            raise AnnotationError(
                f"{_count(len(wrong), kind)} in {path} without {name!r} (positions in the list: "
                f"{shortened(wrong)})."
            )


def _check_unique(values: Iterable[Any], kind: str, path: Path) -> None:
    ids = list(values)
    types = {type(value) for value in ids}
    if len(types) > 1 or not types <= {int, str}:
        raise AnnotationError(
            f"{path} has {kind} ids of type {' and '.join(sorted(t.__name__ for t in types))}; "
            "expected integers, or text for all of them."
        )
    repeated = [value for value, count in Counter(ids).items() if count > 1]
    if repeated:
        raise AnnotationError(
            f"{path} uses {_count(len(repeated), f'{kind} id')} more than once: "
            f"{shortened(repeated)}. Ids must be unique."
        )


def _check_references(
    annotations: list[dict[str, Any]], key: str, known: Iterable[Hashable], section: str, path: Path
) -> None:
    known = set(known)
    # A number or text first: a list could not be looked up.
    wrong = [a for a in annotations if not isinstance(a[key], (int, str)) or a[key] not in known]
    if wrong:
        named = [f"{a.get('id', '?')} ({key} {a[key]!r})" for a in wrong]
        raise AnnotationError(
            f"{_count(len(wrong), 'annotation')} in {path} with a {key} that is not in its "
            f"{section}: {shortened(named)}."
        )


def shortened(values: Iterable[object], limit: int = _NUM_NAMED) -> str:
    """The first few values, and how many more there are."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
