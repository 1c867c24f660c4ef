"""Methods x seeds on the data of one configuration."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from balms_seg.engine import load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.experiments.table_plan import Row, TablePlan
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of detectors, and of image classifiers.
METHOD_KEYS = {False: "MODEL.ROI_BOX_HEAD.CLASSIFIER", True: "MODEL.IMAGE_CLASSIFIER.METHOD"}


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

    def load(self, method: str) -> CfgNode:
        """The checked configuration of a method's runs."""
        return load_config(self.config_file, [*self.overrides, METHOD_KEYS[self.of_images], method])

    def command(self) -> str:
        """The words that make the same table."""
        words = ["balms-seg", "compare-methods", "--config-file", self.config_file]
        words += [*self._import_words, "--methods", *self.methods]
        return shlex.join([*words, "--seeds", str(self.num_seeds), *self.overrides])

    @property
    def _import_words(self) -> list[str]:
        return [word for name in self.imports for word in ("--import", name)]

    def plan(self, cfg: CfgNode) -> TablePlan:
        """The rows of its table, which are the methods.

        Args:
            cfg: as the data have settled it.
        """
        return TablePlan(
            about={
                "title": f"Methods trained on {', '.join(cfg.DATASETS.TRAIN)}",
                "iterations": cfg.SOLVER.MAX_ITER,
            },
            note=f"{counted(cfg.SOLVER.MAX_ITER, 'iteration')} of "
            f"{counted(cfg.SOLVER.IMS_PER_BATCH, 'image')}, evaluated on "
            f"{', '.join(cfg.DATASETS.TEST)}, percent.",
            rows={name: Row((METHOD_KEYS[self.of_images], name)) for name in self.methods},
            seeds=self.num_seeds,
            config_file=self.config_file,
            opts=self.overrides,
            against=self.methods[0],
            folder="{row}",
        )
