"""Whether a data set is registered; where it is not, what is near, and how to register."""

from __future__ import annotations

import difflib

from detectron2.data import DatasetCatalog


def require_registered(name: str) -> None:
    """Raise KeyError, with similar names and how to register, unless there is such a data set."""
    if name in DatasetCatalog.list():
        return
    near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
    similar = f" Names like it: {', '.join(near)}." if near else ""
    raise KeyError(
        f"Data set {name!r} is not registered.{similar} Register your own: annotations with the "
        f"setting DATASETS.REGISTER \"[['{name}', 'annotations.json', 'image_folder']]\", class "
        f"folders, a zip or a list with DATASETS.REGISTER_IMAGES \"[['{name}', 'photos', '']]\"."
    )
