"""Whether the checkpoint that a second stage starts from is what its first stage should leave."""

from __future__ import annotations

import logging
import re

from detectron2.config import CfgNode, get_cfg

from balms_seg.config import add_balms_config
from balms_seg.engine.checkpoints import LongTailedCheckpointer
from balms_seg.engine.normalisation import require_same_normalisation
from balms_seg.model_zoo import get_config_file
from balms_seg.wording import counted

logger = logging.getLogger(__name__)

_OF_CLASSIFIER = re.compile(r"\.cls_score\.|^classifier\.")  # MODEL.INIT_CLASSIFIER starts it
_WHOLE = 0.99  # of the images: schedules are rounded


def check_stage_one(checkpointer: LongTailedCheckpointer, cfg: CfgNode) -> None:
    """Refuse weights without what stays as it is; warn of a first stage that did not end.

    Args:
        checkpointer: has loaded MODEL.WEIGHTS.
        cfg: of the run; MODEL.TRAIN_ONLY makes it a second stage.

    Raises:
        ValueError: parameters that are not trained would stay random or got another normalisation,
            or the classifier that is to be kept and trained alone is of another form.
    """
    if not (cfg.MODEL.TRAIN_ONLY and cfg.MODEL.WEIGHTS):
        return
    parameters = checkpointer.model.named_parameters()
    is_trained = {name: value.requires_grad for name, value in parameters}
    frozen = [
        name
        for name in checkpointer.absent_parameters
        if not is_trained[name] and not _OF_CLASSIFIER.search(name)
    ]
    if frozen:
        raise ValueError(
            f"MODEL.TRAIN_ONLY trains {', '.join(cfg.MODEL.TRAIN_ONLY)} alone, but MODEL.WEIGHTS "
            f"{cfg.MODEL.WEIGHTS} lacks {counted(len(frozen), 'parameter')} of the rest, which "
            f"would stay random, for example {', '.join(frozen[:3])}. Give the checkpoint of the "
            "stage before."
        )
    if all(_OF_CLASSIFIER.search(name) for name, trains in is_trained.items() if trains):
        _require_kept_classifier(checkpointer, cfg)
    record = checkpointer.loaded_record
    require_same_normalisation(cfg, record)
    batch_size = record.get("trainer", {}).get("data_loader", {}).get("batch_size")
    planned = _images_of_stage(cfg.MODEL.STAGE_ONE_CONFIG)
    if batch_size is None or planned is None:
        return
    seen = (record["iteration"] + 1) * batch_size
    if seen < _WHOLE * planned:
        logger.warning(
            "MODEL.WEIGHTS %s was trained on %s, %s on %d: is it of a trial, or of a run that has "
            "not ended?",
            *(cfg.MODEL.WEIGHTS, counted(seen, "image"), cfg.MODEL.STAGE_ONE_CONFIG, planned),
        )


def _require_kept_classifier(checkpointer: LongTailedCheckpointer, cfg: CfgNode) -> None:
    if cfg.MODEL.INIT_CLASSIFIER != "keep" or not checkpointer.other_classifiers:
        return
    name, (theirs, ours) = next(iter(checkpointer.other_classifiers.items()))
    raise ValueError(
        f"MODEL.INIT_CLASSIFIER is keep, so that {name} goes on from MODEL.WEIGHTS "
        f"{cfg.MODEL.WEIGHTS}, but there it has {theirs} columns and in the model {ours}. Give the "
        f"checkpoint of a first stage whose method has {ours} columns (before balanced_sigmoid "
        "that is sigmoid, before balanced_softmax softmax), or set MODEL.INIT_CLASSIFIER to reset."
    )


def _images_of_stage(config_file: str) -> int | None:
    """Images that a configuration of the package trains on; None where it does not say."""
    if not config_file:
        return None
    stage = get_cfg()
    add_balms_config(stage)
    try:
        stage.merge_from_file(get_config_file(config_file.removeprefix("configs/")))
    except FileNotFoundError:
        return None  # of somebody's own, which only messages name
    solver = stage.SOLVER
    return None if solver.EPOCHS > 0 else solver.MAX_ITER * solver.IMS_PER_BATCH
