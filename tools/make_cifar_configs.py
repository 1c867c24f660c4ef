#!/usr/bin/env python
"""Write the configurations of the CIFAR-LT tables, a file for each method and imbalance.

tools/make_cifar_configs.py           # into configs/classification
tools/make_cifar_configs.py --check   # only say which files differ from what would be written

What a method is stands here once; schedules and data stand in base.yaml and classifier_base.yaml of
each folder. Written by hand: feature_balanced of the full schedules, strong and strong_width4.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "classification"


@dataclass(frozen=True)
class Folder:
    """Where the files of a data set and a schedule lie.

    Attributes:
        name: of the folder.
        dataset: its name in `DATASETS.TRAIN` without imbalance; published numbers are by it.
        hardware: for the header.
        num_gpus: for the command.
        measured: file whose numbers take the place of published ones, and of which methods.
    """

    name: str
    dataset: str
    hardware: str
    num_gpus: int
    measured: tuple[str, tuple[str, ...]] = ("", ())


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Attributes:
        about: what it is; {stage} is the file of stage one.
        settings: yaml lines below MODEL.
        other: yaml lines of other nodes.
        is_stage_two: it starts from what the softmax run leaves.
        base: what it builds on.
        eval_only: nothing is trained.
        published: top-1 at rho 200, 100 and 10 on CIFAR-10-LT, then on CIFAR-100-LT; "a b" is the
            paper's number and that of the authors' release. Empty: rho 100 only, not published.
    """

    about: str
    settings: str = ""
    other: str = ""
    is_stage_two: bool = False
    base: str = "base.yaml"
    eval_only: bool = False
    published: tuple[str, ...] = ()


CPU_TABLE = ("balanced_softmax", "balms", "classifier_balanced_softmax", "feature_balanced")
FOLDERS = (
    Folder("cifar10_lt", "cifar10_lt", "one GPU", 1),
    Folder("cifar100_lt", "cifar100_lt", "one GPU", 1),
    Folder(
        "cifar10_lt_cpu",
        "cifar10_lt",
        "two CPU cores, minutes",
        0,
        ("docs/results/cifar_cpu.md", (*CPU_TABLE, "softmax")),
    ),
)
RHOS = (200, 100, 10)


def _loss(name: str) -> str:
    return f"  IMAGE_CLASSIFIER:\n    METHOD: {name}\n"


_BALANCED_SAMPLER = "DATALOADER:\n  SAMPLER_TRAIN: ClassBalancedTrainingSampler\n"
_META_SAMPLER = "DATALOADER:\n  SAMPLER_TRAIN: MetaRepeatFactorTrainingSampler\n"
_STAGE_TWO = "classifier_base.yaml"

METHODS = {
    "softmax": Method(
        "Cross-entropy; also stage one of the decoupled methods.",
        _loss("softmax"),
        published=("71.2 74.0", "77.4", "90.0", "41.0 41.2", "45.3", "61.9"),
    ),
    "class_balanced_weighting": Method(
        "Cross-entropy weighted by 1 / n of the class.",
        _loss("class_balanced_weighting"),
        published=("72.5", "78.6", "90.1", "36.7", "42.3", "61.4"),
    ),
    "class_balanced_sampling": Method(
        "Cross-entropy on batches that hold all classes alike.",
        other=_BALANCED_SAMPLER,
        published=("68.3", "77.8", "90.2", "37.8", "42.6", "61.2"),
    ),
    "focal": Method(
        "Focal loss, gamma 1.",
        _loss("focal"),
        published=("71.8", "77.1", "90.3", "40.2", "43.8", "60.0"),
    ),
    "cb_loss": Method(
        "Cross-entropy weighted by the effective number of samples, beta 0.9999.",
        _loss("cb_loss"),
        published=("72.6", "78.2", "89.9", "39.9", "44.6", "59.8"),
    ),
    "ldam": Method(
        "Margins by class on a cosine classifier.",
        _loss("ldam"),
        published=("73.6", "78.9", "90.3", "41.3", "46.1", "62.1"),
    ),
    "balanced_softmax": Method(
        "Balanced Softmax end to end.",
        _loss("balanced_softmax"),
        published=("79.0 79.8", "83.1", "90.9", "45.9 46.7", "50.3", "63.1"),
    ),
    "crt": Method(
        "Classifier re-training: anew under class-balanced sampling, on the features of {stage}.",
        other=_BALANCED_SAMPLER,
        is_stage_two=True,
        base=_STAGE_TWO,
        published=("76.6", "82.0", "91.0", "44.5", "50.0", "63.3"),
    ),
    "lws": Method(
        "Learnable weight scaling: one scale a class under class-balanced sampling, on {stage}.",
        "  INIT_CLASSIFIER: lws\n  TRAIN_ONLY: [classifier.scale]\n",
        _BALANCED_SAMPLER,
        is_stage_two=True,
        base=_STAGE_TWO,
        published=("78.1", "83.7", "91.1", "45.3", "50.5", "63.4"),
    ),
    "classifier_balanced_softmax": Method(
        "Balanced Softmax, decoupled: the classifier anew, on the features of {stage}.",
        _loss("balanced_softmax"),
        is_stage_two=True,
        base=_STAGE_TWO,
        published=("78.6 81.8", "83.7", "91.2", "45.1 47.2", "50.4", "63.4"),
    ),
    "balms_reweighter": Method(
        "Decoupled Balanced Softmax with the Meta Reweighter, on the features of {stage}.",
        _loss("balanced_softmax"),
        "META:\n  LEARN: weights\n",
        is_stage_two=True,
        base=_STAGE_TWO,
        published=("79.2", "84.1", "91.2", "45.3", "50.8", "63.5"),
    ),
    "balms": Method(
        "BALMS: decoupled Balanced Softmax with the Meta Sampler, on the features of {stage}.",
        _loss("balanced_softmax"),
        _META_SAMPLER,
        is_stage_two=True,
        base=_STAGE_TWO,
        published=("81.5 82.2", "84.9", "91.3", "45.5 48.0", "50.8", "63.0"),
    ),
    "ldam_drw": Method("LDAM with class weights in the last fifth of the run.", _loss("ldam_drw")),
    "logit_adjustment": Method("Logit adjustment in training, tau 1.", _loss("logit_adjustment")),
    "post_hoc_logit_adjustment": Method(
        "Logit adjustment at test time of what {stage} leaves, tau 1.",
        _loss("post_hoc_logit_adjustment"),
        is_stage_two=True,
        eval_only=True,
    ),
    "tau_norm": Method(
        "The classifier that {stage} leaves, normalised by its weights' norms; nothing is trained.",
        "  INIT_CLASSIFIER: tau_norm\n",
        is_stage_two=True,
        eval_only=True,
    ),
}


def expectation(folder: Folder, name: str, rho: int) -> str:
    """What a header says of top-1 accuracy, measured or published."""
    file, measured = folder.measured
    if rho == 100 and name in measured:
        return f"Top-1: {file}."
    published = METHODS[name].published
    if not published:
        return "Top-1: not run here."
    place = RHOS.index(rho) + (len(RHOS) if folder.dataset == "cifar100_lt" else 0)
    paper, _, release = published[place].partition(" ")
    if folder.num_gpus == 0:
        return f"Published for the full schedule, not run here: top-1 {paper} in the paper."
    also = f", {release} in the authors' release" if release else ""
    return f"Published, not run here: top-1 {paper} in the paper{also}."


def config_text(folder: Folder, name: str, rho: int) -> str:
    """A whole file."""
    method, file = METHODS[name], f"{folder.name}/{name}_rho{rho}"
    stage = f"{folder.name}/softmax_rho{rho}"
    command = f"python tools/train_net.py --config-file configs/classification/{file}.yaml"
    model = method.settings
    if method.is_stage_two:
        model = (
            f"  WEIGHTS: output/{stage}/model_final.pth\n"
            f"  STAGE_ONE_CONFIG: classification/{stage}.yaml\n{model}"
        )
    return (
        f"# {command} --num-gpus {folder.num_gpus}{' --eval-only' if method.eval_only else ''}\n"
        f"# {method.about.format(stage=f'softmax_rho{rho}.yaml')}\n"
        f"# Hardware: {folder.hardware}.\n"
        f"# {expectation(folder, name, rho)}\n"
        "# Written by tools/make_cifar_configs.py.\n"
        f"_BASE_: {method.base}\n"
        + (f"MODEL:\n{model}" if model else "")
        + f'DATASETS:\n  TRAIN: ("{folder.dataset}_rho{rho}_train",)\n'
        + f"{method.other}OUTPUT_DIR: output/{file}\n"
    )


def all_files() -> dict[Path, str]:
    """Path -> content of every file."""
    return {
        CONFIGS / folder.name / f"{name}_rho{rho}.yaml": config_text(folder, name, rho)
        for folder in FOLDERS
        for name, method in METHODS.items()
        for rho in (RHOS if method.published else (100,))
    }


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    files = all_files()
    differing = [
        path for path, text in files.items() if not path.is_file() or path.read_text() != text
    ]
    if check and differing:
        sys.exit("These are not what would be written:\n" + "\n".join(map(str, differing)))
    for path in differing:
        path.write_text(files[path], encoding="utf-8")
    print(f"{len(files)} files, {len(differing)} of them written anew.")


if __name__ == "__main__":
    main()
