#!/usr/bin/env python
"""make demo: toy data, training, evaluation, pictures and a report, in minutes on two CPU cores."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from balms_seg.engine import load_config
from balms_seg.evaluation import format_lvis_table, read_results
from balms_seg.glyphs.glyph_dataset import PRESETS, make_glyph_dataset
from balms_seg.model_zoo import get_config_file
from balms_seg.report.figures import ap_by_group, class_frequency, save_figure
from balms_seg.report.page import write_report
from balms_seg.report.pictures import PictureSources, draw_sheet
from balms_seg.report.run_files import read_run

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "datasets" / "glyphs"
_TRAINING = re.compile(r"iter: (\d+)\s+total_loss: ([\d.]+)")
_INFERENCE = re.compile(r"Inference done (\d+)/(\d+)")
_SHORT_ITERS = 60
_MARK = "inference/.made_by_demo"  # moves with the run that it is of


def main() -> None:
    """Run the steps, say what each does, and where the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="output/demo", help="folder of the results")
    parser.add_argument("--short", action="store_true", help=f"{_SHORT_ITERS} iterations only")
    args = parser.parse_args()
    output = Path(args.output)
    start = time.monotonic()

    print(f"1/3  Glyph data set in {DATA.relative_to(ROOT)}", flush=True)
    make_glyph_dataset(DATA, PRESETS["default"])
    print("2/3  Balanced Softmax Mask R-CNN, trained and evaluated on the CPU", flush=True)
    with earlier_demo_removed(output):
        _train(output, ["SOLVER.MAX_ITER", str(_SHORT_ITERS)] if args.short else [])
    print(f"3/3  Pictures and report in {output}\n", flush=True)
    metrics, group_sizes = _read(output / "results.json")
    pictures = _draw(output, metrics, group_sizes)

    print(format_lvis_table(metrics, group_sizes))
    print(f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes. Look at:")
    for path, content in pictures.items():
        print(f"  {path}  {content}")
    print(f"  {output / 'log.txt'}  everything that was logged")
    print(f"\nWhich classes failed, and why:\n  {_report(output).resolve().as_uri()}")


@contextmanager
def earlier_demo_removed(output: Path) -> Iterator[None]:
    """Within, a run with --overwrite moves an earlier one aside; a demo's is removed afterwards.

    It can be made again; a run of another origin stays where it was moved.
    """
    before = set(output.glob("earlier_run_*"))
    yield
    (output / _MARK).touch()
    for folder in set(output.glob("earlier_run_*")) - before:
        if (folder / _MARK).is_file():
            shutil.rmtree(folder)


def _train(output: Path, overrides: list[str]) -> None:
    """Run tools/train_net.py behind one progress line; its output is kept in log.txt."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "tools" / "train_net.py"),
        "--config-file",
        get_config_file("toy/demo.yaml"),
        "--num-gpus",
        "0",
        "--overwrite",
        "OUTPUT_DIR",
        str(output.resolve()),
        *overrides,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    num_iters = load_config(get_config_file("toy/demo.yaml"), overrides).SOLVER.MAX_ITER
    lines = []
    with tqdm(desc="     training", total=num_iters, unit="it", mininterval=1) as bar:
        for line in process.stdout or ():
            lines.append(line)
            _advance(bar, line)
    if process.wait():
        sys.exit(
            "".join(lines[-30:]) + "\nTraining failed; the last lines of its output are above."
        )


def _advance(bar: tqdm, line: str) -> None:
    """Move the bar to what a line of the log reports."""
    if found := _TRAINING.search(line):
        bar.update(int(found[1]) + 1 - bar.n)
        bar.set_postfix_str(f"loss {found[2]}")
    elif found := _INFERENCE.search(line):
        if bar.desc.strip(": ") != "evaluating":
            bar.clear()
            bar.reset(total=int(found[2]))
            bar.set_description_str("     evaluating", refresh=False)
            bar.set_postfix_str("")
            bar.unit = "images"
        bar.update(int(found[1]) - bar.n)


def _read(path: Path) -> tuple[dict, dict]:
    record = read_results(path)
    name = next(iter(record["metrics"]))
    return record["metrics"][name], record["group_sizes"][name]


def _draw(output: Path, metrics: dict, group_sizes: dict) -> dict[Path, str]:
    from balms_seg import ClassStatistics

    pictures = {
        output / "predictions.png": "validation images: ground truth left, detections right",
        output / "class_frequency.png": "training images of each class",
        output / "ap_by_group.png": "AP of rare, common and frequent classes",
    }
    predictions, frequency, groups = pictures
    results = output / "inference" / "lvis_instances_results.json"
    draw_sheet(PictureSources.read(DATA / "val.json", DATA / "val", results), predictions)
    statistics = ClassStatistics.from_json(DATA / "train.json")
    save_figure(class_frequency(statistics.to_dict()), frequency)
    save_figure(ap_by_group(metrics, group_sizes=group_sizes), groups)
    return pictures


def _report(output: Path) -> Path:
    """Write the page about the run."""
    path = output / "report.html"
    write_report(
        [read_run(output)], path, ground_truth_json=DATA / "val.json", image_root=DATA / "val"
    )
    return path


if __name__ == "__main__":
    main()
