#!/usr/bin/env python3
"""Prints how often each class occurs in a training set, and draws it.

tools/class_statistics.py annotations.json --figure frequency.png
tools/class_statistics.py --dataset lvis_v1_train --csv classes.csv
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.class_statistics import (
    ClassStatistics,
    cached_statistics,
    cached_statistics_from_json,
)
from balms_seg.commands.command_line import errors_in_one_line
from balms_seg.report.class_table import format_class_statistics, write_class_csv
from balms_seg.report.figures import plot_class_frequency


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", nargs="?", type=Path, help="COCO- or LVIS-style annotations")
    parser.add_argument(
        "--dataset", nargs="+", metavar="NAME", help="registered sets, counted together"
    )
    parser.add_argument("--figure", type=Path, help="write the figure of image counts here")
    parser.add_argument("--csv", type=Path, help="write one line a class here")
    parser.add_argument("--list", type=int, default=5, help="classes to list at either end")
    arguments = parser.parse_args()
    if (arguments.json is None) == (arguments.dataset is None):
        parser.error("give either a json or --dataset NAME ...")
    return arguments


def registered_statistics(names: list[str]) -> ClassStatistics:
    """Statistics of registered sets, one after the other."""
    from balms_seg.data import get_metadata, load_dataset_dicts

    dicts = [record for name in names for record in load_dataset_dicts(name)]
    metadata = [get_metadata(name) for name in names]
    classes = list(metadata[0].thing_classes)
    for name, other in zip(names, metadata, strict=True):
        if list(other.thing_classes) != classes:
            raise ValueError(f"{name} and {names[0]} have different classes; count them apart.")
    frequency = metadata[0].get("class_frequency")
    return cached_statistics(dicts, len(classes), class_names=classes, frequency=frequency)


def main() -> None:
    """Count, print, and write what was asked for."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with errors_in_one_line("class_statistics"):
        if arguments.json is not None:
            statistics = cached_statistics_from_json(arguments.json)
        else:
            statistics = registered_statistics(arguments.dataset)
    print(format_class_statistics(statistics, num_listed=arguments.list))
    if arguments.csv:
        write_class_csv(statistics, arguments.csv)
    if arguments.figure:
        plot_class_frequency(statistics.to_dict(), arguments.figure)


if __name__ == "__main__":
    main()
