"""What a table is of: its rows, and the runs that they take."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from balms_seg.experiments.feature_subsets import FeatureSubset


@dataclass(frozen=True)
class Row:
    """How a row is trained.

    Attributes:
        opts: KEY, VALUE, ... over the configuration.
        config_file: path or name of a yaml; None: the table's.
        iterations: None: those of the table, or else of the configuration.
        after: the stage or row whose weights it starts from.
        seed: None: that of the run; else one run with this seed serves all.
        eval_only: nothing is trained.
        parted: of features: a part of the training images is left out, as a meta set.
        cited: its figure in a publication.
    """

    opts: tuple[str, ...] = ()
    config_file: str | None = None
    iterations: int | None = None
    after: str | None = None
    seed: int | None = None
    eval_only: bool = False
    parted: bool = False
    cited: float | None = None


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        row: of the table.
        seed: of the run.
        name: folder of the run; rows and tables that ask for the same run share it.
        config_file: path or name of a yaml.
        opts: KEY, VALUE, ... over it.
        iterations: None: those of the configuration.
        after: the run whose weights it starts from.
        features: the images that it trains on, where they are given as features.
        eval_only: nothing is trained.
    """

    row: str
    seed: int
    name: str
    config_file: str
    opts: tuple[str, ...]
    iterations: int | None = None
    after: Run | None = None
    features: FeatureSubset | None = None
    eval_only: bool = False

    def train_command(
        self, output: Path, *, num_gpus: int = 0, imports: Sequence[str] = ()
    ) -> list[str]:
        """`balms-seg train`, which resumes what an interruption left, or evaluates."""
        own = {"SEED": str(self.seed), "OUTPUT_DIR": str((output / self.name).resolve())}
        if num_gpus:
            own["MODEL.DEVICE"] = "cuda"  # configurations for a CPU name theirs
        if self.after:
            weights = output / self.after.name / "model_final.pth"
            own["MODEL.WEIGHTS"] = str(weights.resolve())
        program = [sys.executable, "-m", "balms_seg", "train", "--config-file", self.config_file]
        program += ["--num-gpus", "1" if num_gpus else "0"]
        program += [word for name in imports for word in ("--import", name)]
        program += ["--eval-only" if self.eval_only else "--resume"]
        first = self.features.opts(self.seed) if self.features else []
        if self.iterations:
            first += ["SOLVER.MAX_ITER", str(self.iterations)]
        return [*program, *first, *self.opts, *(word for pair in own.items() for word in pair)]


@dataclass(frozen=True)
class TablePlan:
    """Rows x seeds, and what their table says.

    Attributes:
        about: title and what else the table's json is to say.
        note: what the rows are of, in words.
        rows: by name.
        seeds: how many of each row: 0, 1, ...
        config_file: of the rows that have none of their own.
        seeds_of: rows with another number of seeds.
        first_seed: where the seeds begin.
        stages: rows that are trained for others to start from, and not told.
        opts: KEY, VALUE, ... of all rows, behind their own; stages have none of them.
        iterations: of the rows that have none of their own; None: those of the configuration.
        split: the data set whose metrics are told; None: all.
        against: the row that each other one is compared with.
        pairs: left and right row of more differences.
        folder: how the runs' folders are named, before their seeds.
        cited: heading of the rows' figures in a publication.
        data: what is made where it is not there yet, a name in `table_data.MAKERS`.
        features: what the rows train on instead.
        gpu_memory_mb: of a run, which needs a GPU and may share it; None: any machine will do.
        num_gpus: None: all there are.
    """

    about: Mapping[str, Any]
    note: str
    rows: Mapping[str, Row]
    seeds: int
    config_file: str | None = None
    seeds_of: Mapping[str, int] = field(default_factory=dict)
    first_seed: int = 0
    stages: Mapping[str, Row] = field(default_factory=dict)
    opts: tuple[str, ...] = ()
    iterations: int | None = None
    split: str | None = None
    against: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    folder: str = "{config}_{features}_{settings}_{iterations}"
    cited: str | None = None
    data: str | None = None
    features: FeatureSubset | None = None
    gpu_memory_mb: int | None = None
    num_gpus: int | None = None

    def __post_init__(self) -> None:
        recipes = {**self.stages, **self.rows}
        named = {name for pair in self.all_pairs() for name in pair} | self.seeds_of.keys()
        _require(named, self.rows, "rows")
        _require({row.after for row in recipes.values() if row.after}, recipes, "rows or stages")
        without = [
            name for name, row in recipes.items() if not (row.config_file or self.config_file)
        ]
        if without:
            raise ValueError(f"Expected a config_file of the table or of its row {without[0]}.")
        found: dict[str, Run] = {}
        for run in self.runs():
            same = found.setdefault(run.name, run)
            if replace(same, row=run.row) != run:
                raise ValueError(
                    f"Rows {same.row} and {run.row} differ, but the folder of both is {run.name}; "
                    f"their settings give it by {self.folder!r}."
                )

    def all_pairs(self) -> list[tuple[str, str]]:
        """Left and right row of every difference that is told."""
        others = [name for name in self.rows if name != self.against] if self.against else []
        pairs = [(name, str(self.against)) for name in others]
        return list(dict.fromkeys([*pairs, *self.pairs]))

    def runs(self) -> list[Run]:
        """Every run, seed by seed, so that a table that was ended has whole seeds."""
        numbers = {name: self.seeds_of.get(name, self.seeds) for name in self.rows}
        return [
            self._run(name, self.first_seed + number)
            for number in range(max(numbers.values(), default=0))
            for name in self.rows
            if number < numbers[name]
        ]

    def with_opts(self, opts: Sequence[str]) -> TablePlan:
        """The same with more KEY, VALUE, ... of all rows and stages, behind their own."""
        if not opts:
            return self
        longer = {
            name: replace(stage, opts=(*stage.opts, *opts)) for name, stage in self.stages.items()
        }
        note = f"{self.note} With {' '.join(opts)}."
        return replace(self, note=note, stages=longer, opts=(*self.opts, *opts))

    def _run(self, name: str, seed: int) -> Run:
        is_row = name in self.rows
        row = self.rows[name] if is_row else self.stages[name]
        run = Run(
            name,
            seed if row.seed is None else row.seed,
            "",
            str(row.config_file or self.config_file),
            (*row.opts, *(self.opts if is_row else ())),
            row.iterations or self.iterations,
            after=self._run(row.after, seed) if row.after else None,
            features=self.features and replace(self.features, parted=row.parted),
            eval_only=row.eval_only,
        )
        return replace(run, name=f"{self._folder(run)}_seed{run.seed}")

    def _folder(self, run: Run) -> str:
        pairs = list(zip(run.opts[::2], run.opts[1::2], strict=True))
        settings = [f"{key.rpartition('.')[2]} {value}" for key, value in pairs]
        pieces = {
            "row": [run.row],
            "config": ["/".join(Path(run.config_file).with_suffix("").parts[-2:])],
            "features": run.features.words if run.features else [],
            "settings": [*settings, *["eval only"] * run.eval_only],
            "values": [value for _, value in pairs] or ["defaults"],
            "iterations": [str(run.iterations or "")],
            "after": [f"{run.after.name.rpartition('_seed')[0]}_then"] if run.after else [],
        }
        name = self.folder.format(**{k: "_".join(map(_slug, v)) for k, v in pieces.items()})
        return re.sub("_{2,}", "_", name).strip("_")


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def _require(names: set[str], known: Mapping[str, Row], what: str) -> None:
    unknown = sorted(names - known.keys())
    if unknown:
        raise ValueError(f"Expected {what} out of {'; '.join(known)}, but got {unknown[0]}.")
