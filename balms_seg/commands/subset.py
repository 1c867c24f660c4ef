"""Write lists of long-tailed subsets, and with --pack a zip of only the images they use.

balms-seg subset datasets/cifar10-jpeg.zip --root train --rho 200 100 10 --output lists
balms-seg subset datasets/cifar10-jpeg.zip --root train --rho 200 100 10 \
    --pack pack/cifar10-jpeg.zip --whole test

Subsets of one seed are nested, and a pack that lies under the archive's name in another
DETECTRON2_DATASETS gives the same subsets as the archive.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.outputs import output_path
from balms_seg.data.images.long_tailed_subsets import SUBSET_KINDS
from balms_seg.wording import counted

if TYPE_CHECKING:
    from balms_seg.data.images.image_records import ImageRecords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A set of images, the subsets, and what to write."""
    parser.add_argument(
        "source", help="zip or folder of class folders, torchvision's CIFAR folder, or a list file"
    )
    parser.add_argument(
        "--root",
        default="train",
        help="folder of the class folders in it, or of a list file's images; default: %(default)s",
    )
    parser.add_argument("--rho", type=float, nargs="+", default=[200, 100, 10], metavar="X")
    parser.add_argument("--kind", choices=SUBSET_KINDS, default="exponential")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--largest", type=int, metavar="N", help="default: all of the first class")
    parser.add_argument(
        "--output", type=output_path, metavar="DIR", help="write a list for each rho here"
    )
    parser.add_argument(
        "--pack", type=output_path, metavar="ZIP", help="write the images used here"
    )
    parser.add_argument(
        "--whole", nargs="*", default=[], metavar="ROOT", help="to pack in full, such as test"
    )


def run(args: argparse.Namespace) -> None:
    """Read, draw, write."""
    from balms_seg.data.images.image_lists import read_image_records
    from balms_seg.data.images.subset_files import build_subset, format_list, write_pack

    if args.output is None and args.pack is None:
        raise ValueError("Expected --output DIR, --pack ZIP, or both.")
    whole = read_image_records(args.source, args.root)
    lists, used = {}, []
    for rho in args.rho:
        subset = build_subset(whole, rho=rho, kind=args.kind, seed=args.seed, largest=args.largest)
        name = f"{args.kind}_rho{rho:g}_seed{args.seed}.txt"
        made = f"{args.kind} subset of {Path(args.source).name}, rho {rho:g}, seed {args.seed}"
        lists[name] = format_list(subset, [made, describe(subset)])
        used += subset.records
        print(f"{name}: {describe(subset)}")
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, text in lists.items():
            (args.output / name).write_text(text, encoding="utf-8")
    if args.pack is not None:
        for root in args.whole:
            used += read_image_records(args.source, root).records
        number = write_pack(args.pack, used, {f"lists/{n}": t for n, t in lists.items()})
        print(
            f"{args.pack}: {counted(number, 'image')}, {args.pack.stat().st_size / 2**20:.1f} MiB"
        )


def describe(subset: ImageRecords) -> str:
    """How many images of each class."""
    counts = Counter(record["label"] for record in subset.records)
    shown = [str(counts[label]) for label in range(len(subset.class_names))]
    if len(shown) > 12:
        shown = [*shown[:6], "...", *shown[-3:]]
    return f"{counted(len(subset.records), 'image')}: {' '.join(shown)}"
