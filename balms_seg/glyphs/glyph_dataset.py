"""The glyph toy data set: long-tailed instance segmentation that trains in minutes on a CPU.

Letters and signs in random fonts, colours and poses on cluttered backgrounds, with exact polygons
and LVIS fields. The classes of the training split follow a long tail; the validation and held-out
splits hold every class equally often. Every image is a function of (seed, split, image index).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from balms_seg.glyphs.glyph_config import PRESETS, GlyphConfig
from balms_seg.glyphs.glyph_labels import annotated_of
from balms_seg.glyphs.glyph_outlines import category_name, import_matplotlib
from balms_seg.glyphs.glyph_plan import SPLITS, GlyphPlan, keyed_generator, plan_glyphs
from balms_seg.glyphs.glyph_rendering import render_image
from balms_seg.glyphs.lvis_files import file_name, lvis_categories, lvis_content, write_json
from balms_seg.requirements import require
from balms_seg.wording import counted

__all__ = ["PRESETS", "SPLITS", "GlyphConfig", "make_glyph_dataset", "register_glyph_dataset"]

logger = logging.getLogger(__name__)

STAMP = "glyphs.json"  # says which data set a folder holds and whether it is whole
_VERSION = 1  # raise when the same arguments give other images or annotations


def make_glyph_dataset(
    output: str | os.PathLike,
    config: GlyphConfig = PRESETS["default"],
    *,
    workers: int | None = None,
    overwrite: bool = False,
) -> bool:
    """Write train/, val/, heldout/ and their json files; keep what is already there and complete.

    Args:
        output: folder to write to; created where missing.
        config: what to generate.
        workers: processes; None takes one for each available core. The result does not depend
            on it.
        overwrite: replace another glyph data set in `output`.

    Returns:
        Whether anything was written: False where `output` already holds this very data set.

    Raises:
        ValueError: the configuration is impossible.
        FileExistsError: `output` holds something else.
        ModuleNotFoundError: matplotlib or tqdm is missing.
    """
    output = Path(output)
    config = config.resolved()
    workers = _available_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"Expected at least 1 worker process, but got {workers}.")
    arguments = _arguments(config)
    if _is_complete(output, arguments):
        logger.info("%s already holds this data set", output)
        return False
    _check_output(output, arguments, overwrite)
    import_matplotlib()
    require("tqdm", "The glyph data set")
    plan = plan_glyphs(config)
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    # From here on, and until the stamp below, the folder counts as unfinished.
    write_json(output / STAMP, {"complete": False, "arguments": arguments})
    for split in SPLITS:
        (output / f"{split}.json").unlink(missing_ok=True)
        (output / split).mkdir(exist_ok=True)
        for stale in (output / split).glob("*.png"):
            stale.unlink()
    annotations = _draw_all(output, plan, config, workers)
    instance_counts = np.bincount(
        [annotation["category_id"] - 1 for image in annotations["train"] for annotation in image],
        minlength=config.num_classes,
    )
    categories = lvis_categories(
        [category_name(character) for character in plan.characters],
        plan.characters,
        plan.image_counts,
        instance_counts,
    )
    files = {}
    for split in SPLITS:
        name = f"{split}.json"
        info = {"description": f"glyph toy data set, {split} split", "version": str(_VERSION)}
        content = lvis_content(plan.labels[split], annotations[split], config.size, categories)
        write_json(output / name, {"info": info, **content})
        files[name] = (output / name).stat().st_size
    write_json(output / STAMP, {"complete": True, "arguments": arguments, "files": files})
    seconds = time.perf_counter() - started
    total = sum(len(images) for images in plan.instances.values())
    logger.info(
        "Wrote %s of %s to %s in %.1f s",
        *(counted(total, "image"), counted(config.num_classes, "class"), output, seconds),
    )
    return True


def _arguments(config: GlyphConfig) -> dict:
    """What a data set is made of, as its stamp has it."""
    pair = {"instances_per_image": list(config.instances_per_image)}
    return {"version": _VERSION, **dataclasses.asdict(config), **pair}


def _read_stamp(output: Path) -> dict | None:
    try:
        stamp = json.loads((output / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    # An argument that came later had its default then.
    return {**stamp, "arguments": {**_arguments(GlyphConfig()), **stamp["arguments"]}}


def _is_complete(output: Path, arguments: dict) -> bool:
    stamp = _read_stamp(output)
    if not stamp or not stamp.get("complete") or stamp.get("arguments") != arguments:
        return False
    expected = {
        "train": arguments["train_images"],
        "val": arguments["val_images"],
        "heldout": arguments["val_images"],
    }
    sizes_match = all(
        (output / name).is_file() and (output / name).stat().st_size == size
        for name, size in stamp["files"].items()
    )
    return sizes_match and all(
        (output / split).is_dir() and len(os.listdir(output / split)) == count
        for split, count in expected.items()
    )


def _check_output(output: Path, arguments: dict, overwrite: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"Expected a folder, but {output} is a file.")
    stamp = _read_stamp(output)
    if stamp is None and any(output.iterdir()):
        raise FileExistsError(
            f"{output} is not empty and holds no glyph data set; choose another folder."
        )
    if stamp and stamp.get("complete") and stamp["arguments"] != arguments and not overwrite:
        differing = {k for k in arguments if stamp["arguments"].get(k) != arguments[k]}
        raise FileExistsError(
            f"{output} holds a glyph data set with other {', '.join(sorted(differing))}; choose "
            "another folder, or pass --overwrite (overwrite=True) to replace it."
        )


_Task = tuple[str, int, list[int]]


def _draw_all(
    output: Path, plan: GlyphPlan, config: GlyphConfig, workers: int
) -> dict[str, list[list[dict]]]:
    """Draw every image; annotations by split and image."""
    tasks = [(s, i, c) for s in SPLITS for i, c in enumerate(plan.instances[s])]
    annotations: dict[str, list[list[dict]]] = {split: [] for split in SPLITS}
    draw = functools.partial(_draw_one, output, plan.characters, config)
    results = _map_parallel(draw, tasks, workers)
    progress = require("tqdm", "The glyph data set").tqdm(
        results, total=len(tasks), desc="glyphs", unit="image", disable=None
    )
    for (split, index, _), drawn in zip(tasks, progress, strict=True):
        annotations[split].append(annotated_of(drawn, plan.labels[split][index]))
    return annotations


def _available_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _map_parallel(
    draw: functools.partial, tasks: list[_Task], workers: int
) -> Iterator[list[dict]]:
    if workers <= 1:
        yield from map(draw, tasks)
        return
    # Not fork: a fork of a process whose libraries run threads can hang.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])  # imported once, not in every worker
    with context.Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap(draw, tasks, chunksize=8)


def _draw_one(
    output: Path, characters: tuple[str, ...], config: GlyphConfig, task: _Task
) -> list[dict]:
    """Draw and write one image; its annotations without ids."""
    split, index, classes = task
    rng = keyed_generator(config.seed, SPLITS.index(split), index)
    image, instances, _ = render_image(characters, classes, config.size, config.faces, rng)
    path = output / split / file_name(index)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise OSError(f"Could not write {path}; check the free space and the permissions.")
    return [{**i.annotation(), "category_id": i.class_index + 1} for i in instances]


def register_glyph_dataset(root: str | os.PathLike, prefix: str = "glyphs") -> list[str]:
    """Register `{prefix}_train`, `{prefix}_val` and `{prefix}_heldout` with detectron2.

    Args:
        root: folder that `make_glyph_dataset` wrote.
        prefix: start of the registered names.

    Returns:
        The registered names.

    Raises:
        FileNotFoundError: `root` holds no complete glyph data set.
    """
    from balms_seg.data.instances.registration import register_long_tailed_instances

    root = Path(root)
    if not (_read_stamp(root) or {}).get("complete"):
        raise FileNotFoundError(
            f"{root} holds no complete glyph data set; make one with "
            f"`balms-seg glyphs --output {root}`."
        )
    names = []
    for split in SPLITS:
        names.append(f"{prefix}_{split}")
        register_long_tailed_instances(names[-1], str(root / f"{split}.json"), str(root / split))
    return names
