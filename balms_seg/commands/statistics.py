"""Print how often each class occurs in a training set, and draw it.

balms-seg statistics annotations.json --figure frequency.png
balms-seg statistics --dataset lvis_v1_train --csv classes.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Annotations or registered sets, and what to write."""
    parser.add_argument("json", nargs="?", type=Path, help="COCO- or LVIS-style annotations")
    parser.add_argument(
        "--dataset", nargs="+", metavar="NAME", help="registered sets, counted together"
    )
    parser.add_argument("--figure", type=Path, help="write the figure of image counts here")
    parser.add_argument("--csv", type=Path, help="write one line a class here")
    parser.add_argument("--list", type=int, default=5, help="classes to list at either end")


def run(args: argparse.Namespace) -> None:
    """Count, print, and write what was asked for."""
    from balms_seg.class_statistics import cached_statistics_from_json
    from balms_seg.report.class_table import format_class_statistics, write_class_csv

    if (args.json is None) == (args.dataset is None):
        raise ValueError("Expected either a json or --dataset NAME ...")
    if args.json is not None:
        statistics = cached_statistics_from_json(args.json)
    else:
        statistics = registered_statistics(args.dataset)
    print(format_class_statistics(statistics, num_listed=args.list))
    if args.csv:
        write_class_csv(statistics, args.csv)
    if args.figure:
        from balms_seg.report.figures import plot_class_frequency

        plot_class_frequency(statistics.to_dict(), args.figure)


def registered_statistics(names: list[str]) -> ClassStatistics:
    """Statistics of registered sets, one after the other."""
    from balms_seg.class_statistics import cached_statistics
    from balms_seg.data import get_metadata, load_dataset_dicts

    dicts = [record for name in names for record in load_dataset_dicts(name)]
    metadata = [get_metadata(name) for name in names]
    classes = list(metadata[0].thing_classes)
    for name, other in zip(names, metadata, strict=True):
        if list(other.thing_classes) != classes:
            raise ValueError(f"{name} and {names[0]} have different classes; count them apart.")
    frequency = metadata[0].get("class_frequency")
    return cached_statistics(dicts, len(classes), class_names=classes, frequency=frequency)
