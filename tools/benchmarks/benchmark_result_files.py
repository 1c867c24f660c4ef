#!/usr/bin/env python3
"""Measures the commands that read result files, in this checkout and in others, on the same files.

tools/benchmarks/benchmark_result_files.py --task bbox --images 19800 --other ../before

The detections of an image are made up, see `made_up_detections.py`. Each command is a process of
its own, Python's start included; seconds are the processor's, memory is the peak of the process.
Commands run in turn, one checkout after the other, so that a change of the machine falls on all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_up_detections import HEIGHT_PX, WIDTH_PX, made_up_lvis

_HERE = Path(__file__).resolve().parents[2]
_KEPT_STDERR = 2_000  # characters of what a command that fails says


def write_files(folder: Path, task: str, num_images: int, detections_per_image: int) -> None:
    """Ground truth, detections, and a photograph that bears the names of all images."""
    from PIL import Image

    content, detections = made_up_lvis(num_images, detections_per_image, with_masks=task == "segm")
    (folder / "images").mkdir()
    photograph = folder / "photograph.jpg"
    Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "gray").save(photograph)
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.jpg"
        os.link(photograph, folder / "images" / image["file_name"])
    (folder / "annotations.json").write_text(json.dumps(content))
    with (folder / "detections.json").open("w") as file:
        for place, found in enumerate(detections):
            if "segmentation" in found:
                counts = found["segmentation"]["counts"].decode()
                found = {**found, "segmentation": {**found["segmentation"], "counts": counts}}
            file.write(("," if place else "[") + json.dumps(found))
        file.write("]")


def measure(checkout: Path, command: list[str]) -> dict[str, Any]:
    """Run a command of a checkout to its end."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(checkout / "tools" / command[0]), *command[1:]]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            words, cwd=checkout, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    measured: dict[str, Any] = {
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": used.ru_maxrss // 1024,
    }
    if process.returncode:
        measured |= {"exit": process.returncode, "said": text[-_KEPT_STDERR:]}
    return measured


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the files, and measure every command in every checkout."""
    arguments = [options.task, str(options.images), str(options.detections)]
    # In a process of its own, as a process that is started begins with the peak of its parent.
    subprocess.run([sys.executable, __file__, "--write", str(folder), *arguments], check=True)
    results: dict[str, Any] = {
        "task": options.task,
        "images": options.images,
        "detections": options.images * options.detections,
        "results_mib": (folder / "detections.json").stat().st_size >> 20,
    }
    for place, checkout in enumerate([_HERE, *options.other]):
        checkout = checkout.resolve()
        os.environ["XDG_CACHE_HOME"] = str(folder / f"cache_{place}")
        annotations, output = str(folder / "annotations.json"), str(folder / f"output_{place}")
        evaluate = ["evaluate.py", str(folder / "detections.json"), "--ground-truth", annotations]
        report = ["report.py", output, "--ground-truth", annotations]
        report += ["--images", str(folder / "images")]
        report += ["--read-outside"] if checkout == _HERE else []
        results[f"{checkout.name}" if place else "here"] = {
            "evaluate": measure(checkout, [*evaluate, "--tasks", options.task, "--output", output]),
            "report": measure(checkout, report),
        }
    return results


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=("bbox", "segm"), default="bbox")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--detections", type=int, default=300, help="an image")
    parser.add_argument(
        "--other", type=Path, nargs="*", default=[], metavar="CHECKOUT", help="of this project"
    )
    parser.add_argument("--output", type=Path, help="write the numbers here, as json")
    parser.add_argument("--scratch", type=Path, help="folder for the files that are made")
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        folder, task, *numbers = options.write
        write_files(Path(folder), task, *map(int, numbers))
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        results = run(options, Path(folder))
    text = json.dumps(results, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
