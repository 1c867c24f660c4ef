"""What the keys of a detector mean together, and which of their values contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.methods import BOX_COSINE_SCALE, classifier_problems
from balms_seg.job import classifier_name, classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EMPTY_CLASS_POLICIES = ("floor", "error")


def detector_problems(cfg: CfgNode) -> list[str]:
    """Values of the box classifier's keys, of its start and of evaluation that mean nothing."""
    return [
        *_classifier_problems(cfg),
        *_init_classifier_problems(cfg),
        *_evaluation_problems(cfg),
    ]


def _classifier_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.methods import METHODS
    from balms_seg.modeling.roi_heads import FIXED_CLASSIFIERS, LONG_TAILED_HEADS

    head, name = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS.NAME
    if name not in LONG_TAILED_HEADS:
        if not head.CLASSIFIER:
            return []
        return [
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {head.CLASSIFIER!r} but MODEL.ROI_HEADS.NAME is "
            f"{name!r}, which does not read it; set the name to LongTailedROIHeads."
        ]
    problems = []
    fixed = FIXED_CLASSIFIERS.get(name)
    method = head.CLASSIFIER or fixed
    if method not in METHODS:
        problems.append(
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {head.CLASSIFIER!r} and MODEL.ROI_HEADS.NAME "
            f"{name!r}; expected a CLASSIFIER out of {', '.join(METHODS)}."
        )
    elif fixed and method != fixed:
        problems.append(
            f"MODEL.ROI_HEADS.NAME {name!r} fixes the classifier to {fixed!r}, but "
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {method!r}; clear it or use LongTailedROIHeads."
        )
    problems += classifier_problems(
        head,
        "MODEL.ROI_BOX_HEAD",
        str(method),
        kind_key="CLASSIFIER_LAYER",
        default_scale=BOX_COSINE_SCALE,
    )
    problems += _background_problems(cfg)
    problems += [
        f"MODEL.ROI_BOX_HEAD.{key} is detectron2's own classification loss and contradicts "
        f"MODEL.ROI_HEADS.NAME {name!r}; set it to False."
        for key in ("USE_FED_LOSS", "USE_SIGMOID_CE")
        if head.get(key, False)
    ]
    return problems + _head_value_problems(head)


def _head_value_problems(head: CfgNode) -> list[str]:
    problems = []
    if head.EMPTY_CLASSES not in EMPTY_CLASS_POLICIES:
        problems.append(
            f"MODEL.ROI_BOX_HEAD.EMPTY_CLASSES is {head.EMPTY_CLASSES!r}; expected one of "
            f"{', '.join(EMPTY_CLASS_POLICIES)}."
        )
    return problems + _calibration_problems(head.CALIBRATION)


def _background_problems(cfg: CfgNode) -> list[str]:
    """Where a background count is derived from another share of background than is sampled."""
    node, share = cfg.MODEL.METHODS.BALANCED_SOFTMAX, cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION
    if node.BACKGROUND != "prior" or node.BACKGROUND_COUNT:
        return []
    sampled = (1 - share) / share
    if abs(node.BACKGROUND_RATIO - sampled) <= 1e-6 * sampled:
        return []
    return [
        f"MODEL.METHODS.BALANCED_SOFTMAX.BACKGROUND_RATIO is {node.BACKGROUND_RATIO}, but "
        f"MODEL.ROI_HEADS.POSITIVE_FRACTION {share} samples {sampled:g} background proposals for "
        "each foreground one; set it to that, or BACKGROUND_COUNT."
    ]


def _calibration_problems(calibration: CfgNode) -> list[str]:
    from balms_seg.methods.calibration import CALIBRATIONS

    where = "MODEL.ROI_BOX_HEAD.CALIBRATION"
    problems = []
    for key, values in (("METHOD", CALIBRATIONS), ("COUNTS", ("image", "instance"))):
        if calibration[key] not in values:
            problems.append(
                f"{where}.{key} is {calibration[key]!r}; expected one of {', '.join(values)}."
            )
    temperatures = calibration.TEMPERATURES
    if len(temperatures) != 3 or not all(value > 0 for value in temperatures):
        problems.append(
            f"{where}.TEMPERATURES is {temperatures}; expected three positive numbers, for rare, "
            "common and frequent classes."
        )
    if calibration.METHOD == "fracal" and not len(calibration.DIMENSIONS):
        problems.append(
            f"{where}.DIMENSIONS is empty, which fracal needs; tools/calibrate.py writes it."
        )
    return problems


def _init_classifier_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.modeling.classifier_init import INIT_CLASSIFIERS
    from balms_seg.modeling.roi_heads import LONG_TAILED_HEADS

    how, tau, trained = (
        cfg.MODEL.INIT_CLASSIFIER,
        cfg.MODEL.INIT_CLASSIFIER_TAU,
        list(cfg.MODEL.TRAIN_ONLY),
    )
    problems = []
    if how not in INIT_CLASSIFIERS:
        problems.append(
            f"MODEL.INIT_CLASSIFIER is {how!r}; expected one of {', '.join(INIT_CLASSIFIERS)}."
        )
    elif (
        how != "keep"
        and not classifies_images(cfg)
        and cfg.MODEL.ROI_HEADS.NAME not in LONG_TAILED_HEADS
    ):
        problems.append(
            f"MODEL.INIT_CLASSIFIER is {how!r}, which MODEL.ROI_HEADS.NAME "
            f"{cfg.MODEL.ROI_HEADS.NAME!r} does not read; set the name to LongTailedROIHeads."
        )
    if how == "lws" and (not trained or not all(name.endswith(".scale") for name in trained)):
        problems.append(
            f"MODEL.INIT_CLASSIFIER is lws, which trains the scales alone, but MODEL.TRAIN_ONLY is "
            f"{trained}; set it to [{classifier_name(cfg)}.scale]."
        )
    if tau < 0:
        problems.append(f"MODEL.INIT_CLASSIFIER_TAU is {tau}; expected 0 or more.")
    return problems


def _evaluation_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.evaluation.lvis.lvis_ap import BACKENDS

    options, problems = cfg.TEST.LONG_TAILED, []
    if options.BACKEND not in BACKENDS:
        problems.append(
            f"TEST.LONG_TAILED.BACKEND is {options.BACKEND!r}; expected one of "
            f"{', '.join(BACKENDS)}."
        )
    if options.MAX_DETECTIONS < 1:
        problems.append(
            f"TEST.LONG_TAILED.MAX_DETECTIONS is {options.MAX_DETECTIONS}; expected at least 1."
        )
    if options.BOUNDARY and not cfg.MODEL.MASK_ON:
        problems.append(
            "TEST.LONG_TAILED.BOUNDARY needs masks; set it to False or MODEL.MASK_ON to True."
        )
    return problems
