"""What the tables of CIFAR-LT train: `tools/benchmarks/run_cifar_table.py` runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

ESTIMATORS = ("score", "gumbel_image", "gumbel_class")


@dataclass(frozen=True)
class Row:
    """How a row is trained.

    Attributes:
        config: file in the table's folder of configurations.
        overrides: KEY, VALUE, ... over it.
        published: top-1 of the paper at the full schedule, if it has such a row.
        stage_one: whether it starts from the table's stage one, trained once a seed for all rows.
    """

    config: str
    overrides: tuple[str, ...] = ()
    published: float | None = None
    stage_one: bool = False


@dataclass(frozen=True)
class Run:
    """One training: a configuration and its seed.

    Attributes:
        row: of the table.
        seed: of the run.
        config: file below configs/classification.
        overrides: KEY, VALUE, ... over it.
        after: the run whose checkpoint it starts from.
        data: what tells its images from those of other runs, in words.
        eval_only: nothing is trained.
    """

    row: str
    seed: int
    config: str
    overrides: tuple[str, ...] = ()
    after: Run | None = None
    data: tuple[str, ...] = ()
    eval_only: bool = False

    @property
    def name(self) -> str:
        """Folder of the run; two rows that ask for the same run share it."""
        pairs = zip(self.overrides[::2], self.overrides[1::2], strict=True)
        settings = [f"{key.rpartition('.')[2]} {value}" for key, value in pairs]
        settings += ["eval only"] * self.eval_only
        parts = [self.config.removesuffix(".yaml"), *self.data, *settings, f"seed{self.seed}"]
        return "_".join(re.sub(r"[^\w.]+", "-", part).strip("-") for part in parts)


@dataclass(frozen=True)
class Table:
    """Rows trained with several seeds, from one stage one a seed.

    Attributes:
        title: for people.
        folder: of configurations, below classification/.
        stage_one: configuration of the stage one.
        rows: by name.
        pairs: left and right row of the differences to report.
        seeds: how many.
        cpu: whether it is meant for a CPU.
        published: where the rows' published figures are from.
        held_out: whether it is evaluated on held-out images.
    """

    title: str
    folder: str
    stage_one: str
    rows: dict[str, Row] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    seeds: int = 3
    cpu: bool = False
    published: str = "paper"
    held_out: bool = False

    def runs(self) -> list[Run]:
        """Every run, seed by seed, so that an interrupted table has complete seeds."""
        return [
            self._run(name, seed, row)
            for seed in range(self.seeds)
            for name, row in self.rows.items()
        ]

    def _run(self, name: str, seed: int, row: Row) -> Run:
        after = None
        if row.stage_one:
            after = Run("stage one", seed, f"{self.folder}/{self.stage_one}.yaml")
        return Run(name, seed, f"{self.folder}/{row.config}.yaml", row.overrides, after)

    def subset(self) -> dict[str, Any]:
        """How the training images were drawn."""
        from balms_seg.data import get_metadata

        rho = self.stage_one.rpartition("_")[2]
        return dict(get_metadata(f"cifar10_lt_{rho}_train").subset)


_SOFTMAX, _BALANCED = "softmax", "Balanced Softmax, end to end"
_DECOUPLED, _BALMS = "Balanced Softmax, decoupled", "BALMS"
_FBL = "Feature-Balanced Loss"
_MAIN_PAIRS = (
    (_BALANCED, _SOFTMAX),
    (_DECOUPLED, _SOFTMAX),
    (_BALMS, _SOFTMAX),
    (_BALMS, _BALANCED),
    (_BALMS, _DECOUPLED),
)


def _rows(rho: int, published: dict[str, float]) -> dict[str, Row]:
    """The rows of the paper's table 2 at one rho, the four that marks are set on first."""
    second = {
        _DECOUPLED: "classifier_balanced_softmax",
        _BALMS: "balms",
        "cRT": "crt",
        "LWS": "lws",
        "Balanced Softmax with the Meta Reweighter": "balms_reweighter",
    }
    first = {
        _SOFTMAX: "softmax",
        _BALANCED: "balanced_softmax",
        "LDAM": "ldam",
        "CB loss": "cb_loss",
        "focal": "focal",
        "class-balanced weighting": "class_balanced_weighting",
        "class-balanced sampling": "class_balanced_sampling",
    }
    order = [_SOFTMAX, _BALANCED, *second, *list(first)[2:]]
    return {
        name: Row(
            f"{(first | second)[name]}_rho{rho}",
            published=published.get((first | second)[name]),
            stage_one=name in second,
        )
        for name in order
    }


def _estimator_rows(rho: int) -> dict[str, Row]:
    rows = {_DECOUPLED: Row(f"classifier_balanced_softmax_rho{rho}", stage_one=True)}
    return rows | {
        f"{_BALMS}, {name}": Row(f"balms_rho{rho}", ("META.ESTIMATOR", name), stage_one=True)
        for name in ESTIMATORS
    }


def _estimator_pairs() -> tuple[tuple[str, str], ...]:
    first = f"{_BALMS}, {ESTIMATORS[0]}"
    return tuple((f"{_BALMS}, {name}", first) for name in ESTIMATORS[1:]) + ((first, _DECOUPLED),)


_PAPER_200 = {
    "softmax": 71.2,
    "class_balanced_weighting": 72.5,
    "class_balanced_sampling": 68.3,
    "focal": 71.8,
    "cb_loss": 72.6,
    "ldam": 73.6,
    "crt": 76.6,
    "lws": 78.1,
    "balanced_softmax": 79.0,
    "classifier_balanced_softmax": 78.6,
    "balms_reweighter": 79.2,
    "balms": 81.5,
}
_PAPER_100 = {
    "softmax": 77.4,
    "class_balanced_weighting": 78.6,
    "class_balanced_sampling": 77.8,
    "focal": 77.1,
    "cb_loss": 78.2,
    "ldam": 78.9,
    "crt": 82.0,
    "lws": 83.7,
    "balanced_softmax": 83.1,
    "classifier_balanced_softmax": 83.7,
    "balms_reweighter": 84.1,
    "balms": 84.9,
}
_CPU_ROWS = ("softmax", "balanced_softmax", "classifier_balanced_softmax", "balms")
_STRONG = "strong"
_STRONG_WITHOUT = {
    "the paper's length": ("SOLVER.MAX_ITER", "13000"),
    "AutoAugment for RandAugment": (
        "INPUT.IMAGES.AUGMENTATIONS",
        "['crop_flip', 'autoaugment', 'cutout']",
    ),
    "no mixup": ("INPUT.IMAGES.MIXUP", "0.0"),
    "linear classifier": ("MODEL.IMAGE_CLASSIFIER.CLASSIFIER", "linear"),
    "no average of the weights": ("SOLVER.EMA_DECAY", "0.0"),
}

TABLES = {
    "rho200": Table(
        "CIFAR-10-LT, rho 200, the paper's schedule",
        "cifar10_lt",
        "softmax_rho200",
        _rows(200, _PAPER_200),
        _MAIN_PAIRS,
    ),
    "rho100": Table(
        "CIFAR-10-LT, rho 100, the paper's schedule",
        "cifar10_lt",
        "softmax_rho100",
        {
            **_rows(100, _PAPER_100),
            _FBL: Row("feature_balanced_rho100", published=82.46),
        },
        (*_MAIN_PAIRS, (_FBL, _SOFTMAX)),
    ),
    "estimators": Table(
        "BALMS by estimator of the sample rates' gradient, CIFAR-10-LT, rho 200",
        "cifar10_lt",
        "softmax_rho200",
        _estimator_rows(200),
        _estimator_pairs(),
    ),
    "strong": Table(
        "Beyond the paper: a stronger recipe, and without each of its parts; CIFAR-10-LT, rho 200",
        "cifar10_lt",
        "softmax_rho200",
        {
            _BALMS: Row("balms_rho200", published=_PAPER_200["balms"], stage_one=True),
            _STRONG: Row("strong_rho200"),
            **{
                f"{_STRONG}, {change}": Row("strong_rho200", overrides)
                for change, overrides in _STRONG_WITHOUT.items()
            },
        },
        (
            (_STRONG, _BALMS),
            *((f"{_STRONG}, {change}", _STRONG) for change in _STRONG_WITHOUT),
        ),
    ),
    "strong_rho100": Table(
        "Beyond the paper: a stronger recipe, and four times as wide; CIFAR-10-LT, rho 100",
        "cifar10_lt",
        "softmax_rho100",
        {_STRONG: Row("strong_rho100"), f"{_STRONG}, width 4": Row("strong_width4_rho100")},
        ((f"{_STRONG}, width 4", _STRONG),),
    ),
    "cpu": Table(
        "CIFAR-10-LT, rho 100, about ten epochs on a CPU",
        "cifar10_lt_cpu",
        "softmax_rho100",
        {
            **{
                name: Row(
                    row.config,
                    published=row.published,
                    stage_one=row.stage_one,
                )
                for name, row in _rows(100, _PAPER_100).items()
                if row.config.removesuffix("_rho100") in _CPU_ROWS
            },
            _FBL: Row("feature_balanced_rho100", published=82.46),
        },
        (*_MAIN_PAIRS, (_FBL, _SOFTMAX)),
        cpu=True,
    ),
    "cpu_estimators": Table(
        "BALMS by estimator of the sample rates' gradient, CIFAR-10-LT, rho 100, on a CPU",
        "cifar10_lt_cpu",
        "softmax_rho100",
        _estimator_rows(100),
        _estimator_pairs(),
        cpu=True,
    ),
}
