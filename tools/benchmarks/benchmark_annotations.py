#!/usr/bin/env python3
"""Measures reading a made-up training set of LVIS v1's size, beside detectron2's own loader.

python tools/benchmarks/benchmark_annotations.py --scale 0.1 [--output FILE]

Each row is a process of its own, from the json to ready for the data workers. Its imports are left
out: seconds are the processor's, user and system, and memory is the peak above that of the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from make_lvis_like import write_lvis_like

_MIB = 1 << 20
_READ_BY_WORKER = 500  # dicts


def detectron2_loader(path: str) -> Callable[[], Any]:
    """detectron2's LVIS loader, and what its loaders serialise for the workers."""
    import lvis  # noqa: F401
    from detectron2.data import DatasetFromList
    from detectron2.data.datasets.lvis import load_lvis_json

    return lambda: DatasetFromList(load_lvis_json(path, "images/"), copy=False, serialize=True)


def our_loader(path: str) -> Callable[[], Any]:
    """This package's dataset dicts, which workers share."""
    import pycocotools.mask  # noqa: F401

    from balms_seg.data.instances.dataset_dicts import load_annotations

    return lambda: load_annotations(path, "images")


def our_statistics(path: str) -> Callable[[], Any]:
    """Counting the classes."""
    from balms_seg import ClassStatistics

    return lambda: ClassStatistics.from_json(path)


def our_counts(path: str) -> Callable[[], Any]:
    """What a run makes of the dicts: counts of the classes, and how often each image comes."""
    from balms_seg import ClassStatistics
    from balms_seg.sampling.repeat_factor import compute_repeat_factors

    dicts = our_loader(path)()
    num_classes = dicts.annotations[0].num_classes

    def count() -> None:
        ClassStatistics.from_dataset_dicts(dicts, num_classes)
        compute_repeat_factors(dicts, num_classes, 0.001)

    return count


def our_ground_truth(path: str) -> Callable[[], Any]:
    """What the check before the start and all evaluations of a set share, once it was read."""
    from balms_seg.annotations import read_annotations
    from balms_seg.evaluation import load_ground_truth

    annotations = read_annotations(path)
    return lambda: load_ground_truth(annotations)


ROWS = {
    "detectron2": detectron2_loader,
    "first load": our_loader,
    "second start": our_loader,
    "statistics": our_statistics,
    "counts, rates": our_counts,
    "ground truth": our_ground_truth,
}


def measure_here(name: str, path: str) -> dict[str, float]:
    """Run one row in this process."""
    run = ROWS[name](path)
    before = _memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # else the peak is at least the parent's
    start, start_wall = time.process_time(), time.perf_counter()
    run()
    return {
        "processor_s": time.process_time() - start,
        "wall_s": time.perf_counter() - start_wall,
        "peak_mib": _memory_mib("VmHWM") - before,
    }


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def share_here(path: str, num_workers: int) -> None:
    """A rank with forked workers that read dicts; prints its processes and waits to be ended."""
    loader = our_loader(path or "")
    dicts = loader() if path else ()
    children = []
    for worker in range(num_workers):
        child = os.fork()
        if not child:
            for index in range(worker, min(len(dicts), _READ_BY_WORKER * num_workers), num_workers):
                dicts[index]
            os.write(1, f"{os.getpid()}\n".encode())
            time.sleep(600)
        children.append(child)
    os.write(1, f"{os.getpid()}\n".encode())
    sys.stdin.read()
    for child in children:
        os.kill(child, 9)


def shared_memory_mib(path: str, num_ranks: int, num_workers: int) -> float:
    """Memory of all processes together, by the share that each has of what they share (PSS)."""
    command = [sys.executable, __file__, "--share", path, str(num_workers)]
    ranks = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(num_ranks)
    ]
    total = 0
    try:
        pids = [int(rank.stdout.readline()) for rank in ranks for _ in range(num_workers + 1)]
        for pid in pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    finally:
        for rank in ranks:
            rank.communicate("")
    return total / 1024


def check_equal(path: str) -> int:
    """Number of images; raises where a dict differs from detectron2's, but for its class ids."""
    from detectron2.data.datasets.lvis import load_lvis_json

    ours = our_loader(path)()
    theirs = load_lvis_json(path, "images/")
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            own[key] = [index + 1 for index in own[key]]  # detectron2 leaves the json's
        assert own == other, own["file_name"]
    return len(theirs)


def run_row(name: str, path: Path) -> dict[str, float]:
    """One row in a process of its own."""
    command = [sys.executable, __file__, "--row", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the set, and measure everything."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    path = options.json or folder / "lvis_like.json"
    numbers = {}
    if not options.json:
        numbers = write_lvis_like(path, scale=options.scale, seed=options.seed)
    results: dict[str, Any] = {
        "scale": None if options.json else options.scale,
        "json_mib": path.stat().st_size / _MIB,
        **numbers,
        "rows": {
            name: run_row(name, path) for name in ROWS if name != "detectron2" or options.reference
        },
    }
    if options.reference:
        results["equal_images"] = check_equal(str(path)) if options.compare else 0
    one, all_ranks = (1, 0), (options.ranks, options.workers)
    added = [
        shared_memory_mib(str(path), *processes) - shared_memory_mib("", *processes)
        for processes in (one, all_ranks)
    ]
    results["shared"] = {
        "processes": f"{options.ranks} ranks x {options.workers} workers",
        "one_adds_mib": added[0],
        "all_add_mib": added[1],
    }
    return results


def format_results(results: dict[str, Any]) -> str:
    """Lines for people."""
    lines = [f"json {results['json_mib']:.0f} MiB"]
    for name, row in results["rows"].items():
        lines.append(f"{name:14}{row['processor_s']:8.2f} s{row['peak_mib']:8.0f} MiB peak")
    if "detectron2" in results["rows"]:
        theirs, ours = results["rows"]["detectron2"], results["rows"]["first load"]
        lines.append(
            f"first load: {theirs['processor_s'] / ours['processor_s']:.1f} times as fast, "
            f"{ours['peak_mib'] / theirs['peak_mib']:.2f} of the peak memory"
        )
    shared = results["shared"]
    lines.append(
        f"the set adds {shared['one_adds_mib']:.0f} MiB to one process, "
        f"{shared['all_add_mib']:.0f} MiB to {shared['processes']} together"
    )
    if results.get("equal_images"):
        lines.append(f"dicts equal detectron2's on {results['equal_images']} images")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=0.1, help="1 is LVIS v1; default 0.1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="an LVIS json to read instead of a made-up one")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4, help="of each rank")
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument(
        "--compare", action="store_true", help="compare every dict with detectron2's"
    )
    parser.add_argument("--output", type=Path, help="write the numbers here, as json")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--share", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure_here(*options.row)))
    elif options.share:
        share_here(options.share[0], int(options.share[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = run(options, Path(folder))
        print(format_results(results))
        if options.output:
            options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
