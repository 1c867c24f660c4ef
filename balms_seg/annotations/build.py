"""From the lists of a json to its arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .annotation_columns import AnnotationColumns
from .annotations import Annotations, Facts, ImageTable, Masks
from .arrays import Ids, Ragged, Texts
from .json_file import paused_garbage_collection
from .sections import Sections
from .suspicions import (
    find_suspicions,
    is_share_beside_pixels,
    largest_coordinates,
    shared_paths,
)
from .tables import LVIS_IMAGE_FIELDS, ImageEntry, flat_lists, read_categories, read_images

#: Shows how far an iteration over the sizes of parts has come, given their sum.
Progress = Callable[[Iterable[int], int], Iterable[int]]


def build_annotations(
    sections: Sections, source: str, progress: Progress = lambda parts, _: parts
) -> Annotations:
    """Check a json's entries, fill in what they leave out, and flatten them.

    Args:
        sections: the json's lists.
        source: the json's name, for errors.
        progress: passes the parts on; for long files.

    Raises:
        AnnotationError: an entry cannot be used; names it, the field and what was expected.
    """
    with paused_garbage_collection():
        categories = read_categories(sections.categories, source)
        images = read_images(sections.images, source)
        class_index = {category["id"]: place for place, category in enumerate(categories)}
        columns = AnnotationColumns(
            source,
            {image.id: place for place, image in enumerate(images)},
            class_index,
            np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        )
        entries = sections.annotations or ()
        for _ in progress(columns.add(entries), len(entries)):
            pass
        sections.release()
        arrays = columns.finish()
        image_table, num_unknown = _image_table(images, columns.sizes, class_index)
    by_image = np.argsort(arrays["images"], kind="stable")
    paths = [image.path for image in images]
    masks = Masks(
        kinds=arrays["mask_kinds"],
        polygon_offsets=_offsets(arrays["num_polygons"]),
        coordinates=Ragged.of_lengths(arrays["coordinates"], arrays["num_coordinates"]),
        has_extent=arrays["has_extent"],
        run_lengths=Ragged.of_lengths(arrays["run_lengths"], arrays["num_characters"]),
    )
    polygon_ends = largest_coordinates(masks)
    return Annotations(
        facts=Facts(
            source=source,
            has_list=sections.annotations is not None,
            categories=categories,
            num_unknown_listed=num_unknown,
            damages=columns.damages,
            suspicions=find_suspicions(
                arrays["boxes"],
                polygon_ends,
                columns.sizes[arrays["images"]],
                paths,
            ),
            num_sharing=sum(shared_paths(paths).values()),
            num_share_masks=int(is_share_beside_pixels(arrays["boxes"], polygon_ends).sum()),
        ),
        image_table=image_table,
        ids=Ids.of(columns.ids),
        images=arrays["images"],
        classes=arrays["classes"],
        boxes=arrays["boxes"],
        areas=arrays["areas"],
        is_crowd=arrays["is_crowd"],
        has_crowd_flag=arrays["has_crowd_flag"],
        is_ignored=arrays["is_ignored"],
        masks=masks,
        by_image=Ragged.of_lengths(by_image, np.bincount(arrays["images"], minlength=len(images))),
    )


def _image_table(
    images: list[ImageEntry], sizes: np.ndarray, class_index: dict[int | str, int]
) -> tuple[ImageTable, dict[str, int]]:
    """The images' arrays, and by list the number of its ids that are no category's."""
    lists, is_given, num_unknown = [], [], {}
    for number, name in enumerate(LVIS_IMAGE_FIELDS):
        ids = [image.lists[number] for image in images]
        flat, unknown = flat_lists(ids, class_index)
        lists.append(flat)
        is_given.append(np.array([listed is not None for listed in ids], bool))
        if unknown:
            num_unknown[name] = unknown
    table = ImageTable(
        ids=Ids.of([image.id for image in images]),
        paths=Texts.of([image.path for image in images]),
        sizes=sizes,
        negatives=lists[0],
        has_negatives=is_given[0],
        not_exhaustive=lists[1],
        has_not_exhaustive=is_given[1],
    )
    return table, num_unknown


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
