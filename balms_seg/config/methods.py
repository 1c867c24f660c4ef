"""The settings of methods as configuration keys, MODEL.METHODS.<NAME>.<FIELD>, and their checks.

A method declares its settings itself (`Method.Settings`): what each of them means stands there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_METHODS, _HEAD, _IMAGE = "MODEL.METHODS", "MODEL.ROI_BOX_HEAD", "MODEL.IMAGE_CLASSIFIER"

# Keys that settings of methods have replaced.
MOVED_KEYS = {
    f"{_HEAD}.PRIOR": f"{_METHODS}.BALANCED_SOFTMAX.PRIOR",
    f"{_HEAD}.BACKGROUND": f"{_METHODS}.BALANCED_SOFTMAX.BACKGROUND",
    f"{_HEAD}.BACKGROUND_COUNT": f"{_METHODS}.BALANCED_SOFTMAX.BACKGROUND_COUNT",
    f"{_HEAD}.SIGMOID_PRIOR_PROBABILITY": (
        f"{_METHODS}.SIGMOID.PRIOR_PROBABILITY and {_METHODS}.BALANCED_SIGMOID.PRIOR_PROBABILITY"
    ),
    f"{_IMAGE}.FOCAL_GAMMA": f"{_METHODS}.FOCAL.GAMMA and {_METHODS}.CB_LOSS.GAMMA",
    f"{_IMAGE}.CB_BETA": f"{_METHODS}.CB_LOSS.BETA and {_METHODS}.LDAM_DRW.BETA",
    f"{_IMAGE}.CB_LOSS": f"{_METHODS}.CB_LOSS.LOSS",
    f"{_IMAGE}.LDAM_MAX_MARGIN": f"{_METHODS}.LDAM.MAX_MARGIN and {_METHODS}.LDAM_DRW.MAX_MARGIN",
    f"{_IMAGE}.DRW_START": f"{_METHODS}.LDAM_DRW.START",
    f"{_IMAGE}.LOGIT_ADJUSTMENT_TAU": (
        f"{_METHODS}.LOGIT_ADJUSTMENT.TAU and {_METHODS}.POST_HOC_LOGIT_ADJUSTMENT.TAU"
    ),
    f"{_IMAGE}.FBL_LAMBDA": f"{_METHODS}.FEATURE_BALANCED.STRENGTH",
    f"{_IMAGE}.FBL_ALPHA": f"{_METHODS}.FEATURE_BALANCED.ALPHA",
    f"{_IMAGE}.FBL_RAMP": f"{_METHODS}.FEATURE_BALANCED.RAMP",
}

# Of values whose default shows nothing of their form.
EXAMPLES = {f"{_METHODS}.CLASS_WEIGHTS.BY_NAME": "[['zebra', 2.0]]"}


def add_keys(cfg: CfgNode) -> None:
    """Declare the settings of every registered method, those of installed packages included."""
    from detectron2.config import CfgNode

    from balms_seg.methods import METHODS, load_entry_points

    load_entry_points()
    cfg.MODEL.METHODS = CfgNode()
    for name, method in METHODS.items():
        settings = method.Settings()
        cfg.MODEL.METHODS[name.upper()] = CfgNode(
            {field.name.upper(): getattr(settings, field.name) for field in fields(settings)}
        )
    for old, new in MOVED_KEYS.items():  # for scripts that merge files on their own
        cfg.register_renamed_key(old, new)


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """One line for each setting that means nothing, whether or not its method is chosen."""
    from balms_seg.methods import METHODS, SettingError, settings_from

    if of_images:
        chosen = (cfg.MODEL.IMAGE_CLASSIFIER.METHOD, cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES)
    else:
        chosen = (cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    found = []
    for name in METHODS:
        if name.upper() not in cfg.MODEL.METHODS:  # registered since: not this configuration's
            continue
        node = f"MODEL.METHODS.{name.upper()}"
        try:
            settings = settings_from(cfg.MODEL.METHODS, name)
            if name == chosen[0] and chosen[1] > 0:  # 0: the photographs will say
                settings.check_classes(chosen[1])
        except SettingError as error:
            key = f"{node}.{error.name.upper()}"
            found.append(f"{key} is {error.value!r}; expected {error.expected}.")
        except (TypeError, ValueError) as error:
            found.append(f"{node}: {error}")
    return found


def classifier_problems(
    node: CfgNode,
    where: str,
    name: str,
    *,
    kind_key: str,
    default_scale: float,
    init_classifier: str,
    initial_bias: str,
) -> list[str]:
    """What a job's choice of method and of the classifier's layer contradicts.

    Args:
        node: that holds the choice of the layer and `COSINE_SCALE`.
        where: its key.
        name: of the method.
        kind_key: of the layer, in the node.
        default_scale: of cosines.
        init_classifier: `MODEL.INIT_CLASSIFIER`.
        initial_bias: `MODEL.INITIAL_BIAS`.
    """
    from balms_seg.methods import METHODS
    from balms_seg.modeling.classifier_layer import CLASSIFIER_KINDS

    kind, problems = node[kind_key], []
    if kind not in CLASSIFIER_KINDS:
        problems.append(
            f"{where}.{kind_key} is {kind!r}; expected one of {', '.join(CLASSIFIER_KINDS)}."
        )
    if not node.COSINE_SCALE > 0:
        problems.append(f"{where}.COSINE_SCALE is {node.COSINE_SCALE}; expected a number above 0.")
    if name not in METHODS:
        return problems
    method = METHODS[name]
    is_cosine = (method.classifier_kind if kind == "auto" else kind) == "cosine"
    if is_cosine and init_classifier in ("lws", "tau_norm", "discriminant"):
        problems.append(
            f"MODEL.INIT_CLASSIFIER is {init_classifier!r}, which needs a linear classifier; set "
            f"{where}.{kind_key} to linear."
        )
    if method.independent_scores and init_classifier == "discriminant":
        problems.append(
            f"MODEL.INIT_CLASSIFIER is discriminant, whose scores mean something beside each other "
            f"alone, but those of {name} stand alone; set it to reset, or take a softmax."
        )
    if is_cosine and initial_bias == "prior":
        problems.append(
            f"MODEL.INITIAL_BIAS is prior, but a classifier of cosines has no bias; set "
            f"{where}.{kind_key} to linear, or the bias to method."
        )
    if method.needs_cosines and kind == "linear":
        problems.append(
            f"{where}.{kind_key} is linear, but the loss of {name} is of cosines; set it to auto."
        )
    if method.needs_cosines and abs(node.COSINE_SCALE - default_scale) > 0:
        problems.append(
            f"{where}.COSINE_SCALE is {node.COSINE_SCALE}, but {name} has a scale of its own; set "
            f"MODEL.METHODS.{name.upper()}.SCALE instead."
        )
    return problems


def expected_method(name: str) -> str:
    """The methods that there are, the nearest to a wrong name, and where others come from."""
    from balms_seg.methods import METHODS

    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"expected a method out of {', '.join(METHODS)}.{hint} A method of your own is registered "
        "by --import MODULE, or by an entry point of group balms_seg.methods."
    )


def check_method_names(config: Mapping[str, Any], where: str) -> None:
    """Stop where a file or the command line sets keys of methods that cannot be.

    Args:
        config: nested dicts.
        where: the file's name, for the message.

    Raises:
        KeyError: a method is not known.
        ValueError: a mapping stands where pairs are expected, which alone can be merged.
    """
    from balms_seg.methods import METHODS

    model = config.get("MODEL")
    nodes = model.get("METHODS") if isinstance(model, Mapping) else None
    nodes = nodes if isinstance(nodes, Mapping) else {}
    known = [name.upper() for name in METHODS]
    for name in nodes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise KeyError(
                f"{where} sets MODEL.METHODS.{name}, but there is no method {name.lower()!r}; "
                f"{hint}A method of your own is registered by --import MODULE, or by an entry "
                "point of group balms_seg.methods."
            )
        for field, value in nodes[name].items():
            if value and isinstance(value, Mapping) and f"{_METHODS}.{name}.{field}" in EXAMPLES:
                pairs = [list(pair) for pair in value.items()]
                raise ValueError(
                    f"{where} sets {_METHODS}.{name}.{field} to a mapping; write its pairs, "
                    f"{pairs}."
                )
