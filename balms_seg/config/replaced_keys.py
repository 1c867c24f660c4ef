"""Keys of the authors' release and of earlier versions, and what to write instead."""

from __future__ import annotations

from balms_seg.config.methods import MOVED_KEYS, check_method_names

# Keys of the authors' release and what replaces them here.
RELEASED_KEYS = {
    "DECOUPLE_TRAINING": "MODEL.TRAIN_ONLY (with MODEL.WEIGHTS naming the feature stage)",
    "META_REWEIGHT": "MODEL.ROI_HEADS.NAME: BALMSROIHeads",
    "MODEL.ROI_HEADS.PRIOR_PROB": "MODEL.METHODS.BALANCED_SIGMOID.PRIOR_PROBABILITY",
}


def check_known_keys(config: dict, where: str) -> None:
    """Name our key wherever a file uses one of the authors' release, or one that has moved.

    Args:
        config: the yaml file's content as nested dicts.
        where: the file's name, for the message.

    Raises:
        KeyError: such a key is used, or one of a method that is not known.
        ValueError: a mapping stands where pairs are expected.
    """
    replaced = {key: (ours, "a key of the authors' release") for key, ours in RELEASED_KEYS.items()}
    replaced |= {key: (ours, "which has moved") for key, ours in MOVED_KEYS.items()}
    for key, (ours, what) in replaced.items():
        node: object = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            raise KeyError(f"{where} sets {key}, {what}; use {ours}.")
    check_method_names(config, where)
