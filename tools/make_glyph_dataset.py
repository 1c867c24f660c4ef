"""Write the glyph toy data set: python tools/make_glyph_dataset.py --output datasets/glyphs."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys

from balms_seg.glyphs.glyph_dataset import PRESETS, GlyphConfig, make_glyph_dataset


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line arguments; those not given are None and keep the preset's value."""
    parser = argparse.ArgumentParser(
        description="Write a long-tailed instance segmentation data set of letters and signs, "
        "with LVIS annotations: train/, val/, heldout/ and a json file for each.",
    )
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
    return parser.parse_args(argv)


def build_config(arguments: argparse.Namespace) -> GlyphConfig:
    """The preset with the given arguments put in."""
    names = [field.name for field in dataclasses.fields(GlyphConfig)]
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if "instances_per_image" in given:
        given["instances_per_image"] = tuple(given["instances_per_image"])
    base = PRESETS[arguments.preset]
    return dataclasses.replace(base, **given)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        make_glyph_dataset(
            arguments.output,
            build_config(arguments),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
