"""Evaluate a result file in the LVIS or COCO format, without a model.

balms-seg evaluate results.json --dataset lvis_v1_val
balms-seg evaluate results.json --ground-truth val.json --training train.json --output evaluation
balms-seg evaluate results.json --dataset lvis_v1_val --tasks bbox segm boundary --fixed
"""

from __future__ import annotations

import argparse
import logging
import shlex
from typing import TYPE_CHECKING

from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS
from balms_seg.evaluation.lvis.lvis_ap import BACKENDS
from balms_seg.wording import plain_path

if TYPE_CHECKING:
    from balms_seg.evaluation.lvis.evaluation_set import EvaluationSet

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Result file, ground truth and what to compute."""
    parser.add_argument("results", type=plain_path, help="json list of detections")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--dataset",
        metavar="NAME",
        help="registered data set; loads detectron2, which takes seconds",
    )
    source.add_argument("--ground-truth", type=plain_path, metavar="FILE", help="annotations")
    parser.add_argument(
        "--training",
        type=plain_path,
        metavar="FILE",
        help="training annotations: training images and instances of each class, and the frequency "
        "groups of classes whose group the ground truth does not say",
    )
    parser.add_argument(
        "--trust-annotations",
        action="store_true",
        help="take annotations that look as if they meant something else, as corners for sizes",
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
    parser.add_argument(
        "--max-detections",
        type=int,
        default=LVIS_MAX_DETECTIONS,
        help="an image; default: %(default)s",
    )
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
        "--intervals",
        action="store_true",
        help="95%% intervals of AP and the groups: what other sets of so many images would give",
    )
    parser.add_argument(
        "--output",
        type=plain_path,
        metavar="DIR",
        help="write results.json here, and per task results per class, calibration of the scores "
        "and the matches that balms-seg compare reads; another evaluation that is there moves to "
        "earlier_evaluation_N in it",
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate, write what was asked for, and print the tables."""
    from balms_seg.evaluation.evaluate_file import evaluate_file

    text = evaluate_file(
        args.results,
        load_evaluation_set(args),
        tasks=args.tasks,
        max_detections=args.max_detections,
        fixed=args.fixed,
        backend=args.backend,
        error_kinds=not args.no_error_kinds,
        with_intervals=args.intervals,
        output=args.output,
        training_json=args.training,
    )
    print(text)
    if args.output:
        report = ["balms-seg", "report", str(args.output), "--read-outside"]
        print(
            f"Written to {args.output}, a folder for balms-seg compare, thresholds and report, "
            f"with pictures and labels: {shlex.join(report)} --images FOLDER"
        )
    else:
        print("--output DIR would keep this for balms-seg compare, thresholds and report.")


def load_evaluation_set(args: argparse.Namespace) -> EvaluationSet:
    """The ground truth that the command line names."""
    from balms_seg.evaluation.lvis.category_counts import TrainingCounts
    from balms_seg.evaluation.lvis.evaluation_set import EvaluationSet

    training = None
    if args.training:
        training = TrainingCounts.from_json(args.training, trust_annotations=args.trust_annotations)
    bounds = tuple(args.group_bounds) if args.group_bounds else None
    if args.ground_truth is not None:
        return EvaluationSet.from_json(
            args.ground_truth,
            training=training,
            group_bounds=bounds,
            trust_annotations=args.trust_annotations,
        )
    from balms_seg.data import get_metadata
    from balms_seg.data.instances.builtin import describe_other_size, naming_downloads

    metadata = get_metadata(args.dataset)
    if training is None and metadata.get("class_image_count") is not None:
        training = TrainingCounts.from_entries(metadata.class_image_count)
    with naming_downloads(args.dataset):
        evaluated = EvaluationSet.from_json(
            metadata.json_file,
            name=args.dataset,
            training=training,
            group_bounds=bounds,
            image_root=metadata.get("image_root"),
            match_file_names=metadata.get("match_file_names", "exact"),
            trust_annotations=args.trust_annotations or metadata.get("trust_annotations", False),
        )
    other_size = describe_other_size(args.dataset, len(evaluated.ground_truth.image_ids))
    if other_size:
        logger.warning(other_size)
    return evaluated
