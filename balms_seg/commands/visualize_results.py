"""Draw detections beside the ground truth, one picture an image, rare classes first.

balms-seg visualize results output/demo --output pictures
balms-seg visualize results found.json --ground-truth val.json --images val --output pictures

The first argument is the output folder of a run, or a file in the LVIS or COCO results format.
Colours tell the frequency group: red rare, orange common, blue frequent, grey unknown.

Of an image classifier's run: a sheet for each of the worst classes, with the images that are most
wrong and those that it is least sure of.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, counted, plain_path

if TYPE_CHECKING:
    from balms_seg.report.run_files import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, and what to draw of it."""
    parser.add_argument("results", type=plain_path, help="output folder of a run, or a result file")
    parser.add_argument("--output", type=output_path, required=True, metavar="DIR")
    parser.add_argument(
        "--read-outside",
        action="store_true",
        help="also read the detections that the run names outside of its folder, and what links "
        "there lead to; for runs of your own, since a results.json may name any file",
    )
    parser.add_argument(
        "--ground-truth", type=plain_path, metavar="JSON", help="default: the run's"
    )
    parser.add_argument("--images", type=plain_path, metavar="DIR", help="default: the run's")
    parser.add_argument(
        "--num-images", type=int, default=50, help="or classes; default: %(default)s"
    )
    parser.add_argument(
        "--min-score", type=float, default=0.3, help="draw detections from it on; default: 0.3"
    )
    parser.add_argument(
        "--groups", action="store_true", help="write the frequency group into each label"
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and say where the pictures are."""
    from balms_seg.annotations import read_annotations
    from balms_seg.report.pictures import PictureSources, draw_each_image
    from balms_seg.report.run_files import (
        IMAGE_TASK,
        THRESHOLDS_FILE,
        groups_of,
        lowest_threshold,
        match_file_names_of,
        pixel_range_of,
        read_run,
    )

    of_run: dict[str, Any] = {}
    evaluated, lowest = None, None
    if args.results.is_dir():
        evaluated = read_run(args.results, outside=args.read_outside)
    if evaluated is not None and evaluated.main_task == IMAGE_TASK:
        draw_classified(evaluated, args.output, num_classes=args.num_images)
        return
    truth, images, detections = find_sources(args, evaluated)
    if evaluated is not None:
        lowest = lowest_threshold(evaluated)
        of_run = {
            "match_file_names": match_file_names_of(evaluated),
            "pixel_range": pixel_range_of(evaluated),
            # Which it knows from the training set.
            "class_frequency": groups_of(evaluated, list(read_annotations(truth).contiguous_ids)),
        }
    sources = PictureSources.read(
        truth,
        images,
        detections,
        num_images=args.num_images,
        min_score=args.min_score,
        **of_run,
    )
    written = draw_each_image(sources, args.output, with_group=args.groups)
    are = agreeing(len(written), "is", "are")
    print(f"{counted(len(written), 'picture')} {are} in {plain_path(args.output.absolute())}.")
    if lowest is not None and lowest < args.min_score:
        print(
            f"Drawn from score {args.min_score:g} on; the classes' thresholds in "
            f"{args.results / THRESHOLDS_FILE} begin at {lowest:.2g} "
            "(a lower --min-score draws more)."
        )


def draw_classified(run: Run, output_dir: Path, *, num_classes: int) -> None:
    """Draw the worst images of an image classifier's run, and say where the sheets are."""
    from balms_seg.engine.judged_images import draw_worst_images, image_addresses

    stored = run.tasks[run.main_task].predictions
    if stored is None:
        raise ValueError(" ".join(run.missing))
    addresses = image_addresses(run.config, run.dataset)
    written = draw_worst_images(stored, addresses, output_dir, num_classes=num_classes)
    sheets, are = counted(len(written), "sheet"), agreeing(len(written), "is", "are")
    print(f"{sheets}, worst class first, {are} in {plain_path(output_dir.absolute())}.")


def find_sources(args: argparse.Namespace, run: Run | None) -> tuple[Path, Path, Path]:
    """Ground truth, image folder and detections.

    Args:
        args: of the command line.
        run: what `results` is the output folder of; None where it is a file of detections.
    """
    from balms_seg.report.run_files import noted_annotations, registered_files

    detections, truth, images = args.results, args.ground_truth, args.images
    if run is not None:
        if run.detections is None:
            raise ValueError(" ".join(run.missing))
        detections = run.detections
        registered = registered_files(run) or (noted_annotations(run), None)
        truth, images = truth or registered[0], images or registered[1]
    if truth is None or images is None:
        unknown = {"annotations": truth, "images": images}
        what = " and ".join(name for name, path in unknown.items() if path is None)
        flags = ["--ground-truth JSON"] * (truth is None) + ["--images DIR"] * (images is None)
        raise ValueError(
            f"{args.results} does not say which {what} it is of; give {' and '.join(flags)}."
        )
    return truth, images, detections
