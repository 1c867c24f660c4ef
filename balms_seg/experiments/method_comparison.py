"""Methods x seeds on the data of one configuration: the runs, and their table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.engine import load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.experiments.machine import describe_hardware
from balms_seg.experiments.records import read_record
from balms_seg.experiments.runs import is_finished
from balms_seg.experiments.table import Table, build_table

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of detectors, and of image classifiers.
METHOD_KEYS = {False: "MODEL.ROI_BOX_HEAD.CLASSIFIER", True: "MODEL.IMAGE_CLASSIFIER.METHOD"}
_NO_COLUMNS = {"row", "seed", "iteration", "commit", "versions"}


@dataclass(frozen=True)
class MethodRun:
    """A method and a seed."""

    method: str
    seed: int
    after: None = None

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{self.method}_seed{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        config_file: path or name of a yaml.
        methods: names; the first is what the others are compared with.
        num_seeds: of each method: 0, 1, ...
        overrides: KEY, VALUE, ... of all runs.
        imports: modules that register methods.
        num_gpus: of the machine, one a run; 0: on the CPU.
    """

    config_file: str
    methods: tuple[str, ...]
    num_seeds: int
    overrides: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    num_gpus: int = 0

    def __post_init__(self) -> None:
        taken = {*METHOD_KEYS.values(), "SEED", "OUTPUT_DIR"} & set(self.overrides[::2])
        if taken:
            raise ValueError(
                f"Expected keys that all runs share, but got {', '.join(sorted(taken))}; give "
                "--methods, --seeds and --output."
            )

    @cached_property
    def of_images(self) -> bool:
        """Whether the methods classify whole images."""
        return build_job(load_config(self.config_file, self.overrides)).of_images

    def runs(self) -> list[MethodRun]:
        """Every run, seed by seed, so that a comparison that was ended has whole seeds."""
        return [MethodRun(name, seed) for seed in range(self.num_seeds) for name in self.methods]

    def load(self, method: str) -> CfgNode:
        """The checked configuration of a method's runs."""
        return load_config(self.config_file, [*self.overrides, METHOD_KEYS[self.of_images], method])

    def train_command(self, run: MethodRun, output: Path) -> list[str]:
        """`balms-seg train` of a run, which resumes what an interruption left."""
        flags = ["--num-gpus", "1" if self.num_gpus else "0", "--resume", *self._import_words]
        own = {
            METHOD_KEYS[self.of_images]: run.method,
            "SEED": str(run.seed),
            "OUTPUT_DIR": str((output / run.name).resolve()),
        }
        words = [word for pair in own.items() for word in pair]
        program = [sys.executable, "-m", "balms_seg", "train", "--config-file", self.config_file]
        return [*program, *flags, *self.overrides, *words]

    def command(self) -> str:
        """The words that make the same table."""
        words = ["balms-seg", "compare-methods", "--config-file", self.config_file]
        words += [*self._import_words, "--methods", *self.methods]
        return shlex.join([*words, "--seeds", str(self.num_seeds), *self.overrides])

    @property
    def _import_words(self) -> list[str]:
        return [word for name in self.imports for word in ("--import", name)]

    def table(self, cfg: CfgNode, output: Path) -> Table | None:
        """Of the finished runs; None where there is none.

        Args:
            cfg: as the data have settled it.
            output: folder of the runs' folders.
        """
        records = [
            read_record(output / run.name, run.method, run.seed)
            for run in self.runs()
            if is_finished(output / run.name)
        ]
        if not records:
            return None
        names = dict.fromkeys(name for record in records for name in record)
        first, *others = self.methods
        return build_table(
            records,
            [name for name in names if name not in _NO_COLUMNS],
            [(method, first) for method in others],
            title=f"Methods trained on {', '.join(cfg.DATASETS.TRAIN)}",
            command=self.command(),
            hardware=describe_hardware(self.num_gpus),
            iterations=cfg.SOLVER.MAX_ITER,
        )
