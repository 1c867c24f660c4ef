"""Choose the constant of a post-hoc calibration on images the model was not trained on.

balms-seg calibrate --config-file F --dataset my_heldout --output calibrated.yaml MODEL.WEIGHTS W

The data set is a held-out part of the training data, registered by name; sets on which results are
reported are refused. Box AP decides. The yaml it writes builds on the configuration:
balms-seg train --eval-only --config-file calibrated.yaml MODEL.WEIGHTS W

Of an image classifier: logit adjustment, by tau in --strengths, which balanced accuracy decides,
and the temperature that fits. Its decisions stay unless a gain is larger than chance.

--save-outputs keeps what the model says of every proposal, and --outputs tries other constants on
that without running the model again (all methods but tau_norm).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.imports import add_import_argument
from balms_seg.engine.tuning.search_space import METHODS, METRICS

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A trained model, a held-out set, what to try and what to write."""
    parser.add_argument("--config-file", required=True, help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="held-out images")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--strengths", nargs="+", type=float, help="constants to try; default: each method's own"
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="AP", help="what decides; default: %(default)s"
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


def run(args: argparse.Namespace) -> None:
    """Tune, print, and write what was asked for."""
    from balms_seg.engine import load_config
    from balms_seg.engine.jobs.choice import build_job
    from balms_seg.engine.run_results import current_commit, package_versions
    from balms_seg.engine.tuning.calibration_run import (
        Session,
        format_trials,
        measure_on,
        refuse_unfit_set,
        tune,
        write_fragment,
    )
    from balms_seg.engine.tuning.calibration_search import best_trial

    command = shlex.join(sys.argv)
    cfg = load_config(args.config_file, args.opts)
    if args.num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
    if build_job(cfg).of_images:
        calibrate_classifier(cfg, args)
        return
    session = Session(cfg, counts=args.counts)
    refuse_unfit_set(args.dataset, cfg, allow_validation=args.allow_validation)
    trials, best = tune(
        session,
        args.dataset,
        methods=args.methods,
        strengths=args.strengths,
        metric=args.metric,
        outputs_file=args.outputs,
        save_outputs=args.save_outputs,
    )
    shown = [
        (t.method if t.strength is None else f"{t.method} {t.strength:g}", t.metrics)
        for t in trials
    ]
    print(f"Boxes on {args.dataset}, percent:\n{format_trials(shown)}")
    choice = best_trial(list(best.values()), args.metric)
    print(
        f"\nChosen by {args.metric}: {choice.method}"
        + (f" {choice.strength:g}" if choice.strength is not None else "")
    )
    reported = measure_on(session, args.report_on, best) if args.report_on else {}
    if reported:
        print(
            f"\nEach method's best, on {args.report_on}:\n{format_trials(list(reported.items()))}"
        )
    if args.output:
        table = format_trials([(name, trial.metrics) for name, trial in best.items()])
        comments = [
            f"balms-seg train --eval-only --config-file {args.output} " + shlex.join(args.opts),
            f"Chosen by {args.metric} of boxes on {args.dataset}:",
            *table.splitlines(),
            f"Written by {command}",
        ]
        write_fragment(args.output, choice, base=args.config_file, comments=comments)
        print(f"Wrote {args.output}.")
    if args.table:
        record = {
            "command": command,
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


def calibrate_classifier(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Tune the calibration of an image classifier, print, and write what was asked for."""
    from balms_seg.engine.tuning.calibration_run import write_fragment
    from balms_seg.engine.tuning.calibration_search import Trial
    from balms_seg.engine.tuning.classifier_calibration import (
        TAUS,
        adjustment_offsets,
        format_trials,
        record_held_out,
        tune_image_calibration,
    )

    if args.report_on or args.outputs or args.save_outputs or args.table:
        raise ValueError(
            "--report-on, --outputs, --save-outputs and --table are for detectors; evaluate the "
            "calibrated classifier with balms-seg train --eval-only."
        )
    held_out = record_held_out(cfg, args.dataset, allow_validation=args.allow_validation)
    trials, choice = tune_image_calibration(held_out, args.strengths or TAUS)
    print(f"{len(held_out.labels)} images of {args.dataset}, percent:\n{format_trials(trials)}")
    print(f"\nChosen: tau {choice.tau:g}, temperature {choice.temperature:.3f}")
    if args.output:
        offsets = adjustment_offsets(held_out.image_counts, choice.tau).round(6).tolist()
        keys = {
            "OFFSETS": offsets if choice.tau else [],
            "TEMPERATURE": round(choice.temperature, 6),
        }
        trial = Trial(
            "logit_adjustment",
            choice.tau,
            choice.metrics,
            {"IMAGE_CLASSIFIER": {"CALIBRATION": keys}},
        )
        comments = [
            f"balms-seg train --eval-only --config-file {args.output} " + shlex.join(args.opts),
            f"Chosen on {args.dataset}: tau {choice.tau:g}",
            *format_trials(trials).splitlines(),
            f"Written by {shlex.join(sys.argv)}",
        ]
        write_fragment(args.output, trial, base=args.config_file, comments=comments)
        print(f"Wrote {args.output}.")
