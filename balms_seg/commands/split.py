"""Hold out a part of a set, so that rare classes are on both sides, for calibration and choices.

balms-seg split train.json --held-out 0.1 --output parts    # COCO- or LVIS-style annotations
balms-seg split photos --held-out 0.1 --output lists        # class folders, or a zip of such
balms-seg split all.txt --root photos --held-out 0.1 --output lists

A class with two images or more is on both sides; of annotations, which go image by image, as far
as they allow, and the classes that could not be are named. Where many classes have few images, more
than the share is held out, which is said. No image is copied: json files and lists
name those of the source. The same seed gives the same split. Split before you train.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, counted, plain_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A set of images, the share to hold out, and where to write."""
    parser.add_argument(
        "source", help="annotations (.json), folder or zip of class folders, or a list"
    )
    parser.add_argument(
        "--root",
        default="",
        help="the folder of the class folders in the source, or of a list's images",
    )
    parser.add_argument("--held-out", type=float, required=True, metavar="SHARE", help="0 to 1")
    parser.add_argument("--output", type=output_path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Split, write both parts, and say how to use them."""
    if args.source.lower().endswith(".json"):
        split_annotations(Path(args.source), args.held_out, args.output, seed=args.seed)
        return
    from balms_seg.data.images.image_files import is_feature_file
    from balms_seg.data.images.image_lists import has_class_folders, read_image_records
    from balms_seg.data.images.image_split import split_images
    from balms_seg.data.images.subset_files import format_list

    source = str(Path(args.source).expanduser().absolute())
    is_list = not (has_class_folders(source) or is_feature_file(source))
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
        print(f"{path}: {counted(len(part.records), 'image')} of {counted(num_classes, 'class')}")
        entries.append([f"my_{name}", str(plain_path(path.absolute())), below])
    images_of_class = Counter(record["label"] for record in whole.records)
    tell_greater_share(
        args.held_out, len(parts[1].records), len(whole.records), images_of_class.values()
    )
    print(f"DATASETS.REGISTER_IMAGES {in_shell(str(entries))}")


def in_shell(text: str) -> str:
    """A text as one word of a command line, in double quotes where these will do."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def tell_greater_share(
    share: float, num_held: int, num_images: int, images_of_class: Iterable[int]
) -> None:
    """Say why more is held out than was asked for, if it is a twentieth of the set or more."""
    if num_held < (share + 0.05) * num_images:
        return
    rare = sum(count >= 2 and share * count < 0.5 for count in images_of_class)
    print(
        f"{num_held} of {num_images} images {agreeing(num_held, 'is', 'are')} held out, "
        f"{num_held / num_images:.0%} instead of {share:.0%}: {counted(rare, 'class')} "
        f"{agreeing(rare, 'is', 'are')} in so few images that {share:.0%} of them are less than "
        "half an image, and each has one held out, so that it can be judged. With fewer classes, "
        "or more images of the rare ones, the share comes closer to what was asked for."
    )


def split_annotations(source: Path, share: float, output: Path, *, seed: int) -> None:
    """Write train.json and held_out.json, and name the classes that are on one side alone."""
    import numpy as np

    from balms_seg.annotations import read_annotations
    from balms_seg.annotations.json_file import read_json
    from balms_seg.data.instances.instance_split import draw_held_out, part_of

    annotations = read_annotations(source)
    is_held = draw_held_out(annotations, share, seed=seed)
    content = read_json(source)
    output.mkdir(parents=True, exist_ok=True)
    for name, is_kept in (("train", ~is_held), ("held_out", is_held)):
        path = output / f"{name}.json"
        path.write_text(json.dumps(part_of(content, annotations, is_kept)), encoding="utf-8")
        is_own = is_kept[annotations.images]
        present = np.unique(annotations.classes[is_own])
        num_empty = int(is_kept.sum()) - len(np.unique(annotations.images[is_own]))
        bare = f", {num_empty} of them without an annotation" if num_empty else ""
        print(
            f"{path}: {counted(is_kept.sum(), 'image')} of {len(present)} of "
            f"{counted(len(annotations.class_names), 'class')}{bare}"
        )
    images_of_class = np.bincount(
        np.unique(np.stack([annotations.classes, annotations.images]), axis=1)[0]
    )
    tell_greater_share(share, int(is_held.sum()), len(is_held), images_of_class)
    held = np.unique(annotations.classes[is_held[annotations.images]])
    absent = np.setdiff1d(np.unique(annotations.classes), held)
    if absent.size:
        names = ", ".join(annotations.class_names[c] for c in absent)
        print(f"In no held-out image ({counted(len(absent), 'class')}): {names}")
    print(
        "DATASETS.REGISTER \"[['my_train','"
        f"{output / 'train.json'}','IMAGES'],['my_held_out','{output / 'held_out.json'}',"
        f"'IMAGES']]\"  # IMAGES: the folder that {annotations.image_table.paths[0]} is in"
    )
