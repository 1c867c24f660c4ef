"""Install detectron2 0.6 as a pure-Python wheel, unless `import detectron2` already works.

balms-seg install-detectron2
balms-seg install-detectron2 --sdist pb1-detectron2-0.6.tar.gz

torch and setuptools have to be installed first: pip runs the setup.py of detectron2's source
distribution, which imports both.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where things come from and go to."""
    parser.add_argument("--constraint", type=Path, help="pip constraints for its requirements")
    parser.add_argument("--sdist", type=Path, help="a downloaded source distribution")
    parser.add_argument("--wheel-dir", type=Path, help="only write the wheel, into this folder")


def run(args: argparse.Namespace) -> None:
    """Install it, or write the wheel."""
    from balms_seg.detectron2_wheel.install import install, write_only

    if args.wheel_dir:
        print(write_only(args.sdist, args.wheel_dir))
    else:
        print(install(args.constraint, args.sdist))
