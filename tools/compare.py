#!/usr/bin/env python3
"""Says which differences between two evaluated runs are larger than chance.

tools/compare.py output/softmax output/balanced_softmax

A run is the output folder of training, of --eval-only or of tools/evaluate.py, or a file in it.
Both have to be evaluated on the same annotations. The interval covers the choice of evaluation
images; another training seed adds to it, so compare several seeds before believing a gain.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.evaluation.predictions.match_file import StoredMatches, read_matches
from balms_seg.evaluation.uncertainty.run_comparison import compare_runs, format_comparison


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, metavar="A", help="a run")
    parser.add_argument("second", type=Path, metavar="B", help="another")
    parser.add_argument("--resamples", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--level", type=float, default=0.95, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser.parse_args(arguments)


def load_run(path: Path) -> dict[tuple[str, str], StoredMatches]:
    """Matches of a run per (fingerprint of the evaluation set, task)."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.suffix == ".npz":
        files = [path]
    else:
        folder = path if path.is_dir() else path.parent
        files = sorted(folder.rglob("matches_*.npz"))
    if not files:
        raise ValueError(
            f"Expected matches_TASK.npz in {path}, but found none; evaluate the run with "
            "tools/train_net.py --eval-only, or its detections with tools/evaluate.py --output."
        )
    run: dict[tuple[str, str], StoredMatches] = {}
    sources: dict[tuple[str, str], Path] = {}
    for file in files:
        stored = read_matches(file)
        key = stored.fingerprint, stored.task
        if key in run:
            raise ValueError(
                f"{path} holds two evaluations of {stored.task} on the same data set, "
                f"{sources[key]} and {file}; name the one to compare."
            )
        run[key], sources[key] = stored, file
    return run


def main(arguments: list[str] | None = None) -> None:
    """Compare what both runs were evaluated on."""
    options = parse_arguments(arguments)
    try:
        first, second = load_run(options.first), load_run(options.second)
        shared = [key for key in first if key in second]
        if not shared:
            raise ValueError(
                f"{options.first} and {options.second} have no evaluation in common: they are of "
                f"different data sets or tasks ({_describe(first)}; {_describe(second)})."
            )
        for key in shared:
            print(f"{first[key].task}, {first[key].num_images} images")
            differences = compare_runs(
                first[key],
                second[key],
                num_resamples=options.resamples,
                seed=options.seed,
                level=options.level,
            )
            print(format_comparison(differences, level=options.level) + "\n")
    except (ValueError, OSError) as error:
        sys.exit(f"compare: {error}")


def _describe(run: dict[tuple[str, str], StoredMatches]) -> str:
    return ", ".join(
        f"{one.task} on {one.num_images} images and {len(one.class_names)} classes"
        for one in run.values()
    )


if __name__ == "__main__":
    main()
