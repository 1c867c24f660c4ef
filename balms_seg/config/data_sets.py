"""Data sets to register, the classes they have, and how their pixels are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

MATCH_FILE_NAMES = ("exact", "basename")


def add_keys(cfg: CfgNode) -> None:
    """Declare which sets there are and how they are read."""
    # Data sets to register before anything else: a list of [name, json file, image folder].
    cfg.DATASETS.REGISTER = []
    # Images of these sets that do not exist by the json's file_name: exact (an error) | basename
    # (taken from the file below the folder that bears the last part of the name).
    cfg.DATASETS.MATCH_FILE_NAMES = "exact"
    # Whether to take annotations that look as if they meant something else: boxes by their corners
    # or as shares of the image, or most images under several ids. False: an error says so.
    cfg.DATASETS.TRUST_ANNOTATIONS = False
    # Image classification sets to register: a list of [name, source, root]. source: a folder or zip
    # of class folders (root: the folder in it, such as train), a list file of "path label" lines
    # (root: the folder, zip or .npz of features; empty: the list's own folder), or features: an
    # .npz (root empty) or .npy (root: the list file with its labels).
    cfg.DATASETS.REGISTER_IMAGES = []
    # Names of the image classifier's classes in the order of its outputs. Empty: those of the first
    # training set. Other sets are matched by name; numbers in a list count in these.
    cfg.DATASETS.CLASSES = []

    # Values of 16-bit and float images that become 0 and 255: [low, high]. Empty: the range of the
    # type, 0 to 1 for floats. For 12 bits in 16: [0, 4095].
    cfg.INPUT.PIXEL_RANGE = []


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Entries of another form."""
    found = [
        f"DATASETS.REGISTER_IMAGES holds {entry!r}; each entry is [name, source, root]."
        for entry in cfg.DATASETS.REGISTER_IMAGES
        if len(entry) != 3 or not all(isinstance(part, str) for part in entry)
    ]
    names = list(cfg.DATASETS.CLASSES)
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        found.append(
            f"DATASETS.CLASSES is {names}; expected different names, numbers among them in quotes."
        )
    pixel_range = list(cfg.INPUT.PIXEL_RANGE)
    if pixel_range and (len(pixel_range) != 2 or not pixel_range[0] < pixel_range[1]):
        found.append(
            f"INPUT.PIXEL_RANGE is {pixel_range}; expected [low, high], or [] for the type's range."
        )
    if cfg.DATASETS.MATCH_FILE_NAMES not in MATCH_FILE_NAMES:
        found.append(
            f"DATASETS.MATCH_FILE_NAMES is {cfg.DATASETS.MATCH_FILE_NAMES!r}; expected one of "
            f"{', '.join(MATCH_FILE_NAMES)}."
        )
    for entry in cfg.DATASETS.REGISTER:
        if len(entry) != 3 or not all(isinstance(part, str) for part in entry):
            found.append(
                f"DATASETS.REGISTER holds {entry!r}; each entry is [name, json file, image folder]."
            )
    return found
