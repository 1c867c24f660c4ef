"""Figures of class frequency, accuracy by frequency group and learned rates. Needs matplotlib."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.requirements import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUP_COLORS = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in GROUP_COLORS)
_TASK_COLORS = {"bbox": "#9db4c0", "segm": "#2f6f8f"}
_TASK_NAMES = {"bbox": "boxes", "segm": "masks"}
_INK, _FAINT = "#333333", "#e4e4e4"
_MOST_NAMES = 100  # of classes on an axis
# last letter of the metric -> its group
_LVIS_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}


def plot_class_frequency(statistics: Mapping[str, Any], path: str | Path) -> None:
    """Plot the images of each class by name, most frequent first, coloured by frequency group.

    Of more than 100 classes every so many-th has its name below its bar.

    Args:
        statistics: `ClassStatistics.to_dict()`.
        path: where to write; the suffix says the format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    counts = np.asarray(statistics["image_counts"])
    group_ids, names = np.asarray(statistics["group_ids"]), statistics["group_names"]
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty(len(counts), int)
    ranks[order] = np.arange(1, len(counts) + 1)

    figure, axes = _new_figure(max(7.2, 0.16 * min(len(counts), _MOST_NAMES)), 4.4)
    axes.set_yscale("log")
    floor = 0.7  # below one image, so that a class with one image has a visible bar
    for group in reversed(range(len(names))):
        members = group_ids == group
        present = members & (counts > 0)
        axes.bar(
            ranks[present],
            counts[present] - floor,
            bottom=floor,
            width=1.0 if len(counts) > 150 else 0.82,
            color=_GROUP_COLORS[group],
            linewidth=0,
        )
        # Not the bars' own legend entry, which has no colour where a group is empty.
        size = _plural(int(members.sum()), "class", "classes")
        axes.plot([], [], "s", color=_GROUP_COLORS[group], label=f"{names[group]}: {size}")
    num_empty = int((counts == 0).sum())
    if num_empty:
        first = len(counts) - num_empty + 0.5
        axes.axvspan(first, len(counts) + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
        axes.plot([], [], "s", color="#dddddd", label=f"without an image: {num_empty}")
    axes.set_xlim(0.5, len(counts) + 0.5)
    named = np.unique(np.linspace(0, len(counts) - 1, min(len(counts), _MOST_NAMES)).astype(int))
    shown = [_axis_name(statistics["class_names"][i]) for i in order[named]]
    axes.set_xticks(named + 1, shown, rotation=90, fontsize=7)
    axes.set_ylim(floor, max(counts.max(), 2) * 1.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("classes, most frequent first")
    axes.set_ylabel("training images")
    axes.set_title(
        f"{len(counts)} classes in {statistics['num_images']:,} images", loc="left", color=_INK
    )
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    _save(figure, path)


def plot_ap_by_group(
    metrics: Mapping[str, Mapping[str, float | None]],
    path: str | Path,
    *,
    group_sizes: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Plot AP overall and by frequency group, for boxes and masks side by side.

    Args:
        metrics: of one data set, as results.json has them: "bbox" and "segm" to "AP", "APr", "APc"
            and "APf" in percent; None, NaN or absent where a group is empty.
        path: where to write; the suffix says the format.
        group_sizes: group name to {"classes": how many}, as in results.json; shown if given.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is neither a "bbox" nor a "segm" entry.
    """
    tasks = [task for task in _TASK_NAMES if task in metrics]
    if not tasks:
        raise ValueError(
            f"Expected metrics of 'bbox' or 'segm', but got {sorted(metrics)}; evaluate first."
        )
    sizes = group_sizes or {}
    labels = ["all classes", *(_group_label(name, sizes) for name in _LVIS_GROUPS.values())]
    keys = ["AP", *(f"AP{letter}" for letter in _LVIS_GROUPS)]

    figure, axes = _new_figure(6.4, 3.6)
    width = 0.8 / len(tasks)
    for position, task in enumerate(tasks):
        values = [_number(metrics[task].get(key)) for key in keys]
        centers = np.arange(len(keys)) + (position - (len(tasks) - 1) / 2) * width
        axes.bar(
            centers,
            np.nan_to_num(values),
            width=width * 0.94,
            color=_TASK_COLORS[task],
            label=_TASK_NAMES[task],
        )
        _label_bars(axes, centers, values)
    axes.axvline(0.5, color=_FAINT, linewidth=1)
    axes.set_xticks(range(len(keys)), labels)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("AP (%)")
    axes.margins(y=0.14)
    axes.set_ylim(bottom=0)
    axes.set_title("AP by frequency of the class in training", loc="left", color=_INK)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def plot_meta_rates(rates: str | Path, path: str | Path) -> None:
    """Plot what the meta step learned: each class against its frequency, and groups over time.

    The left panel has each class's last rate (or loss weight) over its training images, with a
    hollow mark where it started; the right one the mean of each frequency group at each recorded
    iteration, within the range that 80% of its classes are in.

    Args:
        rates: meta_rates.csv of a run: class_id, name, group, training_images, training_instances,
            iteration, value; one line a class and recorded iteration.
        path: where to write; the suffix says the format.

    Raises:
        FileNotFoundError: there is no such csv.
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the csv is empty.
    """
    with open(rates, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not lines:
        raise ValueError(f"Expected learned rates in {rates}, but it has none; train first.")
    iterations = np.unique([int(line["iteration"]) for line in lines])
    classes = np.array([int(line["class_id"]) for line in lines])
    ids, rows = np.unique(classes, return_inverse=True)
    columns = np.searchsorted(iterations, [int(line["iteration"]) for line in lines])
    values = np.full((len(ids), len(iterations)), np.nan)
    values[rows, columns] = [float(line["value"]) for line in lines]
    images, groups = np.zeros(len(ids)), np.empty(len(ids), dtype=object)
    images[rows] = [float(line["training_images"]) for line in lines]
    groups[rows] = [line["group"] for line in lines]

    figure, (by_class, over_time) = _new_figure(9.2, 3.6, num_panels=2)
    names = sorted(set(groups), key=lambda name: np.median(images[groups == name]))
    for name, color in zip(names, _GROUP_COLORS, strict=False):
        members = groups == name
        seen = np.maximum(images[members], 0.7)  # a class without an image has a place too
        by_class.plot(seen, values[members, 0], "o", mec=color, mfc="none", ms=4, alpha=0.45)
        by_class.plot(seen, values[members, -1], "o", color=color, ms=4, alpha=0.85)
        over_time.plot(iterations, np.nanmean(values[members], axis=0), color=color, label=name)
        low, high = np.nanpercentile(values[members], [10, 90], axis=0)
        over_time.fill_between(iterations, low, high, color=color, alpha=0.15, linewidth=0)
    by_class.set_xscale("log")
    by_class.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    by_class.set_xlabel("training images of the class")
    by_class.set_ylabel("learned rate or weight")
    by_class.set_title("Classes: start (hollow) and end", loc="left", color=_INK)
    over_time.set_xlabel("iteration")
    over_time.set_title("Mean of each group, and 80% of its classes", loc="left", color=_INK)
    over_time.legend(frameon=False, fontsize=9)
    _save(figure, path)


def _group_label(name: str, sizes: Mapping[str, Mapping[str, int]]) -> str:
    if name not in sizes:
        return name
    return f"{name}\n{_plural(sizes[name]['classes'], 'class', 'classes')}"


def _axis_name(name: str) -> str:
    """Short, and without what matplotlib takes for the begin of a formula."""
    short = name if len(name) <= 24 else f"{name[:23]}…"
    return short.replace("$", r"\$")


def _plural(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _label_bars(axes: Axes, centers: np.ndarray, values: Sequence[float]) -> None:
    for center, value in zip(centers, values, strict=True):
        text = "n/a" if np.isnan(value) else f"{value:.1f}"
        axes.annotate(
            text,
            (center, np.nan_to_num(value)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_INK,
        )


def _new_figure(
    width_inches: float, height_inches: float, num_panels: int = 1
) -> tuple[Figure, Any]:
    """A figure and its axes; with several panels, an array of them that share the y axis."""
    figure_class = require("matplotlib.figure", "Drawing figures").Figure
    # Figure without pyplot: no window, no global state, any thread.
    figure = figure_class(figsize=(width_inches, height_inches), layout="constrained")
    panels = figure.subplots(1, num_panels, sharey=True)
    for axes in np.atleast_1d(panels):
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#999999")
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.tick_params(axis="y", length=0, labelcolor=_INK, which="both")
        axes.set_axisbelow(True)
    return figure, panels


def _save(figure: Figure, path: str | Path) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
