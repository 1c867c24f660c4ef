"""Configurations that quote published numbers have the published settings, or say what differs.

Sources: Ren et al. 2020 (arXiv 2007.10740), section 4 and the supplement, and the authors' released
code where its name stands beside.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balms_seg.engine import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"

CIFAR = {
    "SOLVER.IMS_PER_BATCH": 512,
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.LR_SCHEDULER_NAME": "cosine, once an epoch",  # the release
    "SOLVER.WARMUP_ITERS": 800,
    "SOLVER.MAX_ITER": 13_000,
    "SOLVER.NESTEROV": False,  # the release
    "MODEL.PIXEL_STD": [51.6, 50.8, 51.3],  # the release
}
SAMPLER = {"META.ESTIMATOR": "gumbel_image", "META.LOOKAHEAD": 0, "MODEL.INIT_CLASSIFIER": "reset"}
CIFAR_BALMS = {
    **CIFAR,
    **SAMPLER,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 2_000,
    "META.LR": 0.01,
    "META.BETAS": (0.9, 0.99),
    "META.BLOCK": 512,
}
LVIS_PAPER = {
    "SOLVER.IMS_PER_BATCH": 8,
    "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid",
    "SOLVER.MAX_ITER": 22_000,
    "SOLVER.BASE_LR": 0.02,
    "META.LR": 0.001,
    "META.OBJECTIVE": "plain",
}
IMAGENET_LT = {  # the release, config/ImageNet_LT/softmax_resnet10.yaml
    "SOLVER.IMS_PER_BATCH": 512,
    "SOLVER.BASE_LR": 0.2,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.WEIGHT_DECAY_NORM": 5e-4,
    "SOLVER.NESTEROV": False,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.LR_SCHEDULER_NAME": "cosine, once an epoch",
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "color_jitter"],
}
# LADE (Hong et al. 2021), hyperconnect/LADE at 150181e, config/iNaturalist18/balanced_softmax.yaml.
INATURALIST = {
    "SOLVER.IMS_PER_BATCH": 256,
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.WEIGHT_DECAY_NORM": 1e-4,
    "SOLVER.NESTEROV": False,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.LR_SCHEDULER_NAME": "a tenth every 30 epochs",
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip"],
}
PUBLISHED = {
    "classification/imagenet_lt/softmax_resnet10.yaml": IMAGENET_LT,
    "classification/inaturalist2018/softmax_resnet50.yaml": INATURALIST,
    "classification/inaturalist2018/balanced_softmax_resnet50.yaml": INATURALIST,
    **{
        f"classification/cifar{n}_lt/balanced_softmax_rho{r}.yaml": CIFAR
        for n in (10, 100)
        for r in (10, 100, 200)
    },
    **{
        f"classification/cifar{n}_lt/balms_rho{r}.yaml": CIFAR_BALMS
        for n in (10, 100)
        for r in (10, 100, 200)
    },
    **{
        f"classification/cifar{n}_lt/balms_reweighter_rho{r}.yaml": {"META.NORMALISE": "rank"}
        for n in (10, 100)
        for r in (10, 100, 200)
    },
    "classification/imagenet_lt/balms_resnet10.yaml": {
        **SAMPLER,
        "SOLVER.IMS_PER_BATCH": 512,
        "SOLVER.BASE_LR": 0.5,
        "META.LR": 0.001,
        "META.BATCH_SIZE": 1024,
        "META.INIT_POW": 0.1,
        "META.DATASET": "imagenet_lt_val",  # the release
        "META.BLOCK": 512,
    },
    "classification/places_lt/balms_resnet152.yaml": {
        **SAMPLER,
        "SOLVER.IMS_PER_BATCH": 256,
        "SOLVER.BASE_LR": 0.02,
        "META.LR": 0.001,
        "META.BATCH_SIZE": 512,
        "META.INIT_POW": 0.3,
        "META.DATASET": "places_lt_val",  # the release
        "META.BLOCK": 256,
    },
    "lvis_v0.5/paper_balms_reweighter_mask_rcnn_R_50_FPN.yaml": LVIS_PAPER,
    "lvis_v0.5/balms_reweighter_mask_rcnn_R_50_FPN.yaml": {  # the release
        **LVIS_PAPER,
        "SOLVER.IMS_PER_BATCH": 16,
        "META.LR": 0.01,
        "META.OBJECTIVE": "balanced",
    },
}


def told_differences(name: str) -> set[str]:
    """Keys that the headers of a file and of its bases name as different."""
    path, told = ROOT / name, set()
    while path is not None:
        text = path.read_text()
        header = " ".join(re.findall(r"^# ?(.*)", text, re.MULTILINE))
        for sentence in re.findall(r"Differs from .*?(?=\. [A-Z]|$)", header):
            told |= set(re.findall(r"[A-Z]+(?:\.[A-Z_]+)+", sentence))
        base = re.search(r"^_BASE_: (\S+)", text, re.MULTILINE)
        path = (path.parent / base[1]).resolve() if base else None
    return told


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_differs_from_what_is_published_is_said(name: str) -> None:
    cfg = load_config(ROOT / name)
    differing = set()
    for key, published in PUBLISHED[name].items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        plain = tuple(value) if isinstance(value, list | tuple) else value
        expected = tuple(published) if isinstance(published, list | tuple) else published
        if plain != expected:
            differing.add(key)
    assert differing <= told_differences(name)
