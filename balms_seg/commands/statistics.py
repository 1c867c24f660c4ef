"""Print how often each class occurs in a training set, and draw it.

balms-seg statistics annotations.json --figure frequency.png
balms-seg statistics images.zip --root train     # class folders, a zip of such, or a list
balms-seg statistics --dataset lvis_v1_train --csv classes.csv
balms-seg statistics --config-file output/photos/config.yaml    # what a run was trained on

Groups of your own images are those that configs/custom/image_classifier.yaml trains with: about a
third of the classes each. A configuration may say others; else sets have the published ones.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from balms_seg.class_statistics import ClassStatistics

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Annotations or registered sets, and what to write."""
    parser.add_argument(
        "source",
        nargs="?",
        help="COCO- or LVIS-style annotations (.json); or a folder or zip of class folders, or a "
        "list of images",
    )
    parser.add_argument(
        "--root",
        default="",
        help="the folder of the class folders in the source, or of a list's images",
    )
    parser.add_argument(
        "--dataset", nargs="+", metavar="NAME", help="registered sets, counted together"
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="configuration that registers the sets, with bounds of the groups; without --dataset "
        "its DATASETS.TRAIN is counted",
    )
    parser.add_argument(
        "--group-bounds",
        nargs=2,
        type=int,
        metavar=("RARE", "COMMON"),
        help="largest numbers of training images in the first and in the second group",
    )
    parser.add_argument(
        "--trust-annotations",
        action="store_true",
        help="count annotations that look as if they meant something else, as corners for sizes",
    )
    parser.add_argument("--figure", type=output_path, help="write the figure of image counts here")
    parser.add_argument("--csv", type=output_path, help="write one line a class here")
    parser.add_argument("--list", type=int, default=5, help="classes to list at either end")


def run(args: argparse.Namespace) -> None:
    """Count, print, and write what was asked for."""
    from balms_seg.annotations import read_annotations
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.class_statistics.frequency_groups import group_by_bounds, third_bounds
    from balms_seg.report.class_table import format_class_statistics, write_class_csv

    if (args.source is None) == (args.dataset is None and args.config_file is None):
        raise ValueError(
            "Expected either a json, folder, zip or list, or --dataset NAME ... or --config-file."
        )
    ids: Sequence[int] | None = None
    num_images = 0
    bounds = tuple(args.group_bounds) if args.group_bounds else None
    if args.source is not None and args.source.lower().endswith(".json"):
        annotations = read_annotations(args.source)
        statistics = ClassStatistics.from_json(
            annotations, trust_annotations=args.trust_annotations
        )
        ids = [category["id"] for category in annotations.facts.categories]
        num_images = len(annotations.image_table)
    elif args.source is not None:
        statistics = image_statistics(args.source, args.root)
        bounds = bounds or third_bounds(statistics.image_counts)
    else:
        names, of_config, pixel_range = registered_names(args.dataset, args.config_file)
        statistics, ids, num_images = registered_statistics(names, pixel_range=pixel_range)
        bounds = bounds or of_config
    if bounds:
        group_ids = group_by_bounds(statistics.image_counts, bounds)
        statistics = replace(statistics, group_ids=group_ids)
    print(format_class_statistics(statistics, num_listed=args.list, group_bounds=bounds))
    if args.csv is None and (statistics.image_counts > 0).sum() > 2 * args.list:
        print(f"\nall {statistics.num_classes} classes: --csv FILE, or --list with a larger number")
    empty = num_images - statistics.num_images
    if empty > 0:
        print(
            f"\n{empty} of {counted(num_images, 'image')} {agreeing(empty, 'has', 'have')} no "
            "object that counts; training leaves such out, unless "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS is False"
        )
    if args.csv:
        write_class_csv(statistics, args.csv, category_ids=ids)
    if args.figure:
        from balms_seg.report.figures import class_frequency, save_figure

        save_figure(class_frequency(statistics.to_dict()), args.figure)


def registered_names(
    dataset: Sequence[str] | None, config_file: str | None
) -> tuple[Sequence[str], tuple[int, ...] | None, tuple[float, ...]]:
    """The sets to count, bounds of groups where a configuration has some, and its PIXEL_RANGE."""
    if config_file is None:
        return dataset or (), None, ()
    from balms_seg.data import register_from_config
    from balms_seg.engine import load_config

    cfg = load_config(config_file)
    register_from_config(cfg)
    names = dataset or cfg.DATASETS.TRAIN
    if not names:
        raise ValueError(f"{config_file} names no DATASETS.TRAIN; give --dataset NAME.")
    bounds = tuple(cfg.TEST.LONG_TAILED.GROUP_BOUNDS) or None
    return names, bounds, tuple(cfg.INPUT.PIXEL_RANGE)


def image_statistics(source: str, root: str) -> ClassStatistics:
    """Statistics of class folders, a zip or a list."""
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.data.images.image_lists import read_image_records

    found = read_image_records(source, root)
    for note in found.notes:
        logger.warning(note)
    warn_of_images(found.records, found.class_names, name=source)
    labels = [record["label"] for record in found.records]
    return ClassStatistics.from_labels(
        labels, len(found.class_names), class_names=found.class_names
    )


def warn_of_images(
    records: Sequence[dict[str, Any]],
    class_names: Sequence[str],
    *,
    name: str,
    pixel_range: Sequence[float] = (),
) -> None:
    """Name the images that are missing or cannot be read, and those that are there twice."""
    from balms_seg.data.images.feature_files import holds_features
    from balms_seg.data.preflight.header_checks import image_problems
    from balms_seg.data.preflight.image_set_checks import look_up

    if holds_features(records):
        return
    present, missing = look_up(records, class_names, name=name)
    problems = [missing] if missing else []
    problems += image_problems(present, name=name, pixel_range=pixel_range)
    for problem in problems:
        logger.warning("Data set %r: %s", name, problem)


def registered_statistics(
    names: Sequence[str], *, pixel_range: Sequence[float] = ()
) -> tuple[ClassStatistics, Sequence[int] | None, int]:
    """Statistics of registered sets, one after the other; those of images match by name.

    Args:
        names: of the sets.
        pixel_range: INPUT.PIXEL_RANGE, for warnings of images that use little of it.

    Returns:
        The statistics, the annotations' category ids (None for whole images), and how many images
        there are, with and without annotations.
    """
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.data import get_metadata, join_dicts, load_dataset_dicts
    from balms_seg.data.images.labelled_images import load_image_dicts
    from balms_seg.data.training_set import are_labelled

    loaded = [load_dataset_dicts(name) for name in names]
    metadata = [get_metadata(name) for name in names]
    classes = list(metadata[0].thing_classes)
    if all(are_labelled(records) for records in loaded):
        for name, records, own in zip(names, loaded, metadata, strict=True):
            warn_of_images(records, own.thing_classes, name=name, pixel_range=pixel_range)
        images = load_image_dicts(
            names, classes, load=dict(zip(names, loaded, strict=True)).__getitem__
        )
        of_images = ClassStatistics.from_dataset_dicts(images, len(classes), class_names=classes)
        return of_images, None, len(images)
    dicts = join_dicts(loaded)
    for name, other in zip(names, metadata, strict=True):
        if list(other.thing_classes) != classes:
            raise ValueError(f"{name} and {names[0]} have different classes; count them apart.")
    frequency = metadata[0].get("class_frequency")
    ids = metadata[0].get("thing_dataset_id_to_contiguous_id")
    statistics = ClassStatistics.from_dataset_dicts(
        dicts, len(classes), class_names=classes, frequency=frequency
    )
    sorted_ids = None if ids is None else sorted(ids, key=ids.__getitem__)
    return statistics, sorted_ids, len(dicts)
