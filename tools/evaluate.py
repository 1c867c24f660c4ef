#!/usr/bin/env python3
"""Evaluates a result file in the LVIS or COCO format, without a model.

tools/evaluate.py results.json --dataset lvis_v1_val
tools/evaluate.py results.json --ground-truth val.json --training train.json --output evaluation
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.evaluation import evaluate_lvis, format_lvis_table, read_detections
from balms_seg.evaluation.evaluation_files import in_percent, write_evaluation
from balms_seg.evaluation.evaluation_set import EvaluationSet
from balms_seg.evaluation.training_counts import TrainingCounts


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="json list of detections")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="registered data set")
    source.add_argument("--ground-truth", type=Path, metavar="FILE", help="annotations")
    parser.add_argument(
        "--training",
        type=Path,
        metavar="FILE",
        help="training annotations: training images and instances of each class, and the frequency "
        "groups of classes whose group the ground truth does not say",
    )
    parser.add_argument(
        "--group-bounds",
        type=int,
        nargs=2,
        metavar=("RARE", "COMMON"),
        help="form the groups from the training images: rare up to RARE, common up to COMMON",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=("bbox", "segm"),
        help="default: those that the detections and the ground truth have shapes for",
    )
    parser.add_argument("--max-detections", type=int, default=300, help="an image; default 300")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write results.json and per_class_TASK.csv here"
    )
    return parser.parse_args(arguments)


def load_evaluation_set(arguments: argparse.Namespace) -> EvaluationSet:
    """The ground truth that the command line names."""
    training = TrainingCounts.from_json(arguments.training) if arguments.training else None
    bounds = tuple(arguments.group_bounds) if arguments.group_bounds else None
    if arguments.ground_truth is not None:
        return EvaluationSet.from_json(
            arguments.ground_truth, training=training, group_bounds=bounds
        )
    from balms_seg.data import get_metadata

    metadata = get_metadata(arguments.dataset)
    if training is None and metadata.get("class_image_count") is not None:
        training = TrainingCounts.from_entries(metadata.class_image_count)
    return EvaluationSet.from_json(
        metadata.json_file, name=arguments.dataset, training=training, group_bounds=bounds
    )


def run(arguments: argparse.Namespace) -> str:
    """Evaluate, write what was asked for, and return the table."""
    start = time.perf_counter()
    evaluation_set = load_evaluation_set(arguments)
    detections = read_detections(arguments.results)
    if not detections:
        logging.warning("%s holds no detections; every AP is 0.", arguments.results)
    tasks = arguments.tasks or evaluation_set.possible_tasks(detections)
    if not tasks:
        raise ValueError(
            f"Expected 'bbox' or 'segmentation' in every detection of {arguments.results}, but "
            "some lack both; name the task to see which."
        )
    results = {
        task: evaluate_lvis(
            evaluation_set.ground_truth, detections, task, max_detections=arguments.max_detections
        )
        for task in tasks
    }
    if arguments.output:
        write_evaluation(
            arguments.output,
            evaluation_set,
            results,
            time_seconds=time.perf_counter() - start,
            command=shlex.join(sys.argv),
            detections=str(arguments.results),
        )
    sizes = next(iter(results.values())).group_sizes
    return format_lvis_table(in_percent(results), sizes)


def main(arguments: list[str] | None = None) -> None:
    """Run, and tell what is wrong in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        print(run(parse_arguments(arguments)))
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")
    except KeyError as error:  # an unknown data set; str(error) would quote the message
        sys.exit(f"evaluate: {error.args[0]}")


if __name__ == "__main__":
    main()
