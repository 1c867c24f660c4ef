#!/usr/bin/env python3
"""Evaluates a result file in the LVIS or COCO format, without a model.

tools/evaluate.py results.json --dataset lvis_v1_val
tools/evaluate.py results.json --ground-truth val.json --training train.json --output evaluation
tools/evaluate.py results.json --dataset lvis_v1_val --tasks bbox segm boundary --fixed
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.commands.command_line import errors_in_one_line
from balms_seg.evaluation import format_lvis_table, write_results
from balms_seg.evaluation.lvis.analysis import TaskAnalysis, analyse_task
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.evaluation_set import EvaluationSet
from balms_seg.evaluation.lvis.lvis_ap import BACKENDS
from balms_seg.evaluation.lvis.pooled_ap import FIXED_PER_CLASS, fixed_and_pooled_ap
from balms_seg.evaluation.output.evaluation_files import write_task_files
from balms_seg.evaluation.output.result_table import format_intervals, format_percent
from balms_seg.evaluation.predictions.stored_detections import read_stored_detections
from balms_seg.evaluation.uncertainty.bootstrap import bootstrap_intervals


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
        choices=("bbox", "segm", "boundary"),
        help="default: boxes and masks, where detections and ground truth have both; boundary is "
        "boundary AP of masks and takes longer",
    )
    parser.add_argument("--max-detections", type=int, default=300, help="an image; default 300")
    parser.add_argument(
        "--fixed",
        action="store_true",
        help="also AP-fixed and AP-pool: the 10,000 best detections of each class, however many in "
        "an image",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="numpy",
        help="of AP and AR: numpy is ours, lvis is lvis-api, slow, with the same numbers",
    )
    parser.add_argument(
        "--no-error-kinds",
        action="store_true",
        help="leave out false positives by kind and the class most confused with",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=0,
        metavar="N",
        help="95%% intervals of AP and the groups from N resamples of the images, such as 1000",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write results.json here, and per task results per class, calibration of the scores "
        "and the matches that tools/compare.py reads",
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
    """Evaluate, write what was asked for, and return what to print."""
    start = time.perf_counter()
    evaluation_set = load_evaluation_set(arguments)
    ground_truth = evaluation_set.ground_truth
    wanted = set(arguments.tasks or ("bbox", "segm"))
    stored = read_stored_detections(
        arguments.results,
        ground_truth,
        max_detections=arguments.max_detections,
        max_per_class=FIXED_PER_CLASS if arguments.fixed else None,
        with_masks=bool(wanted - {"bbox"}) and all(ground_truth.segmentations),
    )
    if not stored.number:
        logging.warning("%s holds no detections; every AP is 0.", arguments.results)
    tasks = arguments.tasks or evaluation_set.possible_tasks(stored.shape_keys)
    if not tasks:
        raise ValueError(
            f"Expected 'bbox' or 'segmentation' in every detection of {arguments.results}, but "
            "some lack both; name the task to see which."
        )
    metrics, intervals = {}, {}
    for task in tasks:
        analysis = analyse_task(
            ground_truth,
            stored.capped,
            task,
            max_detections=None,  # the reader has kept to it
            with_errors=not arguments.no_error_kinds,
            backend=arguments.backend,
        )
        found = dict(analysis.result.metrics)
        if arguments.fixed:
            found |= fixed_and_pooled_ap(ground_truth, stored.best_of_classes, task)
        metrics[task] = {name: 100 * value for name, value in found.items()}
        if arguments.resamples:
            resampled = bootstrap_intervals(analysis.matches, num_resamples=arguments.resamples)
            intervals[task] = {
                name: [100 * end for end in ends] for name, ends in resampled.items()
            }
        if arguments.output:
            write_files(arguments.output, task, analysis, evaluation_set)
    sizes = analysis.result.group_sizes
    if arguments.output:
        write_results(
            arguments.output / "results.json",
            metrics={evaluation_set.name: metrics},
            group_sizes={evaluation_set.name: sizes},
            intervals={evaluation_set.name: intervals} if intervals else None,
            time_seconds=time.perf_counter() - start,
            command=shlex.join(sys.argv),
            detections=str(arguments.results),
        )
    lines = [format_lvis_table(metrics, sizes)]
    for task in tasks:
        extra = [name for name in metrics[task] if name.endswith(("_fixed", "_pool"))]
        if extra:
            shown = ", ".join(f"{name} {format_percent(metrics[task][name])}" for name in extra)
            lines.append(f"{task}: {shown}")
    lines += [f"{task}: {format_intervals(ends)}" for task, ends in intervals.items()]
    return "\n".join(lines)


def write_files(
    folder: Path, task: str, analysis: TaskAnalysis, evaluation_set: EvaluationSet
) -> None:
    """Files of one task; classes are numbered by ascending category id."""
    ids = evaluation_set.ground_truth.category_ids
    write_task_files(
        folder,
        task,
        analysis,
        class_ids={category_id: number for number, category_id in enumerate(ids)},
        training=evaluation_set.training,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run, and tell what is wrong in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with errors_in_one_line("evaluate"):
        print(run(parse_arguments(arguments)))


if __name__ == "__main__":
    main()
