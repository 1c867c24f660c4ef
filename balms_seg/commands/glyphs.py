"""Write a long-tailed instance segmentation data set of letters and signs, with LVIS annotations.

balms-seg glyphs --output datasets/glyphs

The folder gets train/, val/, heldout/ and a json file for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging

from balms_seg.glyphs.glyph_config import PRESETS, GlyphConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that are not given are None and keep the preset's value."""
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="default",
        help="where the arguments that are not given come from (default: %(default)s)",
    )
    parser.add_argument("--classes", dest="num_classes", type=int, metavar="K")
    parser.add_argument(
        "--train-images", type=int, metavar="N", help="default: as many as the counts need"
    )
    parser.add_argument(
        "--min-count", type=int, metavar="N", help="training images of the rarest class"
    )
    parser.add_argument(
        "--max-count",
        type=int,
        metavar="N",
        help="training images of the most frequent class; default: as many as fit into "
        "--train-images",
    )
    parser.add_argument(
        "--tail", choices=("exponential", "lvis"), help="form of the counts: lvis is LVIS v1's"
    )
    parser.add_argument(
        "--federated",
        action="store_true",
        default=None,
        help="annotate a part of the classes of each image, as LVIS does",
    )
    parser.add_argument(
        "--tail-exponent",
        type=float,
        metavar="X",
        help="exponent of the relative rank: 1 is an exponential tail, less falls sooner",
    )
    parser.add_argument(
        "--val-images", type=int, metavar="N", help="images of val and of heldout, each balanced"
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of the square images")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--instances-per-image", type=int, nargs=2, metavar=("LEAST", "MOST"), help="glyphs"
    )
    parser.add_argument(
        "--similar",
        action="store_true",
        default=None,
        help="pairs of look-alikes, one frequent and one rare",
    )
    parser.add_argument("--faces", choices=("bold", "all"), help="fonts to draw from")
    parser.add_argument("--workers", type=int, metavar="N", help="default: one for each core")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another glyph data set in --output"
    )


def run(args: argparse.Namespace) -> None:
    """Write the data set."""
    from balms_seg.glyphs.glyph_dataset import make_glyph_dataset

    logging.getLogger("balms_seg").setLevel(logging.INFO)
    make_glyph_dataset(
        args.output, build_config(args), workers=args.workers, overwrite=args.overwrite
    )


def build_config(arguments: argparse.Namespace) -> GlyphConfig:
    """The preset with the given arguments put in."""
    names = [field.name for field in dataclasses.fields(GlyphConfig)]
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if "instances_per_image" in given:
        given["instances_per_image"] = tuple(given["instances_per_image"])
    base = PRESETS[arguments.preset]
    return dataclasses.replace(base, **given)
