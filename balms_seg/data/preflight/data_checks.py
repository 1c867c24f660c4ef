"""Everything about data that can be wrong before the first iteration, in one error."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from balms_seg.annotations import Annotations, MaskKind, shortened
from balms_seg.data.images.image_sets import EVALUATOR_TYPE as IMAGE_EVALUATOR_TYPE
from balms_seg.data.instances.builtin import (
    Load,
    Records,
    describe_downloads,
    describe_other_size,
    load_dataset_dicts,
)
from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.instances.registration import register_from_config
from balms_seg.data.preflight.header_checks import image_problems
from balms_seg.data.preflight.image_file_checks import describe_missing, missing_images
from balms_seg.data.preflight.image_set_checks import image_class_problems, image_set_problems
from balms_seg.data.preflight.memory_check import note_memory
from balms_seg.data.preflight.shared_image_check import warn_of_shared_images
from balms_seg.data.training_set import describe_difference, unused_regions
from balms_seg.requirements import require
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


class PreflightError(ValueError):
    """What has to be put right before a run can start.

    Attributes:
        problems: one sentence or two for each.
    """

    def __init__(self, problems: list[str], *, after: str = "") -> None:
        self.problems = problems
        noun = "problem" if len(problems) == 1 else "problems"
        told = "\n  - ".join([f"{len(problems)} {noun} before the start:", *problems])
        super().__init__(f"{told}\n{after}".rstrip())


def preflight(
    cfg: CfgNode,
    *,
    training: bool,
    of_images: bool = False,
    load: Load = load_dataset_dicts,
    evaluation_problems: Callable[[str], Iterable[str]] = lambda name: (),
) -> None:
    """Check data sets, classes and output folder; call it after DATASETS.REGISTER was read or not.

    Every image must exist and its header fit the annotations; of each set a sample is decoded.

    Args:
        cfg: resolved configuration with this package's keys.
        training: whether DATASETS.TRAIN will be trained on. Else only DATASETS.TEST is checked.
        of_images: whether the sets have to be of whole images, not of annotated instances.
        load: what reads a set.
        evaluation_problems: says of a set of DATASETS.TEST why it cannot be evaluated on.

    Raises:
        PreflightError: lists everything that is wrong.
    """
    load = cache(load)
    problems = list(output_problems(cfg.OUTPUT_DIR))
    try:
        register_from_config(cfg)
    except ValueError as error:
        problems.append(str(error))
    if training and not cfg.DATASETS.TRAIN:
        problems.append("DATASETS.TRAIN is empty; name at least one registered data set.")
    if not training and not cfg.DATASETS.TEST:
        problems.append("DATASETS.TEST is empty; name a registered data set to evaluate on.")
    train = [*cfg.DATASETS.TRAIN, *filter(None, [cfg.META.DATASET])] if training else []
    names = list(dict.fromkeys([*train, *cfg.DATASETS.TEST]))
    files: list[Annotations] = []
    for name in names:
        own = list(_dataset_problems(cfg, name, name in train, of_images, load, files))
        if not own and name in cfg.DATASETS.TEST:
            own = [f"Data set {name!r}: {problem}" for problem in evaluation_problems(name)]
        problems += own
    if not of_images:
        note_memory(files)
        problems += _class_problems(cfg, names)
    elif names and not problems:
        problems += image_class_problems(cfg, names, training=training, load=load)
    if problems:
        raise PreflightError(problems)
    warn_of_shared_images(train, cfg.DATASETS.TEST, of_images=of_images, load=load)
    logger.info("Preflight: %s can be used.", ", ".join(names))


def output_problems(output_dir: str) -> Iterator[str]:
    """Say why a folder cannot be written, where it cannot; it is made where it is missing."""
    if "://" in output_dir:
        return
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        yield f"OUTPUT_DIR {output_dir} cannot be written ({error.strerror}); set another one."


def _dataset_problems(
    cfg: CfgNode,
    name: str,
    is_trained_on: bool,
    of_images: bool,
    load: Load,
    files: list[Annotations],
) -> Iterator[str]:
    try:
        records = load(name)
        if isinstance(records, DatasetDicts):
            records = records.with_masks(cfg.MODEL.MASK_ON)
            files.extend(records.annotations)
    except KeyError as error:  # whose text is quoted
        yield str(error.args[0])
        return
    except (OSError, ValueError, AssertionError) as error:
        yield f"Data set {name!r}: {error}"
        return
    for problem in _content_problems(cfg, name, records, is_trained_on, of_images):
        yield f"Data set {name!r}: {problem}"


def _content_problems(
    cfg: CfgNode, name: str, records: Records, is_trained_on: bool, of_images: bool
) -> Iterator[str]:
    metadata = MetadataCatalog.get(name)
    if (metadata.get("evaluator_type") == IMAGE_EVALUATOR_TYPE) != of_images:
        yield _OF_ANOTHER_KIND[of_images]
        return
    if of_images:
        yield from image_set_problems(cfg, records, name=name, trained_on=is_trained_on)
        return
    yield from _metadata_problems(metadata)
    images = records.images() if isinstance(records, DatasetDicts) else records
    other_size = describe_other_size(name, len(images))
    if other_size:
        logger.warning(other_size)
    missing = missing_images(record["file_name"] for record in images)
    if missing:
        said = describe_missing(
            missing,
            len(images),
            metadata.get("image_root"),
            is_lvis_style=metadata.get("evaluator_type") == "lvis",
        )
        yield f"{said} {describe_downloads(name)}".rstrip()
    absent = set(missing)
    present = [record for record in images if record["file_name"] not in absent]
    yield from image_problems(
        [record["file_name"] for record in present],
        name=name,
        pixel_range=cfg.INPUT.PIXEL_RANGE,
        sizes=[(record.get("width"), record.get("height")) for record in present],
    )
    yield from _length_problems(cfg, images, is_trained_on)
    num_instances, num_without, num_rle = _mask_counts(records)
    if is_trained_on and not num_instances:
        yield f"it has no usable annotation to train on{unused_regions(records)}."
    if cfg.MODEL.MASK_ON:
        yield from _mask_problems(cfg, num_instances, num_without, num_rle, is_trained_on)


def _length_problems(
    cfg: CfgNode, images: Sequence[dict[str, Any]], is_trained_on: bool
) -> Iterator[str]:
    """Of images that are so long that their short side is resized to no pixel."""
    keys = ["INPUT.MAX_SIZE_TEST"] if cfg.INPUT.MIN_SIZE_TEST else []
    keys += ["INPUT.MAX_SIZE_TRAIN"] if is_trained_on else []
    for key in keys:
        longest = cfg.INPUT[key.removeprefix("INPUT.")]
        sides = {i["file_name"]: (i.get("width") or 1, i.get("height") or 1) for i in images}
        # As detectron2 rounds: half a pixel becomes one.
        lines = [name for name, own in sides.items() if 2 * longest * min(own) < max(own)]
        if lines:
            yield (
                f"{len(lines)} of {counted(len(images), 'image')} "
                f"{agreeing(len(lines), 'is', 'are')} so long that no pixel is left of the short "
                f"side at {key} {longest}: {shortened(lines, 3)}; cut into tiles, leave out, or "
                f"raise {key}."
            )


def _mask_counts(records: Records) -> tuple[int, int, int]:
    """Numbers of instances, of those without a mask, and of those with RLE."""
    if isinstance(records, DatasetDicts):
        kinds = records.mask_kinds()
        is_rle = (kinds == MaskKind.RLE_TEXT) | (kinds == MaskKind.RLE_RUNS)
        return len(kinds), int((kinds == MaskKind.NONE).sum()), int(is_rle.sum())
    instances = [
        annotation
        for record in records
        for annotation in record.get("annotations", ())
        if not annotation.get("iscrowd", 0)
    ]
    num_without = sum("segmentation" not in instance for instance in instances)
    num_rle = sum(isinstance(instance.get("segmentation"), dict) for instance in instances)
    return len(instances), num_without, num_rle


# by whether whole images were expected
_OF_ANOTHER_KIND = {
    True: "it is of annotated instances, but MODEL.META_ARCHITECTURE ImageClassifier needs whole "
    "images with one label each; register them with DATASETS.REGISTER_IMAGES.",
    False: "it is of whole images with one label each, which only MODEL.META_ARCHITECTURE "
    "ImageClassifier takes; start from a configuration below configs/classification.",
}


def _metadata_problems(metadata: Any) -> Iterator[str]:
    num_classes = len(metadata.get("thing_classes") or ())
    for key in ("class_frequency", "class_image_count"):
        values = metadata.get(key)
        if values is not None and len(values) != num_classes:
            yield (
                f"its metadata {key} has {len(values)} entries for {num_classes} classes; give one "
                "a class, or none at all."
            )


def _mask_problems(
    cfg: CfgNode, num_instances: int, num_without: int, num_rle: int, is_trained_on: bool
) -> Iterator[str]:
    if num_without:
        yield (
            f"{num_without} of {counted(num_instances, 'instance')} "
            f"{agreeing(num_without, 'has', 'have')} no segmentation, but MODEL.MASK_ON is True; "
            "add the masks or set MODEL.MASK_ON False."
        )
    if is_trained_on and num_rle and cfg.INPUT.MASK_FORMAT == "polygon":
        yield (
            f"{num_rle} of {counted(num_instances, 'segmentation')} "
            f"{agreeing(num_rle, 'is', 'are')} RLE, but INPUT.MASK_FORMAT is 'polygon'; set it to "
            "'bitmask'."
        )
    if is_trained_on and cfg.INPUT.CROP.ENABLED and cfg.INPUT.MASK_FORMAT == "polygon":
        try:
            require("shapely", "INPUT.CROP.ENABLED with polygon masks")
        except ModuleNotFoundError as error:
            yield f"{error} Or set INPUT.MASK_FORMAT 'bitmask'."


def _class_problems(cfg: CfgNode, names: list[str]) -> Iterator[str]:
    classes = {}
    for name in names:
        # Only of what was loaded: asking others for their classes would read their json again.
        known = vars(MetadataCatalog.get(name)).get("thing_classes") if _is_known(name) else None
        if known:
            classes[name] = list(known)
    if not classes:
        return
    first, *others = classes
    num_classes = len(classes[first])
    if num_classes != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        yield (
            f"Data set {first!r} has {counted(num_classes, 'class')} but "
            "MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{cfg.MODEL.ROI_HEADS.NUM_CLASSES}; set it to {num_classes}."
        )
    for name in others:
        difference = describe_difference(classes[first], classes[name])
        if difference:
            yield (
                f"Data sets {first!r} and {name!r} differ in classes: {difference} Classes are "
                "taken in the order of their ids; give both the same categories."
            )


def _is_known(name: str) -> bool:
    return name in DatasetCatalog.list()
