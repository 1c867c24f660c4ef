#!/usr/bin/env python
"""Check LVIS and COCO under DETECTRON2_DATASETS, or link downloads into it.

python datasets/prepare_lvis_and_coco.py lvis_v1 --from ~/Downloads
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from balms_seg.data.preparation import PARTS, datasets_root, format_status, prepare


def main(arguments: list[str] | None = None) -> int:
    """Print what is there and what is missing; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--root", type=Path, help="default: DETECTRON2_DATASETS, or ./datasets")
    parser.add_argument(
        "--from",
        dest="downloads",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders with unpacked downloads; what the tree lacks is linked to them",
    )
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in PARTS]
    if unknown:
        parser.error(f"expected names of {', '.join(PARTS)}, but got {', '.join(unknown)}")
    root = (args.root or datasets_root()).expanduser()
    names = args.names or list(PARTS)
    try:
        statuses = prepare(names, root, args.downloads)
    except OSError as error:
        parser.error(str(error))
    print(format_status(statuses, root, names))
    return int(any(status.problem for status in statuses))


if __name__ == "__main__":
    sys.exit(main())
