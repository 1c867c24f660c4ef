"""Choose the constant of a post-hoc calibration on images the model was not trained on.

balms-seg calibrate --config-file F --dataset my_held_out --output calibrated.yaml MODEL.WEIGHTS W
balms-seg train --eval-only --config-file calibrated.yaml
balms-seg predict calibrated.yaml photos --output found

The data set is a held-out part of the training data, registered by name (balms-seg split makes
one); sets on which results are reported are refused. The yaml builds on the configuration; it has
the weights and an OUTPUT_DIR of its own, so that the run's results stay.

Of a detector box AP decides. One run over the images serves all constants, tau_norm's and the
temperatures apart, which take one each. The weights may be anybody's, such as the model zoo's.

Of an image classifier: logit adjustment, by tau in --strengths, which balanced accuracy decides,
and the temperature that fits.

Scores stay as they are unless a gain is larger than chance.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path
from balms_seg.engine.tuning.search_space import CLASS_MIXES, METHODS, METRICS
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

# What only one of the two jobs reads.
_OF_DETECTORS = ("methods", "metric", "counts", "report_on", "table")
_OF_CLASSIFIERS = ("class_mix",)
_LVIS_THRESHOLD = 0.0001
_IN_PYTHON = "In Python merge this file after add_balms_config(cfg), which knows the keys."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A trained model, a held-out set, what to try and what to write."""
    parser.add_argument("--config-file", required=True, help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="held-out images")
    parser.add_argument(
        "--strengths", nargs="+", type=float, help="constants to try; default: each method's own"
    )
    parser.add_argument("--output", type=output_path, metavar="YAML", help="configuration to write")
    parser.add_argument(
        "--allow-validation",
        action="store_true",
        help="tune on a validation set; results reported on it are then too good",
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="0 runs on the CPU")
    images = parser.add_argument_group("image classifiers only")
    images.add_argument(
        "--class-mix",
        choices=CLASS_MIXES,
        help="for which images the temperature is to hold: where classes are equally frequent "
        "(held-out images count by class; the default), or as frequent as held out",
    )
    boxes = parser.add_argument_group("detectors only")
    boxes.add_argument("--methods", nargs="+", choices=METHODS, help="default: all")
    boxes.add_argument("--metric", choices=METRICS, help="what decides; default: AP")
    boxes.add_argument("--counts", choices=("image", "instance"), help="default: image")
    boxes.add_argument("--report-on", metavar="NAME", help="also measure each choice on this set")
    boxes.add_argument(
        "--table", type=output_path, metavar="JSON", help="write all that was measured"
    )
    add_key_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Tune, print, and write what was asked for."""
    from balms_seg.engine import load_config
    from balms_seg.engine.device import choose_device
    from balms_seg.engine.jobs.choice import build_job
    from balms_seg.engine.required_weights import require_trained_weights

    cfg = load_config(args.config_file, args.opts)
    require_trained_weights(cfg, args.config_file, args.opts)
    choose_device(cfg, num_gpus=args.num_gpus)
    of_images = build_job(cfg).of_images
    foreign = _OF_DETECTORS if of_images else _OF_CLASSIFIERS
    given = [f"--{name.replace('_', '-')}" for name in foreign if getattr(args, name) is not None]
    if given:
        raise ValueError(
            f"{args.config_file} is of {'an image classifier' if of_images else 'a detector'}, "
            f"which {', '.join(given)} is not for; leave it out."
        )
    if of_images:
        calibrate_classifier(cfg, args)
    else:
        calibrate_detector(cfg, args)


def calibrate_detector(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Tune the calibration of a detector, print, and write what was asked for."""
    from balms_seg.engine.run_results import current_commit, package_versions
    from balms_seg.engine.tuning.calibration_run import (
        Session,
        format_results,
        refuse_unfit_set,
        tune,
    )
    from balms_seg.engine.tuning.calibration_search import best_result, choose, gains
    from balms_seg.evaluation.lvis.lvis_ap import TELLING_AP
    from balms_seg.evaluation.output.next_to_nothing import is_next_to_nothing

    logging.getLogger("balms_seg.engine.tuning").setLevel(logging.INFO)  # what was tried so far
    command, metric = shlex.join(sys.argv), args.metric or "AP"
    session = Session(cfg, counts=args.counts or "image")
    refuse_unfit_set(args.dataset, cfg, allow_validation=args.allow_validation)
    results = tune(session, args.dataset, methods=args.methods or METHODS, strengths=args.strengths)
    best = {
        method: best_result([one for one in results if one.trial.method == method], metric)
        for method in dict.fromkeys(one.trial.method for one in results)
    }
    choice = choose(results, metric)
    number = len(results) - 1
    of_all = agreeing(number, "", f" for all {number} constants together")
    decided = (
        f"Chosen by {metric} of boxes: {choice.trial.name}. A gain counts whose interval over "
        f"images, at 95 %{of_all}, is above 0."
    )
    print(f"Boxes on {args.dataset}, percent:\n{format_results(results, metric)}\n\n{decided}")
    is_of_use = not is_next_to_nothing([results[0].metrics["AP"]])
    if not is_of_use:
        threshold = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        lower = f"lower it to LVIS's {_LVIS_THRESHOLD:g}, or " * (threshold > _LVIS_THRESHOLD)
        print(
            f"With AP below {100 * TELLING_AP:g} nothing is compared: the model finds next to "
            f"nothing of a score above MODEL.ROI_HEADS.SCORE_THRESH_TEST {threshold:g}; {lower}"
            "train longer."
        )
    reported = []
    if args.report_on:
        trials = [one.trial for one in best.values()]
        held_out = session.held_out(args.report_on)
        reported = list(session.measure(held_out, args.report_on, trials))
        print(f"\nEach method's best, on {args.report_on}:\n{format_results(reported)}")
    if args.output:
        table = format_results(list(best.values())).splitlines()
        lines = [f"On {args.dataset}. {decided}", *table]
        write_choice(cfg, args, choice.trial.keys, lines, is_of_use=is_of_use)
    if args.table:
        found = gains(results, metric)
        intervals = [None, *([gain.value, gain.low, gain.high] for gain in found)]
        record = {
            "command": command,
            "commit": current_commit(),
            "versions": package_versions(),
            "tuned_on": args.dataset,
            "reported_on": args.report_on,
            "metric": metric,
            "trials": [
                {
                    "method": one.trial.method,
                    "strength": one.trial.strength,
                    "metrics": one.metrics,
                    "gain": gain,
                }
                for one, gain in zip(results, intervals, strict=True)
            ],
            "best": {
                name: {"strength": one.trial.strength, "keys": one.trial.keys}
                for name, one in best.items()
            },
            "chosen": choice.trial.name,
            "reported": {one.trial.method: one.metrics for one in reported},
        }
        args.table.parent.mkdir(parents=True, exist_ok=True)
        args.table.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def calibrate_classifier(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Tune the calibration of an image classifier, print, and write what was asked for."""
    from balms_seg.engine.tuning.classifier_calibration import (
        TAUS,
        adjustment_offsets,
        describe_class_mix,
        describe_temperature,
        format_trials,
        tune_image_calibration,
    )
    from balms_seg.engine.tuning.held_out_images import record_held_out

    class_mix = args.class_mix or CLASS_MIXES[0]
    held_out = record_held_out(cfg, args.dataset, allow_validation=args.allow_validation)
    mix, warnings = describe_class_mix(held_out, class_mix)
    trials, choice = tune_image_calibration(held_out, args.strengths or TAUS, class_mix=class_mix)
    table = format_trials(trials)
    print(f"{counted(len(held_out.labels), 'image')} of {args.dataset}, percent:\n{table}")
    decided = describe_temperature(choice)
    print(f"\nChosen: tau {choice.tau:g}, temperature {choice.temperature:.3f}\n{decided}\n{mix}")
    for warning in warnings:
        logger.warning(warning)
    if args.output:
        offsets = adjustment_offsets(held_out.image_counts, choice.tau).round(6).tolist()
        calibration = {
            "OFFSETS": offsets if choice.tau else [],
            "TEMPERATURE": round(choice.temperature, 6),
        }
        keys = {"NUM_CLASSES": len(held_out.class_names), "CALIBRATION": calibration}
        chosen = f"Chosen on {args.dataset}: tau {choice.tau:g}. {decided} {mix}"
        lines = [chosen, *warnings, *table.splitlines()]
        write_choice(cfg, args, {"IMAGE_CLASSIFIER": keys}, lines)


def write_choice(
    cfg: CfgNode,
    args: argparse.Namespace,
    keys: Mapping[str, Any],
    lines: Sequence[str],
    *,
    is_of_use: bool = True,
) -> None:
    """Write --output, and where that is of use say how."""
    from balms_seg.engine.tuning.calibrated_config import write_calibrated_config

    of_cpu = cfg.MODEL.DEVICE == "cpu"  # --num-gpus 0, or the configuration's own
    imported = [word for module in args.imports for word in ("--import", module)]
    words = ["balms-seg", "train", "--eval-only", *imported, "--config-file", str(args.output)]
    words += ["--num-gpus", "0"] * of_cpu
    predict = ["balms-seg", "predict", *imported, str(args.output), "IMAGES", "--output", "DIR"]
    command, missing = shlex.join(words), []
    if not cfg.DATASETS.TEST:
        command += """ DATASETS.TEST "('TEST_SET',)\""""
        missing = ["TEST_SET: what to report on, registered as the others are; the yaml has none."]
    folder = write_calibrated_config(
        args.output,
        cfg,
        keys,
        config_file=args.config_file,
        overrides=args.opts,
        comments=[command, *missing, _IN_PYTHON, *lines, f"Written by {shlex.join(sys.argv)}"],
    )
    print(f"Wrote {args.output}.", end=" Next:\n" if is_of_use else "\n")
    where = f"The evaluation goes to {folder}, so that the run's own results stay."
    for line in [f"  {command}", f"  {shlex.join(predict)}", *missing, where] * is_of_use:
        print(line)
