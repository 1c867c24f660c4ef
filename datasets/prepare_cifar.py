#!/usr/bin/env python
"""Check CIFAR-10 and CIFAR-100 under DETECTRON2_DATASETS, and download what is missing.

python datasets/prepare_cifar.py cifar10 cifar100
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torchvision import datasets

from balms_seg.data.images.image_files import CIFAR_FOLDERS
from balms_seg.data.preparation import datasets_root

SETS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def main(arguments: list[str] | None = None) -> int:
    """Say where each set is, once it is; 1 if one could not be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(SETS), help="cifar10, cifar100; both")
    parser.add_argument("--root", type=Path, help="default: DETECTRON2_DATASETS, or ./datasets")
    parser.add_argument("--no-download", action="store_true", help="only check")
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in SETS]
    if unknown:
        parser.error(f"expected names of {', '.join(SETS)}, but got {', '.join(unknown)}")
    root = (args.root or datasets_root()).expanduser()
    return max([prepare(name, root, download=not args.no_download) for name in args.names])


def prepare(name: str, root: Path, *, download: bool) -> int:
    """Download a set with torchvision (which shows a progress bar) unless it is there; 0 if it is.

    Args:
        name: of `SETS`.
        root: folder of the data sets.
        download: else only check.
    """
    folder, archive = root / SETS[name], root / f"{name}-jpeg.zip"
    if archive.is_file() and not folder.is_dir():
        print(f"{name}: {archive}")
        return 0
    data_set = getattr(datasets, CIFAR_FOLDERS[SETS[name]])
    try:
        for is_train in (True, False):
            data_set(str(root), train=is_train, download=download)
    except Exception as error:  # of the network, of the files, of torchvision
        print(f"{name}: not in {folder} ({error})")
        return 1
    print(f"{name}: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
