"""The box classifier: its method, its layer, and what is done to its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.methods import classifier_problems, expected_method

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EMPTY_CLASS_POLICIES = ("floor", "error")


def add_keys(cfg: CfgNode) -> None:
    """Declare what `LongTailedROIHeads` read."""
    from detectron2.config import CfgNode

    from balms_seg.modeling.classifier_layer import BOX_COSINE_SCALE

    head = cfg.MODEL.ROI_BOX_HEAD
    # Box-classification method, a key of balms_seg.methods.METHODS. Empty: the one that the name in
    # MODEL.ROI_HEADS.NAME fixes (LongTailedROIHeads fixes none and needs this key).
    head.CLASSIFIER = ""
    # Layer of the box classifier: linear | cosine (of normalised features and weights). auto: what
    # the method is made for.
    head.CLASSIFIER_LAYER = "auto"
    # What a cosine classifier multiplies its cosines with; methods made for one have their own.
    head.COSINE_SCALE = BOX_COSINE_SCALE
    # Classes without a training sample: floor (count one sample, warn) | error.
    head.EMPTY_CLASSES = "floor"

    # Whether background says nothing of classes that are neither annotated in its image nor in the
    # image's neg_category_ids, or are in its not_exhaustive_category_ids.
    cfg.MODEL.PARTIAL_LABELS = False

    # Lowest score of a detection, a number a class; empty: SCORE_THRESH_TEST for all. For use, not
    # for measuring AP, which they lower. `balms-seg thresholds` chooses them.
    head.CLASS_THRESHOLDS = []

    head.CALIBRATION = CfgNode()
    # Post-hoc calibration of the scores: none | norcal | logit_adjustment | fracal |
    # group_temperature. balms-seg calibrate chooses the constant and writes these keys.
    head.CALIBRATION.METHOD = "none"
    # gamma of norcal, tau of logit_adjustment, lambda of fracal.
    head.CALIBRATION.STRENGTH = 1.0
    # Temperatures of rare, common and frequent classes for group_temperature.
    head.CALIBRATION.TEMPERATURES = (1.0, 1.0, 1.0)
    # Training counts n_c of these methods: image | instance. For fracal they are the release's
    # base10 (shares of all images) and base10_obj (of all instances).
    head.CALIBRATION.COUNTS = "image"
    # Fractal dimension of each class for fracal.
    head.CALIBRATION.DIMENSIONS = []

    # Widths of the stages of build_small_resnet_fpn_backbone, finest first; strides 4, 8, 16, ...
    cfg.MODEL.SMALL_RESNET = CfgNode()
    cfg.MODEL.SMALL_RESNET.WIDTHS = [32, 64, 96]
    # Basic blocks in each of those stages.
    cfg.MODEL.SMALL_RESNET.BLOCKS = [1, 1, 1]


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Values of the box classifier's keys that mean nothing."""
    from balms_seg.methods import METHODS
    from balms_seg.modeling.classifier_layer import BOX_COSINE_SCALE
    from balms_seg.modeling.roi_heads import FIXED_CLASSIFIERS, LONG_TAILED_HEADS, our_heads

    head, name = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS.NAME
    if name not in LONG_TAILED_HEADS or of_images:
        if cfg.MODEL.PARTIAL_LABELS:
            return [_why_no_partial_labels(name, of_images=of_images)]
        ignored = [
            f"MODEL.ROI_BOX_HEAD.{key}"
            for key, is_set in {
                "CLASS_THRESHOLDS": len(head.CLASS_THRESHOLDS) > 0,
                "CALIBRATION.METHOD": head.CALIBRATION.METHOD != "none",
            }.items()
            if is_set
        ]
        if ignored and not of_images:
            return [
                f"{' and '.join(ignored)} {'is' if len(ignored) == 1 else 'are'} set, but "
                f"MODEL.ROI_HEADS.NAME is {name!r}, which reads no such key; set the name to "
                f"{our_heads(name)} and, for a classifier of detectron2's own, "
                "MODEL.ROI_BOX_HEAD.CLASSIFIER to softmax."
            ]
        if not head.CLASSIFIER:
            return []
        if of_images:
            return [
                f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {head.CLASSIFIER!r}, which only detectors read; "
                "choose the method of an image classifier by MODEL.IMAGE_CLASSIFIER.METHOD."
            ]
        return [
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {head.CLASSIFIER!r} but MODEL.ROI_HEADS.NAME is "
            f"{name!r}, which does not read it; set the name to {our_heads(name)}."
        ]
    found = []
    fixed = FIXED_CLASSIFIERS.get(name)
    method = head.CLASSIFIER or fixed
    if method not in METHODS:
        found.append(
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {head.CLASSIFIER!r} and MODEL.ROI_HEADS.NAME "
            f"{name!r}; {expected_method(head.CLASSIFIER)}"
        )
    elif fixed and method != fixed:
        found.append(
            f"MODEL.ROI_HEADS.NAME {name!r} fixes the classifier to {fixed!r}, but "
            f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {method!r}; clear it or use LongTailedROIHeads."
        )
    found += classifier_problems(
        head,
        "MODEL.ROI_BOX_HEAD",
        str(method),
        kind_key="CLASSIFIER_LAYER",
        default_scale=BOX_COSINE_SCALE,
        init_classifier=cfg.MODEL.INIT_CLASSIFIER,
        initial_bias=cfg.MODEL.INITIAL_BIAS,
    )
    found += _background_problems(cfg)
    if "Cascade" in name and not head.CLS_AGNOSTIC_BBOX_REG:
        found.append(
            f"MODEL.ROI_HEADS.NAME is {name!r}, but a cascade regresses boxes for all classes "
            "alike; set MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG to True."
        )
    thresholds, num_classes = head.CLASS_THRESHOLDS, cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if len(thresholds) not in (0, num_classes) or not all(0 <= each <= 1 for each in thresholds):
        found.append(
            f"MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS has {len(thresholds)} entries; expected one in "
            f"[0, 1] for each of MODEL.ROI_HEADS.NUM_CLASSES {num_classes} classes, or none."
        )
    found += [
        f"MODEL.ROI_BOX_HEAD.{key} is detectron2's own classification loss and contradicts "
        f"MODEL.ROI_HEADS.NAME {name!r}; set it to False."
        for key in ("USE_FED_LOSS", "USE_SIGMOID_CE")
        if head.get(key, False)
    ]
    return found + _head_value_problems(head)


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
            f"{where}.DIMENSIONS is empty, which fracal needs; balms-seg calibrate writes it."
        )
    return problems


def _why_no_partial_labels(heads: str, *, of_images: bool) -> str:
    if of_images:
        return (
            "MODEL.PARTIAL_LABELS is True, but an image that is classified as a whole has one "
            "class and no other; set it to False."
        )
    return (
        "MODEL.PARTIAL_LABELS is True, which detectors read whose MODEL.ROI_HEADS.NAME is "
        f"LongTailedROIHeads or one like it, but it is {heads!r}; set one of them."
    )
