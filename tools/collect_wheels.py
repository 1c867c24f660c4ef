#!/usr/bin/env python
r"""Collect what a machine without a network lacks, to be installed there from one folder.

python tools/collect_wheels.py wheels --python 3.11
python tools/collect_wheels.py wheels --python 3.12 --torch 2.11.0 --with-torch

Beside torch, which a machine with a GPU usually has, that is detectron2 0.6, made here as a
pure-Python wheel, what it and this package require, and the tests' tools. Then, on that machine:

python -m pip install --no-index --find-links wheels -r wheels/requirements.txt
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from balms_seg.detectron2_wheel.install import write_only
from balms_seg.detectron2_wheel.wheel import REQUIREMENTS, WHEEL_NAME

ROOT = Path(__file__).resolve().parents[1]
# What the package needs beside torch and detectron2, and what gpu_check uses: the tests, figures.
PACKAGES = (
    *("numpy", "opencv-python", "pycocotools", "lvis", "msgspec", "pysimdjson", "fvcore"),
    *("pytest", "hypothesis", "vl-convert-python", "shapely"),
)
# Published as sources alone: made into wheels here; they hold nothing but Python.
SOURCES_ALONE = ("antlr4-python3-runtime", "fvcore", "iopath")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_TORCH = ("torch", "torchvision")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the folder, and say how to install from it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="{}.{}".format(*sys.version_info[:2]), metavar="X.Y")
    parser.add_argument("--torch", metavar="VERSION", help="default: that of constraints.txt")
    parser.add_argument("--with-torch", action="store_true", help="torch's wheels, too: gigabytes")
    parser.add_argument("--sdist", type=Path, help="detectron2's source, downloaded before")
    args = parser.parse_args(arguments)
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / WHEEL_NAME).is_file():
        print(write_only(args.sdist, folder), flush=True)
    names = [*PACKAGES, *REQUIREMENTS]
    pins = constraints((ROOT / "constraints.txt").read_text(), args.torch)
    constraint_file = folder / "constraints.txt"
    constraint_file.write_text("\n".join(pins) + "\n")
    for name in SOURCES_ALONE:
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), *_pinned(name, pins))
    print("downloading the others", flush=True)
    pip(
        "download",
        *("--dest", str(folder), "--only-binary", ":all:", "--find-links", str(folder)),
        *("--python-version", args.python, "--implementation", "cp"),
        *(word for platform in _PLATFORMS for word in ("--platform", platform)),
        *("--constraint", str(constraint_file)),
        *(names if not args.with_torch else [*names, *_TORCH]),
    )
    (folder / "requirements.txt").write_text("\n".join(["detectron2", *PACKAGES]) + "\n")
    print(
        f"{len(list(folder.glob('*.whl')))} wheels. With Python {args.python} and torch there:\n"
        f"python -m pip install --no-index --find-links {args.folder} "
        f"-r {args.folder}/requirements.txt"
    )


def constraints(text: str, torch_version: str | None) -> list[str]:
    """The pins of constraints.txt; those of torch and torchvision give way to another torch.

    Args:
        text: of constraints.txt.
        torch_version: None: as pinned.
    """
    lines = [line.strip() for line in text.splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    if torch_version is None:
        return pins
    kept = [pin for pin in pins if pin.partition("==")[0] not in _TORCH]
    return [*kept, f"torch=={torch_version}"]


def _pinned(name: str, pins: Sequence[str]) -> list[str]:
    return [pin for pin in pins if pin.partition("==")[0] == name] or [name]


def pip(command: str, *words: str) -> None:
    """Run pip; its own words where it fails.

    Raises:
        SystemExit: it failed.
    """
    quietly = ["--quiet", "--disable-pip-version-check", *words]
    run = subprocess.run([sys.executable, "-m", "pip", command, *quietly], check=False)
    if run.returncode:
        raise SystemExit(f"collect_wheels: pip {command} failed, see above.")


if __name__ == "__main__":
    main()
