"""Draw training data, as annotated or as the model sees them after augmentation.

balms-seg visualize data --config-file F --output pictures --num-images 20 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path
from balms_seg.wording import plain_path

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Configuration, and what to draw."""
    parser.add_argument("--config-file", required=True, help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument(
        *("--output", "--output-dir"),
        dest="output_dir",
        type=output_path,
        required=True,
        metavar="DIR",
        help="where the pictures go",
    )
    parser.add_argument("--num-images", type=int, default=50, help="default: %(default)s")
    parser.add_argument(
        "--source",
        choices=("annotation", "dataloader"),
        default="dataloader",
        help="annotation: images of the sets in order, as annotated; dataloader: what the training "
        "loader gives, with its sampler and augmentation. Default: %(default)s",
    )
    add_key_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write one picture an image."""
    from balms_seg.data import register_from_config
    from balms_seg.data.instances.visualization import draw_training_data
    from balms_seg.engine import load_config
    from balms_seg.engine.jobs.choice import build_job

    cfg = load_config(args.config_file, args.opts)
    register_from_config(cfg)
    training_set = build_job(cfg).load_training_set()
    require_images(cfg, training_set.dicts)
    drawn = draw_training_data(
        cfg, training_set, args.output_dir, num_images=args.num_images, source=args.source
    )
    as_they_are = "as annotated"
    if args.source == "dataloader":
        as_they_are = "as training sees them; --source annotation shows them as annotated"
    print(
        f"Pictures are in {plain_path(args.output_dir.absolute())}: {len(drawn)}, {as_they_are}. "
        "Training sees "
        f"{training_set.image_numbers}."
    )


def require_images(cfg: CfgNode, dicts: Sequence[dict[str, Any]]) -> None:
    """Raise FileNotFoundError, with the likely cause, where none of the images is there."""
    from detectron2.data import MetadataCatalog

    from balms_seg.data.instances.dataset_dicts import DatasetDicts
    from balms_seg.data.preflight.image_file_checks import describe_missing, missing_images

    if not isinstance(dicts, DatasetDicts):
        return
    missing = missing_images(record["file_name"] for record in dicts.images())
    if missing and len(missing) == len(dicts):
        root = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("image_root")
        raise FileNotFoundError(describe_missing(missing, len(dicts), root))
