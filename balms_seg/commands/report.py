"""Write one HTML page about a run, or about several side by side; it needs no network.

balms-seg report output/demo --read-outside
balms-seg report output/softmax output/balanced_softmax --output comparison.html
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.outputs import output_path, warn_of_replacing
from balms_seg.wording import plain_path

if TYPE_CHECKING:
    from balms_seg.report.run_files import Run

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and where their data lie."""
    parser.add_argument(
        "runs", nargs="+", type=plain_path, metavar="OUTPUT_DIR", help="with results.json"
    )
    parser.add_argument(
        "--output",
        type=output_path,
        metavar="HTML",
        help="default: report.html in the first OUTPUT_DIR",
    )
    parser.add_argument("--dataset", help="default: the first one evaluated on")
    parser.add_argument(
        "--ground-truth",
        type=plain_path,
        metavar="JSON",
        help="annotations; default: those of a set that detectron2 or this package knows, or with "
        "--read-outside those that the run's configuration or results.json names",
    )
    parser.add_argument(
        "--images", type=plain_path, metavar="DIR", help="images; default: likewise"
    )
    parser.add_argument(
        "--read-outside",
        action="store_true",
        help="also read the annotations, images and detections that the runs name outside of their "
        "folders, and what links there lead to; for runs of your own, since a results.json may "
        "name any file",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="for intervals; default: %(default)s, 0: none"
    )


def run(args: argparse.Namespace) -> None:
    """Read the runs, write the page, and print its address."""
    from balms_seg.evaluation.predictions.run_folder import odd_files_explained
    from balms_seg.report.page import write_report
    from balms_seg.report.run_files import names_of, read_run

    with odd_files_explained(*args.runs):
        runs = [
            read_run(folder, name=name, dataset=args.dataset, outside=args.read_outside)
            for folder, name in zip(args.runs, names_of(args.runs), strict=True)
        ]
        annotations, images = args.ground_truth, args.images
        if annotations is None or images is None:
            known = find_data(runs[0], outside=args.read_outside)
            annotations, images = annotations or known[0], images or known[1]
        path = args.output or args.runs[0] / "report.html"
        if args.output is None:
            warn_of_replacing(path)
        written = write_report(
            runs,
            path,
            ground_truth_json=annotations,
            image_root=images,
            num_resamples=args.resamples,
        )
    print(path.resolve().as_uri())
    for file in written:
        print(f"Labels that the model contradicts are in {plain_path(file.absolute())}.")


def find_data(run: Run, *, outside: bool) -> tuple[Path | None, Path | None]:
    """Annotations and image folder of the run's data set, each None where it is not there.

    Args:
        run: whose configuration may register the data set.
        outside: whether files out of its folder count.
    """
    from balms_seg.evaluation.predictions.run_folder import is_within
    from balms_seg.report.run_files import noted_annotations, registered_files

    annotations, images = registered_files(run) or (None, None)
    if annotations is None:
        known = _files_of_known_set(run.dataset)
        if known is not None:
            return _existing(*known)
        annotations = noted_annotations(run)
    named = [path for path in (annotations, images) if path is not None]
    if not outside and not all(is_within(path, run.folder) for path in named):
        logger.warning(
            "No pictures: what the run names, %s, is not in its folder. If the run is yours, add "
            "--read-outside; or give --ground-truth and --images.",
            " and ".join(map(str, named)),
        )
        return None, None
    return _existing(annotations, images)


def _files_of_known_set(name: str) -> tuple[Path, Path] | None:
    """Of a set that detectron2 or this package knows."""
    try:
        from balms_seg.data import get_metadata

        metadata = get_metadata(name)
        return Path(metadata.json_file), Path(metadata.image_root)
    except (ImportError, KeyError, AttributeError):
        return None


def _existing(annotations: Path | None, images: Path | None) -> tuple[Path | None, Path | None]:
    return (
        annotations if annotations is not None and annotations.is_file() else None,
        images if images is not None and images.is_dir() else None,
    )
