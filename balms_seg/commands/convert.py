"""Write the labels of a YOLO folder as COCO annotations, one json a split.

balms-seg convert yolo_folder --output annotations     # yolo_folder/data.yaml names the splits

Outlines keep their points. Where some objects have none, MODEL.MASK_ON False trains on the boxes.
No image is copied: the line that is printed registers the sets where they lie. Images and labels
that are links out of the folder are read with --read-outside.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, counted, plain_path

if TYPE_CHECKING:
    from balms_seg.annotations.yolo_labels import YoloFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A folder, and where to write."""
    parser.add_argument(
        "source", type=plain_path, metavar="FOLDER", help="with data.yaml, or that file"
    )
    parser.add_argument(
        "--read-outside",
        action="store_true",
        help="also read images and labels outside of FOLDER, and follow links that lead there; for "
        "folders of your own, since a list or a link may name any file",
    )
    parser.add_argument("--output", type=output_path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> None:
    """Convert each split, and say how to use them."""
    from balms_seg.annotations.yolo_labels import label_file, read_yolo_folder, to_coco

    folder = read_yolo_folder(args.source)
    args.output.mkdir(parents=True, exist_ok=True)
    sets: list[list[str]] = []
    without: list[Path] = []  # files of labels, once an object
    for split in folder.images:
        content = to_coco(folder, split, outside=args.read_outside)
        path = args.output / f"{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        with_masks = sum("segmentation" in entry for entry in content["annotations"])
        print(
            f"{path}: {counted(len(content['images']), 'image')}, "
            f"{counted(len(content['annotations']), 'object')}, {with_masks} of them with an "
            "outline"
        )
        labelled = {entry["image_id"] for entry in content["annotations"]}
        bare = [image for i, image in enumerate(folder.images[split], 1) if i not in labelled]
        for line in _without_objects(bare):
            print(line)
        without += [
            label_file(folder.images[split][entry["image_id"] - 1])
            for entry in content["annotations"]
            if "segmentation" not in entry
        ]
        sets.append([f"my_{split}", str(plain_path(path.absolute())), str(folder.root)])
    for line in _oddities(folder):
        print(line)
    keys = [f"MODEL.ROI_HEADS.NUM_CLASSES {len(folder.names)}"]
    if without:
        print(
            f"{counted(len(without), 'object')} {agreeing(len(without), 'has', 'have')} no "
            f"outline, such as one in {without[0]}, so that boxes alone can be trained on; for "
            "masks give each an outline, or take it out."
        )
        keys.append("MODEL.MASK_ON False")
    if "train" in folder.images:
        keys.append("DATASETS.TRAIN \"('my_train',)\"")
    others = [f"my_{split}" for split in folder.images if split != "train"][:1]
    if others:
        keys.append(f"DATASETS.TEST \"('{others[0]}',)\"")
    print("To train on them:", *keys, f"DATASETS.REGISTER {str(sets)!r}")


def _without_objects(images: Sequence[Path]) -> Iterator[str]:
    """A line on images whose file of labels is empty, and one on those that have none."""
    from balms_seg.annotations.yolo_labels import label_file

    missing = [image for image in images if not label_file(image).is_file()]
    empty = [image for image in images if label_file(image).is_file()]
    if empty:
        yield (
            f"{len(empty)} of these images {agreeing(len(empty), 'shows', 'show')} no object: "
            f"{agreeing(len(empty), 'its file', 'their files')} of labels "
            f"{agreeing(len(empty), 'is', 'are')} empty, such as {label_file(empty[0])}"
        )
    if missing:
        yield (
            f"{len(missing)} of these images {agreeing(len(missing), 'has', 'have')} no file of "
            f"labels, such as {missing[0]}, of which {label_file(missing[0])} would be the file; "
            f"{agreeing(len(missing), 'it counts', 'they count')} as showing no object"
        )


def _oddities(folder: YoloFolder) -> Iterator[str]:
    """A line on images that are tested on and trained on, and one on labels of no image."""
    from balms_seg.annotations.shared_files import describe_shared, files_of_both, real_files
    from balms_seg.annotations.yolo_labels import labels_without_image

    files = {split: real_files(map(str, images)) for split, images in folder.images.items()}
    trained_on = files.pop("train", set())
    for split, own in files.items():
        if shared := files_of_both(own, trained_on):
            yield describe_shared(len(shared), len(own), f"my_{split}", ["my_train"])
    alone = labels_without_image(folder)
    if alone:
        yield (
            f"{counted(len(alone), 'label file')} {agreeing(len(alone), 'belongs', 'belong')} to "
            f"no image, such as {alone[0]}."
        )
