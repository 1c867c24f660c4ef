"""One self-contained HTML page about one run or several side by side."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations import ImageFolder, read_annotations
from balms_seg.evaluation.output.next_to_nothing import is_next_to_nothing
from balms_seg.evaluation.predictions.stored_detections import read_stored_detections
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.jackknife import ap_intervals
from balms_seg.evaluation.uncertainty.run_comparison import compare_runs
from balms_seg.report import (
    figure_sections,
    image_confusion,
    image_sections,
    sections,
    table_sections,
)
from balms_seg.report.class_rows import class_rows
from balms_seg.report.document import assemble
from balms_seg.report.figure_sections import PageContent
from balms_seg.report.findings import find_classes
from balms_seg.report.gallery import (
    GalleryEntry,
    GallerySource,
    choose_objects,
    make_entry,
    make_label_entry,
)
from balms_seg.report.object_fates import find_fates
from balms_seg.report.pictures import ground_truth_of_run
from balms_seg.report.run_files import (
    IMAGE_TASK,
    TASK_NAMES,
    Run,
    groups_of,
    match_file_names_of,
    pixel_range_of,
)
from balms_seg.report.shared_groups import differences_in_words, with_shared_groups
from balms_seg.report.suspicious_labels import (
    CSV_FILE,
    KINDS,
    find_suspicious_labels,
    write_suspicious_labels,
)
from balms_seg.report.unannotated import Unannotated, find_unannotated
from balms_seg.requirements import require

logger = logging.getLogger(__name__)

# html of the sections; columns and rows of the table of classes
Parts = tuple[list[str], list[dict[str, Any]], list[dict[str, Any]]]

_NUM_FAILURES, _NUM_SUCCESSES = 8, 4
_NUM_LABELS = 4  # pictures of each kind


def write_report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    ground_truth_json: str | Path | None = None,
    image_root: str | Path | None = None,
    num_resamples: int = 1000,
) -> list[Path]:
    """Write the page; what a run lacks is left out, and said.

    Args:
        runs: of one data set.
        path: html to write.
        ground_truth_json: annotations of the data set; without, there is no fate of each object,
            no confusion and no gallery.
        image_root: folder of its images; without, there is no gallery.
        num_resamples: for the intervals; 0 for none.

    Returns:
        What else was written, beside the page.

    Raises:
        ModuleNotFoundError: the plotting library is not installed.
        ValueError: the runs are of different data sets or jobs, or a file is malformed.
    """
    script = _plotting_script()
    if len({run.main_task == IMAGE_TASK for run in runs}) != 1:
        raise ValueError("Expected runs of one job, but some classify images and some do not.")
    classifies_images = runs[0].main_task == IMAGE_TASK
    # Classifiers are paired by the paths of their images, whatever their sets are called.
    if not classifies_images and len({run.dataset for run in runs}) != 1:
        shown = ", ".join(f"{run.name}: {run.dataset}" for run in runs)
        raise ValueError(
            f"Expected runs evaluated on one data set, but got {shown}; name one with --dataset."
        )
    content = PageContent()
    build = _image_parts if classifies_images else _instance_parts
    parts, columns, rows = build(
        runs,
        content,
        ground_truth_json=ground_truth_json,
        image_root=image_root,
        num_resamples=num_resamples,
        folder=Path(path).parent,
    )
    for note in content.notes:
        logger.warning("%s", note)
    parts.append(
        sections.section(
            "provenance",
            "Where this comes from",
            *map(sections.note, content.notes),
            sections.grid([sections.provenance(run, several=len(runs) > 1) for run in runs]),
        )
    )
    data = {"figures": content.figures, "columns": columns, "classes": rows}
    text = assemble(runs, [part for part in parts if part], data, script)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return content.files


def _instance_parts(
    runs: Sequence[Run],
    content: PageContent,
    *,
    ground_truth_json: str | Path | None,
    image_root: str | Path | None,
    num_resamples: int,
    folder: Path,
) -> Parts:
    classes_differ = differences_in_words(runs)
    runs = with_shared_groups(runs)
    source, unannotated = _read_objects(runs, ground_truth_json, image_root, content)
    fates = source.fates if source is not None else [None] * len(runs)
    findings = [find_classes(run, run.main_task, own) for run, own in zip(runs, fates, strict=True)]
    intervals = _intervals(runs, num_resamples)
    differences = _differences(runs, num_resamples, content)
    labels = []
    tells_of_labels = all(map(_finds_something, runs))
    if source is not None and tells_of_labels:
        labels = find_suspicious_labels(source.ground_truth, source.fates, unannotated)
    entries: list[GalleryEntry] = []
    contradicted: list[GalleryEntry] = []
    if source is not None and image_root is not None:
        source = GallerySource(
            source.ground_truth,
            ImageFolder.of(
                source.ground_truth.annotations, image_root, match_file_names_of(runs[0])
            ),
            source.fates,
            findings,
            pixel_range_of(runs[0]),
        )
        entries = _gallery_entries(source)
        for kind in KINDS:
            own = [one for one in labels if one.kind == kind][:_NUM_LABELS]
            contradicted += _present(make_label_entry(source, one) for one in own)
    elif source is not None:
        content.notes.append("No pictures: the folder of the images is not known (--images).")
    if not tells_of_labels:
        (folder / CSV_FILE).unlink(missing_ok=True)  # of an earlier evaluation
    if source is not None and not tells_of_labels:
        content.notes.append(f"No {CSV_FILE}: {table_sections.NO_LABELS}")
    elif source is not None:
        content.files.append(write_suspicious_labels(labels, folder / CSV_FILE))
    columns, rows = class_rows(runs, findings)
    parts = [
        sections.verdict(runs, findings, differences, classes_differ),
        sections.section("headline", "Headline", sections.headline(runs, intervals)),
        figure_sections.group_section(runs, intervals, content),
        figure_sections.class_section(runs, findings, columns, content),
        figure_sections.error_section(runs, findings, fates, content),
        figure_sections.gallery_section(runs, entries),
        table_sections.label_section(runs, labels, contradicted)
        if tells_of_labels
        else table_sections.no_label_section(),
        table_sections.threshold_section(runs),
        figure_sections.reliability_section(runs, content),
        figure_sections.curve_section(runs, content),
        figure_sections.rates_section(runs, content),
    ]
    return parts, columns, rows


def _finds_something(run: Run) -> bool:
    ap = run.metrics[run.main_task].get("AP", 0.0)
    return not is_next_to_nothing([np.nan_to_num(ap)])  # without ground truth nothing is found


def _image_parts(runs: Sequence[Run], content: PageContent, **_: Any) -> Parts:
    differences = differences_in_words(runs)
    runs = with_shared_groups(runs)
    columns, rows = image_sections.class_rows(runs)
    parts = [
        image_sections.verdict(runs, differences),
        sections.section("headline", "Headline", image_sections.headline(runs)),
        image_sections.group_section(runs, content),
        image_sections.class_section(runs, columns, content),
        image_confusion.confusion_section(runs, content),
        figure_sections.reliability_section(runs, content),
        figure_sections.curve_section(runs, content),
        figure_sections.rates_section(runs, content),
    ]
    return parts, columns, rows


def _plotting_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    script = require("vl_convert", "Drawing the report's figures").javascript_bundle()
    return re.sub("</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def _read_objects(
    runs: Sequence[Run],
    ground_truth_json: str | Path | None,
    image_root: str | Path | None,
    content: PageContent,
) -> tuple[GallerySource | None, list[Unannotated]]:
    """Ground truth, fates, and what seems not annotated; None where a part of them is missing."""
    if ground_truth_json is None:
        content.notes.append(
            "No fate of each object, no confusion, no pictures: the annotations of "
            f"{runs[0].dataset} are not known (--ground-truth)."
        )
        return None, []
    if any(run.detections is None or not run.tasks[run.main_task].classes for run in runs):
        return None, []
    annotations = read_annotations(ground_truth_json)
    truth = ground_truth_of_run(
        annotations,
        groups_of(runs[0], list(annotations.contiguous_ids)),
        image_root=image_root,
        match_file_names=match_file_names_of(runs[0]),
    )
    task = runs[0].main_task
    of_task, fates, unannotated = truth.for_task(task), [], []
    for run in runs:
        if len(run.tasks[run.main_task].classes or ()) != truth.num_classes:
            raise ValueError(
                f"Expected results of {truth.num_classes} classes as in {ground_truth_json}, but "
                f"{run.folder} has others; give the annotations it was evaluated on."
            )
        stored = read_stored_detections(run.detections or "", truth, with_masks=task != "bbox")
        table = stored.of_task(task)
        shaped = table.take(np.flatnonzero(table.has_shape(task)))
        fates.append(find_fates(truth, shaped, task))
        unannotated.append(find_unannotated(of_task, shaped, fates[-1]))
    return GallerySource(of_task, ImageFolder(""), fates, []), unannotated


def _intervals(runs: Sequence[Run], num_resamples: int) -> dict[str, list[sections.Intervals]]:
    found: dict[str, list[sections.Intervals]] = {}
    for task in TASK_NAMES:
        found[task] = []
        for run in runs:
            matches = run.tasks[task].matches if task in run.tasks else None
            ends: dict[str, tuple[float, float]] = {}
            if matches is not None and num_resamples:
                found_ends = ap_intervals(matches)
                ends = {name: (100 * low, 100 * high) for name, (low, high) in found_ends.items()}
            found[task].append(ends)
    return found


def _differences(
    runs: Sequence[Run], num_resamples: int, content: PageContent
) -> list[dict[str, Difference]]:
    """Of each further run to the first; empty where matches are missing."""
    found: list[dict[str, Difference]] = []
    for run in runs[1:]:
        ours, theirs = (
            one.tasks[runs[0].main_task].matches if one.tasks else None for one in (runs[0], run)
        )
        if num_resamples < 2 or ours is None or theirs is None:
            content.notes.append(
                f"{run.name} is not compared with chance: its matches are missing."
            )
            found.append({})
        else:
            found.append(compare_runs(ours, theirs, num_resamples=num_resamples))
    return found


def _gallery_entries(source: GallerySource) -> list[GalleryEntry]:
    chosen = [
        *choose_objects(source, _NUM_FAILURES, right=False),
        *choose_objects(source, _NUM_SUCCESSES, right=True),
    ]
    return _present(make_entry(source, position) for position in chosen)


def _present(entries: Iterable[GalleryEntry | None]) -> list[GalleryEntry]:
    return [entry for entry in entries if entry is not None]
