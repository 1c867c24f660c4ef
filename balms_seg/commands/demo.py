"""Run a trained model on images of your own and draw what it finds.

balms-seg demo --config-file F --input photos/*.jpg --output found --opts MODEL.WEIGHTS model.pth

Names and frequency groups come with the checkpoint, or else from the data sets of the
configuration; where none is at hand, classes are numbered. Colours: red rare, orange common, blue
frequent, grey unknown.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path
from balms_seg.wording import counted, plain_path

if TYPE_CHECKING:
    import torch
    from detectron2.config import CfgNode

    from balms_seg.class_statistics.class_record import ClassRecord

logger = logging.getLogger(__name__)

_DEFAULT_THRESHOLD = 0.5
_SMALLEST_SIDE_PX = 480  # longer side of a picture; smaller images are enlarged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Configuration, images, and how to draw."""
    parser.add_argument("--config-file", required=True, help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument("--input", nargs="+", required=True, help="images, or patterns of such")
    parser.add_argument("--output", type=output_path, required=True, metavar="DIR")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="smallest score; default: 0.5, or classes' own thresholds where the model has such",
    )
    parser.add_argument(
        "--groups", action="store_true", help="write the frequency group into each label"
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="0 runs on the CPU")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")


def run(args: argparse.Namespace) -> None:
    """Load the model and draw each image."""
    import cv2
    import torch
    from detectron2.data import transforms
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json

    from balms_seg.data.images.input_images import find_images
    from balms_seg.decoding import decode_image
    from balms_seg.engine import load_config
    from balms_seg.engine.device import choose_device
    from balms_seg.engine.jobs.choice import build_job
    from balms_seg.engine.required_weights import require_trained_weights
    from balms_seg.engine.run import has_class_thresholds, load_model_and_classes
    from balms_seg.report.instance_drawing import draw_instances

    opts = args.opts or []
    cfg = load_config(args.config_file, opts)
    require_trained_weights(cfg, args.config_file, opts, option="--opts")
    choose_device(cfg, num_gpus=args.num_gpus, falls_back="MODEL.DEVICE" not in opts[::2])
    if build_job(cfg).of_images:
        predict(cfg, args)
        return
    images = named_apart(find_images(args.input))
    known = read_categories(cfg)
    model, classes = load_model_and_classes(cfg)
    categories = known if classes is None else categories_of(classes)
    model.eval()
    threshold = args.confidence_threshold
    if threshold is None:
        threshold = 0.0 if has_class_thresholds(cfg, classes) else _DEFAULT_THRESHOLD
    resize = transforms.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    args.output.mkdir(parents=True, exist_ok=True)
    for path in images:
        try:
            pixels = decode_image(str(path), "BGR", pixel_range=cfg.INPUT.PIXEL_RANGE)
        except OSError as error:
            logger.warning("%s It is left out.", error)
            continue
        height, width = pixels.shape[:2]
        ordered = pixels if cfg.INPUT.FORMAT == "BGR" else pixels[:, :, ::-1]
        resized = resize.get_transform(ordered).apply_image(ordered)
        image = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1).copy())
        with torch.no_grad():
            output = model([{"image": image, "height": height, "width": width}])[0]["instances"]
        kept = output[output.scores >= threshold].to("cpu")
        scale = max(_SMALLEST_SIDE_PX / max(height, width), 1.0)
        found = instances_to_coco_json(kept, str(path))
        drawn = draw_instances(pixels, found, categories, scale=scale, with_group=args.groups)
        cv2.imwrite(str(args.output / f"{path.stem}.png"), drawn)
        print(f"{path}: {_describe_found(len(found), output.scores, threshold)}")
    print(f"Pictures are in {plain_path(args.output.absolute())}.")


def _describe_found(num_kept: int, scores: torch.Tensor, threshold: float) -> str:
    if num_kept:
        return counted(num_kept, "instance")
    if not len(scores):
        return "nothing was found at all"
    return (
        f"none of {counted(len(scores), 'detection')} passes --confidence-threshold {threshold:g}; "
        f"the surest has {float(scores.max()):.2g}"
    )


def predict(cfg: CfgNode, args: argparse.Namespace) -> None:
    """What the command predict does, with the classifier of a configuration."""
    from balms_seg.commands.predict import write_predictions
    from balms_seg.data.images.input_images import find_images
    from balms_seg.engine.image_predictor import ImagePredictor

    write_predictions(ImagePredictor.from_config(cfg), find_images(args.input), args.output)


def read_categories(cfg: Any) -> dict[int, dict[str, Any]]:
    """Name and, where known, frequency letter per contiguous class id, of the training set."""
    from balms_seg.class_statistics.class_record import ClassRecord
    from balms_seg.data import register_from_config
    from balms_seg.engine.jobs.choice import build_job

    try:
        register_from_config(cfg)
        statistics = build_job(cfg).load_training_set().statistics
        return categories_of(ClassRecord.from_statistics(statistics))
    except (KeyError, OSError, ValueError) as error:
        logger.info("The training set is not at hand: %s", error)
        return {i: {"name": f"class {i}"} for i in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)}


def categories_of(classes: ClassRecord) -> dict[int, dict[str, Any]]:
    """Name and frequency letter per contiguous class id."""
    return {
        i: {"name": name, "frequency": group[0]}
        for i, (name, group) in enumerate(zip(classes.names, classes.groups, strict=True))
    }


def named_apart(addresses: Sequence[str]) -> list[Path]:
    """Image files, each of another name, as each picture is called after its image."""
    files = [Path(address) for address in addresses]
    if len({file.stem for file in files}) < len(files):
        raise ValueError(
            "Expected images of different names, since each picture is called after its image; "
            "run this once for each folder."
        )
    return files
