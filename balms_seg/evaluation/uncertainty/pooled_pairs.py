"""Several pairs of runs, a training seed each: what their differences come to over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from balms_seg.evaluation.lvis.lvis_ap import TELLING_AP
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE, layout_table
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.run_comparison import (
    NOT_JUDGED,
    explain_not_judged,
    nothing_yet,
    verdict,
)
from balms_seg.evaluation.uncertainty.run_differences import TrainedClasses, describe_differences
from balms_seg.evaluation.uncertainty.run_lengths import (
    describe_short_runs,
    describe_unequal_lengths,
)
from balms_seg.evaluation.uncertainty.run_seeds import describe_seeds, read_training
from balms_seg.evaluation.uncertainty.seed_differences import mean_difference


@dataclass(frozen=True)
class MeasuredRuns:
    """What several runs reach on one evaluation set, in one task.

    Attributes:
        title: of its table.
        values: of each run, fractions by metric; nan where not defined.
        num_classes: with objects, by metric; empty where the job does not judge by them.
        trained: classes of each run.
    """

    title: str
    values: Sequence[Mapping[str, float]]
    num_classes: Mapping[str, int]
    trained: Sequence[TrainedClasses]


@dataclass(frozen=True)
class Pairs:
    """Runs of two kinds, A and B, in pairs.

    Attributes:
        first: output folders of A, or files in them, one a seed.
        second: those of B, in the same order.
    """

    first: tuple[Path, ...]
    second: tuple[Path, ...]

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second):
            raise ValueError(
                f"Expected pairs, but got {len(self.first)} runs and {len(self.second)} after "
                "--with: give as many, in the order of their seeds."
            )

    @property
    def runs(self) -> tuple[Path, ...]:
        """Those of A, then those of B."""
        return self.first + self.second

    @property
    def names(self) -> tuple[str, ...]:
        """A1, A2, ..., then B1, B2, ..."""
        return tuple(f"{side}{number + 1}" for side in "AB" for number in range(len(self.first)))


def format_pairs(pairs: Pairs, measured: Sequence[MeasuredRuns], *, level: float = 0.95) -> str:
    """The pairs, a table for each evaluation, and what limits them.

    Args:
        pairs: two or more.
        measured: their runs on each evaluation set and task that all have in common.
        level: of the intervals.
    """
    number = len(pairs.first)
    lines = [*layout_table([["pair", "A", "B", "training seed"], *_pair_rows(pairs)])]
    lines += _early_notes(pairs)
    for one in measured:
        lines += [f"\n{one.title}; differences: B minus A", *_table(one, number, level)]
        lines += _class_notes(one.trained)
    meaning = (
        f"The intervals are Student's over {number} pairs of trainings, on one set of images. "
        "Other images would move the differences, too: balms-seg compare A B says by how much, for "
        "one pair."
    )
    return "\n".join([*lines, f"\n{meaning}", *_late_notes(pairs, measured)])


def _pair_rows(pairs: Pairs) -> Iterator[list[str]]:
    for number, runs in enumerate(zip(pairs.first, pairs.second, strict=True), start=1):
        seeds = [read_training(run).seed for run in runs]
        shown = dict.fromkeys("unknown" if seed is None else str(seed) for seed in seeds)
        yield [str(number), *map(str, runs), " and ".join(shown)]


def _early_notes(pairs: Pairs) -> Iterator[str]:
    unequal = describe_unequal_lengths(pairs.runs, pairs.names)
    if unequal:
        yield unequal
    number = len(pairs.first)
    for side in (slice(number), slice(number, None)):
        yield from _repeated_trainings(pairs.runs[side], pairs.names[side])


def _repeated_trainings(runs: Sequence[Path], names: Sequence[str]) -> Iterator[str]:
    """Say where runs of one side are no trainings of their own."""
    seen: dict[tuple[str, str], list[str]] = {}  # what they share, and which one of it
    for run, name in zip(runs, names, strict=True):
        training = read_training(run)
        if training.seed is None:
            shared = "the same training", training.weights or str(run.resolve())
        else:
            shared = "of one seed", str(training.seed)
        seen.setdefault(shared, []).append(name)
    for (what, _), own in seen.items():
        if len(own) > 1:
            yield (
                f"{' and '.join(own)} are {what}. The intervals take each pair for a training of "
                "its own, so they are too narrow here; give each pair another SEED."
            )


def _table(measured: MeasuredRuns, num_pairs: int, level: float) -> Iterator[str]:
    numbered = [f"pair {number + 1}" for number in range(num_pairs)]
    head = ["metric", "classes", "mean A", "mean B", *numbered, "mean difference"]
    rows = [[*head, f"{100 * level:g}% interval over seeds", "larger than chance"]]
    for metric in measured.values[0]:
        values = [run[metric] for run in measured.values]
        rows.append([metric, *_cells(values, measured.num_classes.get(metric), level)])
    if not measured.num_classes:
        rows = [[row[0], *row[2:]] for row in rows]
    yield from layout_table(rows)
    if any(row[-1] == NOT_JUDGED for row in rows):
        yield explain_not_judged("pair")


def _cells(values: Sequence[float], num_classes: int | None, level: float) -> Iterator[str]:
    """Of one metric, from the values of A, then of B."""
    number = len(values) // 2
    gaps = [b - a for a, b in zip(values[:number], values[number:], strict=True)]
    yield NOT_AVAILABLE if num_classes is None else str(num_classes)
    if any(gap != gap for gap in gaps):
        yield from [NOT_AVAILABLE] * (number + 5)
        return
    over_seeds = mean_difference(gaps, level=level)
    found = Difference(
        fmean(values[:number]),
        fmean(values[number:]),
        over_seeds.low,
        over_seeds.high,
        num_classes=num_classes,
    )
    yield from (f"{100 * mean:.2f}" for mean in (found.first, found.second))
    yield from (f"{100 * gap:+.2f}" for gap in (*gaps, over_seeds.mean))
    yield f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    yield verdict(found)


def _class_notes(trained: Sequence[TrainedClasses]) -> Iterator[str]:
    """What makes runs less comparable with the first, runs that agree in it together."""
    first, *others = trained
    alike: list[list[TrainedClasses]] = []
    for one in others:
        for group in alike:
            if (group[0].groups, group[0].image_counts) == (one.groups, one.image_counts):
                group.append(one)
                break
        else:
            alike.append([one])
    for group in alike:
        names = ", ".join(one.run for one in group)
        one = TrainedClasses(names, group[0].groups, group[0].image_counts)
        yield from describe_differences(first, one)


def _late_notes(pairs: Pairs, measured: Sequence[MeasuredRuns]) -> Iterator[str]:
    number = len(pairs.first)
    for index in range(number):
        names = pairs.names[index], pairs.names[number + index]
        said = describe_seeds(pairs.first[index], pairs.second[index], names)
        if said:
            yield said
    too_early = describe_short_runs(pairs.runs, pairs.names)
    if max(run.get("AP", 1) for one in measured for run in one.values) < TELLING_AP:
        too_early = nothing_yet("All runs")
    if too_early:
        yield too_early
