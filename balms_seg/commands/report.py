"""Write one HTML page about a run, or about several side by side; it needs no network.

balms-seg report output/demo
balms-seg report output/softmax output/balanced_softmax --output comparison.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balms_seg.report.run_files import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and where their data lie."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="OUTPUT_DIR", help="with results.json"
    )
    parser.add_argument(
        "--output", type=Path, metavar="HTML", help="default: report.html in the first OUTPUT_DIR"
    )
    parser.add_argument("--dataset", help="default: the first one evaluated on")
    parser.add_argument(
        "--ground-truth",
        type=Path,
        metavar="JSON",
        help="annotations; default: those the run's configuration registers, or detectron2 knows",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="images; default: likewise")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="for intervals; default: %(default)s, 0: none"
    )


def run(args: argparse.Namespace) -> None:
    """Read the runs, write the page, and print its address."""
    from balms_seg.report.page import write_report
    from balms_seg.report.run_files import names_of, read_run

    runs = [
        read_run(folder, name=name, dataset=args.dataset)
        for folder, name in zip(args.runs, names_of(args.runs), strict=True)
    ]
    annotations, images = find_data(runs[0])
    path = args.output or args.runs[0] / "report.html"
    write_report(
        runs,
        path,
        ground_truth_json=args.ground_truth or annotations,
        image_root=args.images or images,
        num_resamples=args.resamples,
    )
    print(path.resolve().as_uri())


def find_data(run: Run) -> tuple[Path | None, Path | None]:
    """Annotations and image folder of the run's data set, each None where it is not there."""
    from balms_seg.report.run_files import registered_files

    known = registered_files(run)
    if known is None:
        try:
            from balms_seg.data import get_metadata

            metadata = get_metadata(run.dataset)
            known = Path(metadata.json_file), Path(metadata.image_root)
        except (ImportError, KeyError, AttributeError):
            return None, None
    annotations, images = known
    return (
        annotations if annotations.is_file() else None,
        images if images.is_dir() else None,
    )
