"""Configurations that quote published numbers have the published settings, or say what differs.

Sources: Ren et al. 2020 (arXiv 2007.10740), section 4 and the supplement, and the authors' released
code where its name stands beside.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balms_seg.engine import load_config

METHOD = "MODEL.IMAGE_CLASSIFIER.METHOD"
CLASSIFIER = "MODEL.ROI_BOX_HEAD.CLASSIFIER"
META_SAMPLER = "MetaRepeatFactorTrainingSampler"
ROOT = Path(__file__).resolve().parents[2] / "configs"

CIFAR = {
    "SOLVER.IMS_PER_BATCH": 512,
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.LR_SCHEDULER_NAME": "cosine, once an epoch",  # the release
    "SOLVER.WARMUP_ITERS": 800,
    "SOLVER.WARMUP_FACTOR": 0.5,
    "SOLVER.MAX_ITER": 13_000,
    "SOLVER.NESTEROV": False,  # the release
    "MODEL.PIXEL_STD": [51.6, 50.8, 51.3],  # the release
}
CIFAR_STAGE_TWO = {**CIFAR, "SOLVER.WARMUP_ITERS": 0, "SOLVER.MAX_ITER": 2_000}
SAMPLER = {"META.ESTIMATOR": "gumbel_image", "META.LOOKAHEAD": 0, "MODEL.INIT_CLASSIFIER": "reset"}
META_CIFAR = {
    "META.LR": 0.01,
    "META.BETAS": (0.9, 0.99),
    "META.BLOCK": 512,
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
PLACES_LT = {  # the release; stage one's length and rate are in neither
    **{key: value for key, value in IMAGENET_LT.items() if key != "SOLVER.BASE_LR"},
    "SOLVER.IMS_PER_BATCH": 256,
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
LVIS_DATA = {
    "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 0.001,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.MOMENTUM": 0.9,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0001,
    "TEST.DETECTIONS_PER_IMAGE": 300,
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
}
FEATURES = {**LVIS_DATA, "SOLVER.MAX_ITER": 90_000, "SOLVER.STEPS": (60_000, 80_000)}
LAST_LAYER = {
    **LVIS_DATA,
    CLASSIFIER: "balanced_sigmoid",
    "MODEL.TRAIN_ONLY": ["roi_heads.box_predictor.cls_score"],
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MAX_ITER": 22_000,
    "SOLVER.STEPS": (11_000, 18_000),
}
PAPER, RELEASE = {"SOLVER.IMS_PER_BATCH": 8}, {"SOLVER.IMS_PER_BATCH": 16}
PAPER_FEATURES = {**FEATURES, **PAPER, "SOLVER.BASE_LR": 0.01}
LVIS_V05 = {
    "softmax_mask_rcnn_R_50_FPN_1x": {**PAPER_FEATURES, CLASSIFIER: "softmax"},
    "sigmoid_mask_rcnn_R_50_FPN_1x": {**PAPER_FEATURES, CLASSIFIER: "sigmoid"},
    # The paper's number is that of features under a sigmoid, then 22,000 iterations of its own.
    "balanced_sigmoid_mask_rcnn_R_50_FPN_1x": {**LAST_LAYER, **PAPER},
    "paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x": {**PAPER_FEATURES, CLASSIFIER: "sigmoid"},
    "paper_classifier_balanced_sigmoid_mask_rcnn_R_50_FPN": {**LAST_LAYER, **PAPER},
    "paper_balms_reweighter_mask_rcnn_R_50_FPN": {
        **LAST_LAYER,
        **PAPER,
        "MODEL.ROI_HEADS.NAME": "BALMSROIHeads",
        "META.SOURCE": "loader",
        "META.LR": 0.001,
        "META.OBJECTIVE": "plain",
    },
    "feature_sigmoid_mask_rcnn_R_50_FPN_1x": {
        **FEATURES,
        **RELEASE,
        CLASSIFIER: "sigmoid",
        "SOLVER.BASE_LR": 0.02,
    },
    "classifier_balanced_sigmoid_mask_rcnn_R_50_FPN": {**LAST_LAYER, **RELEASE},
    "balms_reweighter_mask_rcnn_R_50_FPN": {
        **LAST_LAYER,
        **RELEASE,
        "MODEL.ROI_HEADS.NAME": "BALMSROIHeads",
        "META.SOURCE": "loader",
        "META.LR": 0.01,
        "META.OBJECTIVE": "balanced",
    },
}
# Epochs of 100,170 images, 16 at a time, rounded; mmdetection's steps at 2/3 and 11/12 of the run.
EPOCHS_12 = {"SOLVER.MAX_ITER": 75_000, "SOLVER.STEPS": (50_000, 68_750), **RELEASE}
EPOCHS_24 = {"SOLVER.MAX_ITER": 150_000, "SOLVER.STEPS": (100_000, 137_500), **RELEASE}
REPEATED = {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}
LVIS_V1 = {
    "seesaw_mask_rcnn_R_50_FPN_1x": {**EPOCHS_24, **REPEATED, CLASSIFIER: "seesaw"},
    "gol_mask_rcnn_R_50_FPN_1x": {
        **EPOCHS_24,
        **REPEATED,
        CLASSIFIER: "gol",
        "MODEL.ROI_MASK_HEAD.NAME": "CosineMaskHead",
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    },
    "ecm_mask_rcnn_R_50_FPN_1x": {
        **EPOCHS_24,
        **REPEATED,
        CLASSIFIER: "ecm",
        "MODEL.ROI_MASK_HEAD.NAME": "CosineMaskHead",
        "SOLVER.WARMUP_ITERS": 10_000,
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 5.0,
    },
    "eqlv2_mask_rcnn_R_50_FPN_1x": {
        **EPOCHS_12,
        CLASSIFIER: "eqlv2",
        "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    },
    # Wang et al. 2021, tables 9 and 3; EQL's threshold is that of its authors' later release.
    "bags_mask_rcnn_R_50_FPN": {**EPOCHS_12, **REPEATED, CLASSIFIER: "bags"},
    "eql_mask_rcnn_R_50_FPN_1x": {
        **EPOCHS_24,
        **REPEATED,
        CLASSIFIER: "eql",
        "MODEL.METHODS.EQL.THRESHOLD": 0.0011,
    },
    # Box AP of a Faster R-CNN, as the header says; of another detector.
    "fcbl_mask_rcnn_R_50_FPN": {**EPOCHS_12, CLASSIFIER: "fcbl"},
    "federated_mask_rcnn_R_50_FPN_1x": {CLASSIFIER: "federated"},
    # Of LVIS v0.5; the settings there are not told.
    **{
        f"{name}_mask_rcnn_R_50_FPN_1x": {CLASSIFIER: name} for name in ("focal", "cb_loss", "ldam")
    },
}
CIFAR_LOSSES = {  # the paper's end-to-end rows share a recipe
    "softmax": {},
    "balanced_softmax": {},
    "cb_loss": {},
    "class_balanced_weighting": {},
    "focal": {},
    "ldam": {},
    "class_balanced_sampling": {
        METHOD: "softmax",
        "DATALOADER.SAMPLER_TRAIN": "ClassBalancedTrainingSampler",
    },
}
BALANCED = {**CIFAR_STAGE_TWO, METHOD: "balanced_softmax", "MODEL.INIT_CLASSIFIER": "reset"}
RETRAINED = {**CIFAR_STAGE_TWO, "DATALOADER.SAMPLER_TRAIN": "ClassBalancedTrainingSampler"}
CIFAR_STAGES = {
    "classifier_balanced_softmax": BALANCED,
    "crt": {**RETRAINED, "MODEL.INIT_CLASSIFIER": "reset"},
    "lws": {**RETRAINED, "MODEL.INIT_CLASSIFIER": "lws"},
    "balms": {**BALANCED, **META_CIFAR, **SAMPLER, "DATALOADER.SAMPLER_TRAIN": META_SAMPLER},
    "balms_reweighter": {
        **BALANCED,
        **META_CIFAR,
        "META.LEARN": "weights",
        "META.NORMALISE": "rank",  # the release
    },
}
# juyongjiang/FBL: train.py; 10,847 and 12,406 images, batches of 64, for 200 epochs.
FEATURE_BALANCED = {
    METHOD: "feature_balanced",
    "MODEL.METHODS.FEATURE_BALANCED.STRENGTH": 60.0,
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.WEIGHT_DECAY": 2e-4,
    "SOLVER.NESTEROV": False,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.GAMMA": 0.01,
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip"],
}
PUBLISHED = {
    "classification/imagenet_lt/softmax_resnet10.yaml": {**IMAGENET_LT, METHOD: "softmax"},
    "classification/imagenet_lt/balms_resnet10.yaml": {
        **IMAGENET_LT,
        **SAMPLER,
        METHOD: "balanced_softmax",
        "SOLVER.BASE_LR": 0.5,
        "META.LR": 0.001,
        "META.BATCH_SIZE": 1024,
        "META.INIT_POW": 0.1,
        "META.DATASET": "imagenet_lt_val",  # the release
        "DATALOADER.SAMPLER_TRAIN": META_SAMPLER,
        "META.BLOCK": 512,
    },
    "classification/places_lt/softmax_resnet152.yaml": {**PLACES_LT, METHOD: "softmax"},
    "classification/places_lt/balms_resnet152.yaml": {
        **PLACES_LT,
        **SAMPLER,
        METHOD: "balanced_softmax",
        "SOLVER.BASE_LR": 0.02,
        "META.LR": 0.001,
        "META.BATCH_SIZE": 512,
        "META.INIT_POW": 0.3,
        "META.DATASET": "places_lt_val",  # the release
        "DATALOADER.SAMPLER_TRAIN": META_SAMPLER,
        "META.BLOCK": 256,
    },
    "classification/inaturalist2018/balanced_softmax_resnet50.yaml": {
        **INATURALIST,
        METHOD: "balanced_softmax",
    },
    **{
        f"classification/cifar{n}_lt/{name}_rho{rho}.yaml": {**recipe, **settings}
        for n in (10, 100)
        for rho in (10, 100, 200)
        for recipe, rows in (
            (CIFAR, {name: {METHOD: name, **more} for name, more in CIFAR_LOSSES.items()}),
            ({}, CIFAR_STAGES),
        )
        for name, settings in rows.items()
    },
    "classification/cifar10_lt/feature_balanced_rho100.yaml": {
        **FEATURE_BALANCED,
        "SOLVER.MAX_ITER": 38_769,
        "SOLVER.WARMUP_ITERS": 969,
        "SOLVER.STEPS": (31_015, 34_892),
    },
    "classification/cifar100_lt/feature_balanced_rho100.yaml": {
        **FEATURE_BALANCED,
        "SOLVER.MAX_ITER": 33_897,
        "SOLVER.WARMUP_ITERS": 847,
        "SOLVER.STEPS": (27_118, 30_507),
    },
    **{f"lvis_v0.5/{name}.yaml": settings for name, settings in LVIS_V05.items()},
    **{f"lvis_v1/{name}.yaml": settings for name, settings in LVIS_V1.items()},
}


def told_differences(name: str) -> set[str]:
    """Keys that the headers of a file and of its bases name as different.

    A base that quotes numbers of its own speaks for these alone.
    """
    path, told = ROOT / name, set()
    while path is not None:
        text = path.read_text()
        header = " ".join(re.findall(r"^# ?(.*)", text, re.MULTILINE))
        for sentence in re.findall(r"Differs from .*?(?=\. [A-Z]|$)", header):
            told |= set(re.findall(r"[A-Z]+(?:\.[A-Z_]+)+", sentence))
        base = re.search(r"^_BASE_: (\S+)", text, re.MULTILINE)
        path = (path.parent / base[1]).resolve() if base else None
        if path is not None and str(path.relative_to(ROOT)) in PUBLISHED:
            break
    return told


@pytest.mark.parametrize(
    "name",
    [
        # One ratio of each recipe is enough every time.
        pytest.param(name, marks=pytest.mark.slow) if re.search("rho(10|200)[.]", name) else name
        for name in PUBLISHED
    ],
)
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


def test_every_configuration_that_quotes_numbers_is_compared() -> None:
    quoting = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.yaml")
        if "Published, not run here" in path.read_text()
    }
    assert quoting == set(PUBLISHED)


@pytest.mark.parametrize("name", ["cifar10_lt", "imagenet_lt", "places_lt", "inaturalist2018"])
def test_the_classifiers_start_is_said_to_differ(name: str) -> None:
    header = " ".join(
        re.findall(r"^# ?(.*)", (ROOT / "classification" / name / "base.yaml").read_text(), re.M)
    )
    assert "N(0, 0.01)" in header[header.index("Differs from") :]
