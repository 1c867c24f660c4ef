"""Tables of classifiers on frozen features of CIFAR-10-LT: which runs they take, on which images.

A seed is that of the long-tailed subset, of initialisation and of order. Settings are chosen on
held-out images: a tenth of the training images of each class, which the subsets of those runs
are not drawn from, and other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cifar_tables import Run

from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.image_split import split_images
from balms_seg.data.images.subset_files import build_subset, format_list

CONFIG = "cifar10_features/base.yaml"
META_SHARE = 0.2  # of each class's training images, where the meta set is held out of them
FIRST_TUNING_SEED = 100


@dataclass(frozen=True)
class FeatureRow:
    """How a row is trained.

    Attributes:
        overrides: KEY, VALUE, ... over the configuration.
        after: the row whose classifier it starts from.
        eval_only: nothing is trained.
        is_parted: a fifth of the training images is left out, for `META.DATASET features_meta`.
        published: none.
    """

    overrides: tuple[str, ...] = ()
    after: str = ""
    eval_only: bool = False
    is_parted: bool = False
    published: None = None


@dataclass(frozen=True)
class FeatureTable:
    """Rows trained with several seeds; see `cifar_tables.Table`.

    Attributes:
        title: for people.
        rho: imbalance of the subsets.
        rows: by name.
        pairs: left and right row of the differences to report.
        held_out: whether it chooses settings, on held-out images.
        seeds: how many.
    """

    title: str
    rho: int
    rows: dict[str, FeatureRow] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    held_out: bool = False
    seeds: int = 5
    cpu: bool = True
    published: str = ""

    def runs(self) -> list[Run]:
        """Every run, seed by seed."""
        return [
            self._run(name, seed + FIRST_TUNING_SEED * self.held_out)
            for seed in range(self.seeds)
            for name in self.rows
        ]

    def _run(self, name: str, seed: int) -> Run:
        row = self.rows[name]
        after = self._run(row.after, seed) if row.after else None
        data = (f"rho{self.rho}", *["held-out"] * self.held_out, *["parted"] * row.is_parted)
        return Run(name, seed, CONFIG, row.overrides, after, data, row.eval_only)

    def subset(self) -> dict[str, object]:
        """How the training images were drawn."""
        return {"rho": self.rho, "kind": "exponential", "seed": "that of the run"}


def data_overrides(run: Run, features: Path) -> list[str]:
    """KEY, VALUE, ... that name the images of a run; their lists are written where they are not.

    Args:
        run: of a `FeatureTable`.
        features: the folder with cifar10_train.npz and cifar10_test.npz.
    """
    train, test = (str(features / f"cifar10_{part}.npz") for part in ("train", "test"))
    lists = features / "lists" / "_".join([*run.data, f"seed{run.seed}"])
    if not (lists / "train.txt").is_file():
        _write_lists(run, read_image_records(train, ""), lists)
    sets = [["features_train", str(lists / "train.txt"), train]]
    if "parted" in run.data:
        sets.append(["features_meta", str(lists / "meta.txt"), train])
    if "held-out" in run.data:
        sets.append(["features_test", str(lists / "held_out.txt"), train])
    else:
        sets.append(["features_test", test, ""])
    return ["DATASETS.REGISTER_IMAGES", repr(sets)]


def _write_lists(run: Run, whole: ImageRecords, folder: Path) -> None:
    folder.mkdir(parents=True)
    parts = {}
    if "held-out" in run.data:
        whole, parts["held_out"] = split_images(whole, 0.1, seed=FIRST_TUNING_SEED)
    subset = build_subset(whole, rho=float(run.data[0].removeprefix("rho")), seed=run.seed)
    if "parted" in run.data:
        subset, parts["meta"] = split_images(subset, META_SHARE, seed=run.seed)
    for name, part in {**parts, "train": subset}.items():
        (folder / f"{name}.txt").write_text(format_list(part))


def _method(name: str, *more: str) -> tuple[str, ...]:
    return ("MODEL.IMAGE_CLASSIFIER.METHOD", name, *more)


_ALL_CLASSES_ALIKE = ("DATALOADER.SAMPLER_TRAIN", "ClassBalancedTrainingSampler")
_RATES = ("DATALOADER.SAMPLER_TRAIN", "MetaRepeatFactorTrainingSampler")
_STATIC = ("META.LEARN", "none")
_RATE = "SOLVER.BASE_LR"
# Chosen on held-out images among those of `_TUNED`: a balanced loss overfits the rare classes at
# the rate that is best for softmax.
_BALANCED = _method("balanced_softmax", _RATE, "0.01")


def _sampler(power: float, *more: str) -> tuple[str, ...]:
    return (*_BALANCED, *_RATES, "META.INIT_POW", f"{power}", *more)


POWERS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_TUNED = {
    "softmax": (_method("softmax"), (0.01, 0.1, 1.0)),
    "Balanced Softmax": (_method("balanced_softmax"), (0.001, 0.01, 0.1)),
    "class-balanced sampling": (_ALL_CLASSES_ALIKE, (0.0001, 0.001, 0.01, 0.1)),
    "LDAM": (_method("ldam"), (0.1, 1.0, 10.0, 100.0)),
}
_TAUS = (0.5, 1.0, 1.5, 2.0)


def _tau_norm(tau: float) -> FeatureRow:
    overrides = ("MODEL.INIT_CLASSIFIER", "tau_norm", "MODEL.INIT_CLASSIFIER_TAU", f"{tau}")
    return FeatureRow(overrides, after="softmax", eval_only=True)


TAU = 1.0  # of the tables, chosen on held-out images
_LWS = ("MODEL.INIT_CLASSIFIER", "lws", "MODEL.TRAIN_ONLY", "['classifier.scale']")
_SAMPLER_ROW, _CONTROL_ROW = "Meta Sampler", "static control of the Meta Sampler"
_METHOD_ROWS = {
    "softmax": FeatureRow(_method("softmax")),
    "class-balanced sampling": FeatureRow((*_ALL_CLASSES_ALIKE, _RATE, "0.001")),
    "logit adjustment after training": FeatureRow(_method("post_hoc_logit_adjustment")),
    "tau-normalisation": _tau_norm(TAU),
    "LWS": FeatureRow((*_LWS, *_ALL_CLASSES_ALIKE), after="softmax"),
    "LDAM": FeatureRow(_method("ldam", _RATE, "10.0")),
    "Balanced Softmax": FeatureRow(_BALANCED),
    "Meta Reweighter": FeatureRow((*_BALANCED, "META.LEARN", "weights")),
    _SAMPLER_ROW: FeatureRow(_sampler(0.0)),
    _CONTROL_ROW: FeatureRow(_sampler(0.0, *_STATIC)),
}
_METHOD_PAIRS = (
    *((name, "softmax") for name in _METHOD_ROWS if name != "softmax"),
    ("Balanced Softmax", "logit adjustment after training"),
    ("Meta Reweighter", "Balanced Softmax"),
    (_SAMPLER_ROW, _CONTROL_ROW),
)
_PARTED = ("META.DATASET", "features_meta")
_LEARNED = "learned from power 0"
_STEP_ROWS = {
    **{f"static, power {power:g}": FeatureRow(_sampler(power, *_STATIC)) for power in POWERS},
    _LEARNED: FeatureRow(_sampler(0.0)),
    "learned from power 0.4": FeatureRow(_sampler(0.4)),
    "learned, META.LR 0.001": FeatureRow(_sampler(0.0, "META.LR", "0.001")),
    "learned, META.LR 0.1": FeatureRow(_sampler(0.0, "META.LR", "0.1")),
    "learned, META.PERIOD 4": FeatureRow(_sampler(0.0, "META.PERIOD", "4")),
    "learned, META.OBJECTIVE balanced": FeatureRow(_sampler(0.0, "META.OBJECTIVE", "balanced")),
    **{
        f"learned, gumbel_class, temperature {temperature:g}": FeatureRow(
            _sampler(0.0, "META.ESTIMATOR", "gumbel_class", "META.TEMPERATURE", f"{temperature}")
        )
        for temperature in (0.5, 1.0, 2.0)
    },
    "learned on a held-out fifth": FeatureRow(_sampler(0.0, *_PARTED), is_parted=True),
    "static, power 0, without that fifth": FeatureRow(_sampler(0.0, *_STATIC), is_parted=True),
}
_STEP_PAIRS = (
    *((f"static, power {power:g}", "static, power 0") for power in POWERS[1:]),
    *((n, "static, power 0") for n in _STEP_ROWS if n.startswith("learned") and "fifth" not in n),
    ("learned from power 0.4", "static, power 0.4"),
    ("learned on a held-out fifth", "static, power 0, without that fifth"),
)

FEATURE_TABLES = {
    **{
        f"features_rho{rho}": FeatureTable(
            f"Classifiers on frozen features of CIFAR-10-LT, rho {rho}",
            rho,
            _METHOD_ROWS,
            _METHOD_PAIRS,
        )
        for rho in (200, 10)
    },
    "features_meta": FeatureTable(
        "The meta step on frozen features: static sample rates, then one factor at a time, rho 200",
        200,
        _STEP_ROWS,
        _STEP_PAIRS,
    ),
    "features_tuning": FeatureTable(
        "Learning rate and tau on frozen features, rho 200",
        200,
        {
            **{
                f"{name}, rate {rate:g}": FeatureRow((*method, _RATE, f"{rate}"))
                for name, (method, rates) in _TUNED.items()
                for rate in rates
            },
            "softmax": FeatureRow(_method("softmax")),
            **{f"tau-normalisation, tau {tau:g}": _tau_norm(tau) for tau in _TAUS},
        },
        held_out=True,
        seeds=1,
    ),
}
