"""The data of tables that make their own, where they are not there yet."""

from __future__ import annotations

from balms_seg.data.images.image_sets import read_cifar
from balms_seg.glyphs.collages import make_collages
from balms_seg.glyphs.glyph_dataset import PRESETS, make_glyph_dataset


def _make_glyphs() -> None:
    make_glyph_dataset("datasets/glyphs_benchmark", PRESETS["benchmark"])


def _make_glyphs_lvis() -> None:
    make_glyph_dataset("datasets/glyphs_lvis", PRESETS["lvis"])


def _make_collages() -> None:
    """Of CIFAR-10's photographs in DETECTRON2_DATASETS (default: datasets)."""
    photographs = {"train": read_cifar(10, "train"), "val": read_cifar(10, "test")}
    make_collages("datasets/collages_benchmark", photographs)


MAKERS = {"glyphs": _make_glyphs, "glyphs_lvis": _make_glyphs_lvis, "collages": _make_collages}
