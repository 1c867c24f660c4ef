"""Compute the features of image sets once, for classifiers that train on a fixed trunk.

balms-seg features --config-file configs/custom/image_trunk.yaml --num-gpus 0 \
    --output features DATASETS.REGISTER_IMAGES "[['my_train','photos','train']]" \
    DATASETS.TRAIN "('my_train',)"

Writes OUTPUT/NAME.npz for each set of DATASETS.TRAIN and DATASETS.TEST, and prints how to train on
them. The trunk is MODEL.IMAGE_CLASSIFIER.BACKBONE with the weights of MODEL.WEIGHTS or, with
PRETRAINED, those of ImageNet. A file that this trunk made of these images is kept as it is.
Features of other programs need no such step: docs/own_images.md says how they are read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.wording import plain_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration, and where to write."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="path or name")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--num-gpus", type=int, default=1, help="0: CPU; default: %(default)s")
    add_key_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Load the trunk, run it where its features are not there, and say how to use them."""
    from balms_seg.data import register_from_config
    from balms_seg.engine import load_config
    from balms_seg.engine.device import choose_device
    from balms_seg.engine.image_features import keep_features, load_feature_model
    from balms_seg.engine.required_weights import refuse_own_start

    cfg = load_config(args.config_file, args.opts)
    refuse_own_start(cfg, args.config_file, args.opts)
    choose_device(cfg, num_gpus=args.num_gpus)
    register_from_config(cfg)
    names = list(dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]))
    if not names:
        raise ValueError("DATASETS.TRAIN and DATASETS.TEST are empty; name the sets.")
    model = load_feature_model(cfg)
    entries = []
    for name in names:
        path = plain_path(args.output.absolute()) / f"{name}.npz"
        is_new = keep_features(cfg, model, name, path)
        print(f"{path}: {'computed' if is_new else 'as it was, by the same trunk'}")
        entries.append([f"{name}_features", str(path), ""])
    print(f'DATASETS.REGISTER_IMAGES "{entries!r}"')
