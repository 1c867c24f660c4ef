"""Hold out a part of a set of images, class by class, as lists for training and for later choices.

balms-seg split photos --held-out 0.1 --output lists        # class folders, or a zip of such
balms-seg split all.txt --root photos --held-out 0.1 --output lists

Every class with two images or more is on both sides. Nothing is copied: the lists name the images
below the source. The same seed gives the same split.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A set of images, the share to hold out, and where to write."""
    parser.add_argument("source", help="folder or zip of class folders, or a list file")
    parser.add_argument(
        "--root",
        default="",
        help="the folder of the class folders in the source, or of a list's images",
    )
    parser.add_argument("--held-out", type=float, required=True, metavar="SHARE", help="0 to 1")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Split, write both lists, and say how to use them."""
    from balms_seg.data.images.image_lists import has_class_folders, read_image_records
    from balms_seg.data.images.image_split import split_images
    from balms_seg.data.images.subset_files import format_list

    source = str(Path(args.source).expanduser().absolute())
    is_list = not has_class_folders(source)
    root = str(Path(args.root).expanduser().absolute()) if is_list and args.root else args.root
    whole = read_image_records(source, root)
    parts = split_images(whole, args.held_out, seed=args.seed)
    below = (root or str(Path(source).parent)) if is_list else source
    args.output.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, part in zip(("train", "held_out"), parts, strict=True):
        path = args.output / f"{name}.txt"
        made = f"{name} of {args.source}, {args.held_out:g} held out, seed {args.seed}"
        path.write_text(format_list(part, [made]), encoding="utf-8")
        num_classes = len({record["label"] for record in part.records})
        print(f"{path}: {len(part.records)} images of {num_classes} classes")
        entries.append([name, str(path.absolute()), below])
    print(f"DATASETS.REGISTER_IMAGES {str(entries)!r}")
