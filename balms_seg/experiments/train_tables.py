"""Trains what tables take, and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json
from balms_seg.experiments.cost import Cost, read_cost
from balms_seg.experiments.forked_runs import prepare_forks, start_fork
from balms_seg.experiments.machine import describe_hardware, places
from balms_seg.experiments.processes import start_process
from balms_seg.experiments.records import Record, read_record
from balms_seg.experiments.runs import is_finished, train_all
from balms_seg.experiments.table import build_table, published_runs, write_table
from balms_seg.experiments.table_data import MAKERS
from balms_seg.experiments.table_plan import Run, TablePlan

_NO_COLUMNS = {"row", "seed", "iteration", "commit", "versions", "config"}
_CLOCK = "time_seconds"
_COSTS = (_CLOCK, "processor_seconds")  # in the order of Cost


@dataclass(frozen=True)
class NamedTable:
    """A table, and the file it is written to.

    Attributes:
        plan: what it is of.
        path: without an ending.
        command: the words that make it again.
        goes_on: runs that the file holds are kept and not repeated.
        rows: those to train; none: all.
        num_seeds: the first so many to train; None: all.
    """

    plan: TablePlan
    path: Path
    command: str
    goes_on: bool = False
    rows: tuple[str, ...] = ()
    num_seeds: int | None = None

    def published(self) -> Mapping[tuple[str, int], Record]:
        """Runs that are kept; none where the file is of another schedule."""
        if not self.goes_on:
            return {}
        about = {name: self.plan.about.get(name) for name in ("iterations", "split")}
        return published_runs(self.path.with_name(f"{self.path.name}.json"), **about)

    def wanted(self) -> list[Run]:
        """The runs that are asked for."""
        return [
            run
            for run in self.plan.runs()
            if not self.rows or run.row in self.rows
            if self.num_seeds is None or run.seed - self.plan.first_seed < self.num_seeds
        ]

    def missing(self, output: Path) -> list[Run]:
        """Those of them that are neither kept nor finished in the folder of the runs' folders."""
        kept = self.published()
        return [
            run
            for run in self.wanted()
            if (run.row, run.seed) not in kept and not is_finished(output / run.name)
        ]

    def write(self, output: Path, num_gpus: int = 0) -> str | None:
        """Write what is finished; the table for people, or None where nothing is."""
        plan, published = self.plan, self.published()
        is_kept = any((run.row, run.seed) in published for run in plan.runs())
        hardware = _hardware(self.path, is_kept=is_kept)
        # On a CPU other work lengthens a run; its processor time says what it costs.
        hidden = _NO_COLUMNS if num_gpus else {*_NO_COLUMNS, _CLOCK}
        records = []
        for run in plan.runs():
            if (run.row, run.seed) in published:
                records.append(published[run.row, run.seed])
            elif is_finished(output / run.name):
                records.append(_record(run, output, plan.split))
                hardware[describe_hardware(num_gpus)] = None
        if not records:
            return None
        names = dict.fromkeys(name for record in records for name in record)
        table = build_table(
            records,
            [name for name in names if name not in hidden],
            plan.all_pairs(),
            **plan.about,
            command=self.command,
            hardware="; ".join(hardware),
        )
        figures = {name: row.cited for name, row in plan.rows.items()}
        cited = (plan.cited, figures) if plan.cited else None
        return write_table(table, self.path, note=plan.note, cited=cited)


def _hardware(path: Path, *, is_kept: bool) -> dict[str, None]:
    """What kept runs of a table were trained on, in the table's words."""
    if not is_kept:
        return {}
    return dict.fromkeys(read_json(path.with_name(f"{path.name}.json"))["hardware"].split("; "))


def train_runs(
    runs: Sequence[Run],
    plans: Sequence[TablePlan],
    output: Path,
    *,
    num_jobs: int,
    gpus: Sequence[str] = (),
    imports: Sequence[str] = (),
    minutes: float | None = None,
) -> list[str]:
    """Make the tables' data, and train runs, short ones first: an interrupted table has whole rows.

    Args:
        runs: of the plans.
        plans: what they are of.
        output: folder of the runs' folders.
        num_jobs: how many side by side.
        gpus: as CUDA_VISIBLE_DEVICES names them; empty: on the CPU.
        imports: modules that register methods.
        minutes: end after so many; None: when all are done.

    Returns:
        Names of the runs that failed.
    """
    if not runs:
        return []
    for data in sorted({plan.data for plan in plans if plan.data}):
        MAKERS[data]()
    features = [plan.features for plan in plans if plan.features]
    for subset in features:
        subset.read()
    if features:  # whose runs take seconds, which is less than a process takes to start
        prepare_forks()

    def command(run: Run, output: Path) -> list[str]:
        return run.train_command(output, num_gpus=len(gpus), imports=imports)

    ordered = sorted(runs, key=lambda run: run.iterations or 0)
    return train_all(
        ordered,
        output,
        command,
        places=places(num_jobs, list(gpus)),
        minutes=minutes,
        start=start_fork if features else start_process,
    )


def _record(run: Run, output: Path, split: str | None) -> dict[str, Any]:
    """What the table keeps of a run; its cost is that of all stages, or missing where one is."""
    record = read_record(output / run.name, run.row, run.seed, split)
    if not run.after:
        return record
    cost = _cost(run, output)
    seconds = {} if cost is None else dict(zip(_COSTS, astuple(cost), strict=True))
    return {key: value for key, value in record.items() if key not in _COSTS} | seconds


def _cost(run: Run, output: Path) -> Cost | None:
    own = read_cost(output / run.name)
    before = _cost(run.after, output) if run.after else Cost()
    return None if own is None or before is None else own + before
