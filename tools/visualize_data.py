#!/usr/bin/env python
"""Draw training data, as annotated or as the model sees them after augmentation.

python tools/visualize_data.py --config-file F --output-dir out --num-images 20 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from balms_seg.data.instances.visualization import draw_training_data
from balms_seg.engine import load_config


def main(arguments: list[str] | None = None) -> None:
    """Read the config and write one picture an image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="as for train_net.py")
    parser.add_argument("--output-dir", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--num-images", type=int, default=50, help="default: %(default)s")
    parser.add_argument(
        "--source",
        choices=("annotation", "dataloader"),
        default="dataloader",
        help="annotation: images of the sets in order, as annotated; dataloader: what the training "
        "loader gives, with its sampler and augmentation. Default: %(default)s",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        cfg = load_config(args.config_file, args.opts)
        draw_training_data(cfg, args.output_dir, num_images=args.num_images, source=args.source)
    except (ValueError, KeyError, OSError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"{type(error).__name__}: {message}")
    print(f"Pictures are in {args.output_dir.absolute()}.")


if __name__ == "__main__":
    main()
