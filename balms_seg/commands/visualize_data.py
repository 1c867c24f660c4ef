"""Draw training data, as annotated or as the model sees them after augmentation.

balms-seg visualize data --config-file F --output-dir pictures --num-images 20 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse

from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Configuration, and what to draw."""
    parser.add_argument("--config-file", required=True, help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument(
        "--output-dir", type=output_path, required=True, help="where the pictures go"
    )
    parser.add_argument("--num-images", type=int, default=50, help="default: %(default)s")
    parser.add_argument(
        "--source",
        choices=("annotation", "dataloader"),
        default="dataloader",
        help="annotation: images of the sets in order, as annotated; dataloader: what the training "
        "loader gives, with its sampler and augmentation. Default: %(default)s",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")


def run(args: argparse.Namespace) -> None:
    """Write one picture an image."""
    from balms_seg.data import register_from_config
    from balms_seg.data.instances.visualization import draw_training_data
    from balms_seg.engine import load_config
    from balms_seg.engine.jobs.choice import build_job

    cfg = load_config(args.config_file, args.opts)
    register_from_config(cfg)
    training_set = build_job(cfg).load_training_set()
    draw_training_data(
        cfg, training_set, args.output_dir, num_images=args.num_images, source=args.source
    )
    print(f"Pictures are in {args.output_dir.absolute()}.")
