#!/usr/bin/env python
"""Choose the constant of a post-hoc calibration on images the model was not trained on.

tools/calibrate.py --config-file F --dataset my_heldout --output calibrated.yaml MODEL.WEIGHTS W

The data set is a held-out part of the training data, registered by name; sets on which results are
reported are refused. Box AP decides. The yaml it writes builds on the configuration:
tools/train_net.py --eval-only --config-file calibrated.yaml MODEL.WEIGHTS W

--save-outputs keeps what the model says of every proposal, and --outputs tries other constants on
that without running the model again (all methods but tau_norm).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from balms_seg.engine.box_outputs import BoxOutputs
    from balms_seg.engine.calibrate import HeldOut, Trial

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_COLUMNS = ("AP", "APr", "APc", "APf", "ECE", "ECEr", "ECEc", "ECEf")
_METHODS = ("norcal", "logit_adjustment", "fracal", "tau_norm", "group_temperature")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="as for train_net.py")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="held-out images")
    parser.add_argument("--methods", nargs="+", choices=_METHODS, default=list(_METHODS))
    parser.add_argument(
        "--strengths", nargs="+", type=float, help="constants to try; default: each method's own"
    )
    parser.add_argument(
        "--metric", choices=_COLUMNS, default="AP", help="what decides; default: %(default)s"
    )
    parser.add_argument("--counts", choices=("image", "instance"), default="image")
    parser.add_argument("--output", type=Path, metavar="YAML", help="configuration to write")
    parser.add_argument(
        "--save-outputs", type=Path, metavar="FILE", help="keep the model's outputs"
    )
    parser.add_argument("--outputs", type=Path, metavar="FILE", help="use kept outputs")
    parser.add_argument("--report-on", metavar="NAME", help="also measure each choice on this set")
    parser.add_argument("--table", type=Path, metavar="JSON", help="write all that was measured")
    parser.add_argument(
        "--allow-validation",
        action="store_true",
        help="tune on a validation set; results reported on it are then too good",
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="0 runs on the CPU")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(arguments)


class Session:
    """A configuration, its model where one is needed, and the sets it is measured on."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Read and check the configuration."""
        from balms_seg.data import register_from_config, training_statistics
        from balms_seg.engine import load_config
        from balms_seg.engine.box_outputs import DetectionRule

        self.args = args
        self.cfg = load_config(args.config_file, args.opts)
        if args.num_gpus == 0:
            self.cfg.MODEL.DEVICE = "cpu"
        self.cfg.MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD = "none"
        self.cfg.MODEL.INIT_CLASSIFIER = "keep"
        register_from_config(self.cfg)
        _refuse_unfit_set(args.dataset, self.cfg, allow_validation=args.allow_validation)
        self.statistics = training_statistics(self.cfg)
        self.rule = DetectionRule(
            self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The detector with its weights."""
        from balms_seg.engine import load_model

        if self._model is None:
            if not self.cfg.MODEL.WEIGHTS:
                raise ValueError("Expected MODEL.WEIGHTS PATH after the flags, but got none.")
            self._model = load_model(self.cfg)
        return self._model

    def held_out(self, name: str) -> HeldOut:
        """A registered set to measure on."""
        from balms_seg.class_statistics.annotation_counts import read_annotation_json
        from balms_seg.data import get_metadata, load_dataset_dicts
        from balms_seg.engine.calibrate import HeldOut
        from balms_seg.evaluation import load_ground_truth
        from balms_seg.methods import METHODS

        load_dataset_dicts(name)  # fills in the metadata
        metadata = get_metadata(name)
        content = read_annotation_json(metadata.json_file)
        ids = sorted(category["id"] for category in content["categories"])
        if len(ids) != self.statistics.num_classes:
            raise ValueError(
                f"Expected {self.statistics.num_classes} classes in '{name}' as in training, but "
                f"got {len(ids)}; hold out a part of the same annotations."
            )
        letters = {
            category_id: self.statistics.group_names[group][0]
            for category_id, group in zip(ids, self.statistics.group_ids, strict=True)
        }
        return HeldOut(
            load_ground_truth(content, class_frequency=letters),
            ids,
            self.statistics,
            self.rule,
            self.args.counts,
            METHODS[self.cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER].independent_scores,
        )

    def record(self, name: str, model: Any = None) -> list[BoxOutputs]:
        """What a model says of a set's images."""
        from balms_seg.engine import LongTailedTrainer
        from balms_seg.engine.box_outputs import record_box_outputs

        loader = LongTailedTrainer.build_test_loader(self.cfg, name)
        return record_box_outputs(self.model if model is None else model, loader)

    def normalised_model(self, tau: float) -> Any:
        """A copy whose classifier is tau-normalised."""
        from balms_seg.modeling.classifier_init import tau_normalise_classifiers

        model = copy.deepcopy(self.model)
        tau_normalise_classifiers(model, tau=tau)
        return model


def _refuse_unfit_set(name: str, cfg: Any, *, allow_validation: bool) -> None:
    from balms_seg.data import get_metadata
    from balms_seg.engine.calibrate import is_validation_set

    file = Path(get_metadata(name).json_file).stem
    if name in cfg.DATASETS.TRAIN:
        raise ValueError(
            f"The model was trained on '{name}' and is surer there than elsewhere; name a set that "
            "it has not seen, held out of the training data."
        )
    if not allow_validation and (is_validation_set(name) or is_validation_set(file)):
        raise ValueError(
            f"'{name}' looks like a validation set, on which results are reported: constants tuned "
            "there make them too good. Hold out a part of the training data and register it, or "
            "say --allow-validation."
        )


def tune(session: Session) -> tuple[list[Trial], dict[str, Trial]]:
    """All trials on the held-out set, and the best one of each method."""
    from balms_seg.data import get_training_dicts
    from balms_seg.engine import calibrate
    from balms_seg.engine.box_outputs import load_box_outputs, save_box_outputs

    args = session.args
    held_out = session.held_out(args.dataset)
    about = {"dataset": args.dataset, "weights": str(session.cfg.MODEL.WEIGHTS)}
    if args.outputs:
        outputs, found = load_box_outputs(args.outputs)
        if found["dataset"] != args.dataset:
            raise ValueError(
                f"Expected outputs on '{args.dataset}', but {args.outputs} is of "
                f"'{found['dataset']}'; record them again."
            )
    else:
        outputs = session.record(args.dataset)
    if args.save_outputs:
        save_box_outputs(args.save_outputs, outputs, about=about)
    base = {"ROI_BOX_HEAD": {"CALIBRATION": {"METHOD": "none"}}}
    trials = [calibrate.Trial("none", None, held_out.measure(outputs, None), base)]
    for method in args.methods:
        strengths = args.strengths or calibrate.STRENGTHS.get(method, ())
        if method == "tau_norm":
            for tau in strengths:
                measured = held_out.measure(
                    session.record(args.dataset, session.normalised_model(tau)), None
                )
                keys = {"INIT_CLASSIFIER": "tau_norm", "INIT_CLASSIFIER_TAU": float(tau)}
                trials.append(calibrate.Trial(method, tau, measured, keys))
            continue
        dimensions: Any = ()
        if method == "fracal":
            dicts = get_training_dicts(session.cfg)
            dimensions = calibrate.training_fractal_dimensions(
                dicts, session.statistics.num_classes
            )
        trials += calibrate.try_strengths(
            held_out, outputs, method, strengths, dimensions=dimensions
        )
    best = {
        method: calibrate.best_trial([t for t in trials if t.method == method], args.metric)
        for method in ("none", *args.methods)
    }
    return trials, best


def report_on(session: Session, name: str, best: dict[str, Trial]) -> dict[str, dict[str, float]]:
    """What the choices give on another set."""
    held_out = session.held_out(name)
    outputs = session.record(name)
    found = {}
    for method, trial in best.items():
        if method == "none":
            found[method] = held_out.measure(outputs, None)
        elif method == "tau_norm":
            model = session.normalised_model(trial.strength or 0.0)
            found[method] = held_out.measure(session.record(name, model), None)
        else:
            keys = trial.keys["ROI_BOX_HEAD"]["CALIBRATION"]
            constants = {"strength": "STRENGTH", "temperatures": "TEMPERATURES"}
            given = {name: keys[key] for name, key in constants.items() if key in keys}
            if "DIMENSIONS" in keys:
                import torch

                given["dimensions"] = torch.tensor(keys["DIMENSIONS"])
            found[method] = held_out.measure(outputs, held_out.calibration(method, **given))
    return found


def format_table(rows: list[tuple[str, dict[str, float]]]) -> str:
    """One line a row of metrics."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{column:>8}" for column in _COLUMNS)]
    lines += [
        name.ljust(width) + "".join(f"{metrics[column]:8.2f}" for column in _COLUMNS)
        for name, metrics in rows
    ]
    return "\n".join(lines)


def write_fragment(path: Path, session: Session, choice: Trial, table: str) -> None:
    """Write a configuration that builds on the one given and chooses the calibration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = os.path.relpath(Path(session.args.config_file).resolve(), path.parent.resolve())
    comments = [
        f"python tools/train_net.py --eval-only --config-file {path} "
        + shlex.join(session.args.opts),
        f"Chosen by {session.args.metric} of boxes on {session.args.dataset}:",
        *table.splitlines(),
        f"Written by {shlex.join(['tools/calibrate.py', *sys.argv[1:]])}",
    ]
    content = {"_BASE_": base, "MODEL": choice.keys}
    text = "".join(f"# {line}\n" for line in comments)
    path.write_text(text + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def run(args: argparse.Namespace) -> None:
    """Tune, print, and write what was asked for."""
    from balms_seg.engine.calibrate import best_trial
    from balms_seg.engine.results import current_commit, package_versions

    session = Session(args)
    trials, best = tune(session)
    shown = [
        (t.method if t.strength is None else f"{t.method} {t.strength:g}", t.metrics)
        for t in trials
    ]
    print(f"Boxes on {args.dataset}, percent:\n{format_table(shown)}")
    choice = best_trial(list(best.values()), args.metric)
    print(
        f"\nChosen by {args.metric}: {choice.method}"
        + (f" {choice.strength:g}" if choice.strength is not None else "")
    )
    reported = report_on(session, args.report_on, best) if args.report_on else {}
    if reported:
        print(f"\nEach method's best, on {args.report_on}:\n{format_table(list(reported.items()))}")
    if args.output:
        table = format_table([(name, trial.metrics) for name, trial in best.items()])
        write_fragment(args.output, session, choice, table)
        print(f"Wrote {args.output}.")
    if args.table:
        record = {
            "command": shlex.join(["tools/calibrate.py", *sys.argv[1:]]),
            "commit": current_commit(),
            "versions": package_versions(),
            "tuned_on": args.dataset,
            "reported_on": args.report_on,
            "metric": args.metric,
            "trials": [
                {"method": t.method, "strength": t.strength, "metrics": t.metrics} for t in trials
            ],
            "best": {name: {"strength": t.strength, "keys": t.keys} for name, t in best.items()},
            "reported": reported,
        }
        args.table.parent.mkdir(parents=True, exist_ok=True)
        args.table.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run, and tell what is wrong in one line."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        run(args)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"calibrate: {error}")
    except KeyError as error:  # an unknown data set or key; str(error) would quote the message
        sys.exit(f"calibrate: {error.args[0]}")


if __name__ == "__main__":
    main()
