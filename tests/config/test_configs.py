"""The configuration files that ship: names, headers, deltas, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg

from balms_seg import ClassStatistics, add_balms_config
from balms_seg.class_statistics.repeat_threshold import threshold_that_repeats
from balms_seg.engine import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.yaml"))
BACKBONES = ("R_50", "R_101", "X_101_32x8d")
METHODS = ("softmax", "sigmoid", "balanced_softmax", "balanced_sigmoid")
BALMS = ("reweighter", "sampler")
STAGE_TWO = {"MODEL.WEIGHTS", "MODEL.TRAIN_ONLY", "MODEL.STAGE_ONE_CONFIG"}
SCHEDULE = {"SOLVER.STEPS", "SOLVER.MAX_ITER"}
# Methods with one LVIS v1 configuration each, and what theirs sets beside the method's name.
ZOO: dict[str, set[str]] = {
    "class_weights": set(),
    "logit_adjustment": set(),
    "federated": set(),
    "efl": set(),
    "focal": set(),
    "class_balanced_weighting": set(),
    "cb_loss": set(),
    "ldam": set(),
    "seesaw": SCHEDULE,
    "eql": {"MODEL.METHODS.EQL.THRESHOLD"},
    "eqlv2": {"DATALOADER.SAMPLER_TRAIN", *SCHEDULE},
    "droploss": {"DATALOADER.REPEAT_THRESHOLD", *SCHEDULE},
    "gol": {"MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.ROI_MASK_HEAD.NAME", *SCHEDULE},
    "ecm": {
        *SCHEDULE,
        "MODEL.ROI_MASK_HEAD.NAME",
        "SOLVER.WARMUP_ITERS",
        "SOLVER.WARMUP_FACTOR",
        "SOLVER.CLIP_GRADIENTS.ENABLED",
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    },
    "bags": {*STAGE_TWO, *SCHEDULE, "MODEL.INIT_CLASSIFIER", "SOLVER.BASE_LR"},
    "fcbl": {*STAGE_TWO, *SCHEDULE, "MODEL.METHODS.FCBL.ALPHA"},
    "logn": {
        *STAGE_TWO,
        *SCHEDULE,
        "MODEL.METHODS.LOGN.MOMENTUM",
        "SOLVER.BASE_LR",
        "SOLVER.IMS_PER_BATCH",
        "SOLVER.REFERENCE_WORLD_SIZE",
    },
}
LVIS = {"lvis_v0.5": 1230, "lvis_v1": 1203}
LVIS_NAMES = [name for name in NAMES if name.startswith("lvis") and "base" not in name]
RUNNABLE = [
    *LVIS_NAMES,
    "custom/mask_rcnn_R_50_FPN.yaml",
    "custom/mask_rcnn_small_cpu.yaml",
    *(name for name in NAMES if name.startswith("toy") and "base" not in name),
]
BALANCED_NUMBERS = (
    *("26.3/16.2/27.3/28.8", "26.4/15.9/27.3/29.6"),
    *("27.0/19.6/28.9/27.5", "27.0/17.3/28.1/29.5"),
)


def load(name: str, *overrides: str) -> CfgNode:
    return load_config(ROOT / name, overrides)


def raw(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def header(name: str) -> str:
    lines = (ROOT / name).read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def flattened(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(ours: CfgNode, theirs: CfgNode) -> dict[str, tuple[Any, Any]]:
    ours_flat, theirs_flat = dict(flattened(ours)), dict(flattened(theirs))
    return {
        key: (ours_flat.get(key), theirs_flat.get(key))
        for key in ours_flat.keys() | theirs_flat.keys()
        if ours_flat.get(key) != theirs_flat.get(key)
    }


def test_the_promised_configurations_are_there() -> None:
    for folder in LVIS:
        expected = {
            "base.yaml",
            *(f"{method}_cascade_mask_rcnn_R_50_FPN_1x.yaml" for method in METHODS),
        }
        for backbone in BACKBONES:
            expected |= {f"{method}_mask_rcnn_{backbone}_FPN_1x.yaml" for method in METHODS}
            expected |= {
                f"feature_sigmoid_mask_rcnn_{backbone}_FPN_1x.yaml",
                f"classifier_balanced_sigmoid_mask_rcnn_{backbone}_FPN.yaml",
            }
        expected |= {f"balms_{form}_mask_rcnn_R_50_FPN.yaml" for form in BALMS}
        if folder == "lvis_v1":
            ends = {name: "" if keys >= STAGE_TWO else "_1x" for name, keys in ZOO.items()}
            expected |= {f"{name}_mask_rcnn_R_50_FPN{end}.yaml" for name, end in ends.items()}
        if folder == "lvis_v0.5":
            expected |= {
                f"paper_{stem}.yaml"
                for stem in (
                    "feature_sigmoid_mask_rcnn_R_50_FPN_1x",
                    "classifier_balanced_sigmoid_mask_rcnn_R_50_FPN",
                    *(f"balms_{form}_mask_rcnn_R_50_FPN" for form in BALMS),
                )
            }
        assert {path.name for path in (ROOT / folder).iterdir()} == expected


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("classification/") else name
        for name in NAMES
    ],
)
def test_every_configuration_holds_only_what_differs_from_its_base(name: str) -> None:
    content = raw(name)
    base = content.pop("_BASE_", None)
    if base is None:
        pytest.skip("a base of its own")
    inherited = dict(flattened(load_config((ROOT / name).parent / base)))
    restated = []
    for key, value in flattened(content):
        resolved = CfgNode._decode_cfg_value(value)
        same = inherited[key] == resolved or str(inherited[key]) == str(resolved)
        # A file named after its method or its imbalance may say which one it is.
        says_its_name = key.endswith((".CLASSIFIER", ".METHOD")) and value in name
        imbalance = re.search(r"rho\d+", name)
        says_its_name |= key == "DATASETS.TRAIN" and bool(imbalance and imbalance[0] in str(value))
        if same and not says_its_name:
            restated.append(key)
    assert restated == []


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_starts_with_a_comment(name: str) -> None:
    assert header(name)
    if Path(name).name == "base.yaml":
        assert header(name).startswith("# Shared by ")


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_header_has_the_command_the_hardware_and_the_expected_result(name: str) -> None:
    text = header(name)
    assert text.startswith(f"# python tools/train_net.py --config-file configs/{name} --num-gpus ")
    assert re.search(r"^# Hardware: .*(GPU|CPU)", text, re.MULTILINE)
    assert re.search(r"^# Mask AP/APr/APc/APf", text, re.MULTILINE)
    assert "not run" in text or "docs/results/" in text or "depends on the data" in text


@pytest.mark.parametrize("name", NAMES)
def test_published_balanced_softmax_numbers_belong_to_the_sigmoid_form(name: str) -> None:
    text = header(name)
    if not any(numbers in text for numbers in BALANCED_NUMBERS):
        return
    assert name.startswith("lvis_v0.5/")
    assert load(name).MODEL.ROI_BOX_HEAD.CLASSIFIER == "balanced_sigmoid"
    assert "Published, not run here" in text


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        (
            "26.3/16.2/27.3/28.8, box AP 27.0",
            {
                "lvis_v0.5/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml",
                "lvis_v0.5/paper_classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml",
            },
        ),
        (
            "26.4/15.9/27.3/29.6, box AP 25.9",
            {"lvis_v0.5/classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml"},
        ),
        (
            "27.0/19.6/28.9/27.5, box AP 27.6",
            {"lvis_v0.5/paper_balms_reweighter_mask_rcnn_R_50_FPN.yaml"},
        ),
        (
            "27.0/17.3/28.1/29.5, box AP 26.4",
            {"lvis_v0.5/balms_reweighter_mask_rcnn_R_50_FPN.yaml"},
        ),
    ],
)
def test_published_numbers_are_quoted_where_their_settings_are(
    numbers: str, names: set[str]
) -> None:
    assert {name for name in NAMES if numbers in header(name)} == names


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("folder", LVIS)
def test_the_softmax_baseline_is_detectron2s(folder: str, backbone: str) -> None:
    theirs = get_cfg()
    version = folder.removeprefix("lvis_")
    theirs.merge_from_file(
        model_zoo.get_config_file(
            f"LVIS{version}-InstanceSegmentation/mask_rcnn_{backbone}_FPN_1x.yaml"
        )
    )
    ours = load(f"{folder}/softmax_mask_rcnn_{backbone}_FPN_1x.yaml")
    added = differences(load_defaults(), get_cfg()).keys()
    assert differences(ours, theirs).keys() - added == {
        "MODEL.PROPOSAL_GENERATOR.NAME",
        "MODEL.ROI_HEADS.NAME",
        "SOLVER.REFERENCE_WORLD_SIZE",
        "OUTPUT_DIR",
    }


def load_defaults() -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "softmax"
    return cfg


@pytest.mark.parametrize("method", list(ZOO))
def test_a_method_of_the_zoo_has_its_published_setting_and_nothing_else(method: str) -> None:
    (name,) = (n for n in LVIS_NAMES if n.startswith(f"lvis_v1/{method}_mask"))
    cfg = load(name)
    baseline = load("lvis_v1/softmax_mask_rcnn_R_50_FPN_1x.yaml")
    expected = {"MODEL.ROI_BOX_HEAD.CLASSIFIER", "OUTPUT_DIR", *ZOO[method]}
    assert differences(cfg, baseline).keys() == expected
    named = (cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER, cfg.OUTPUT_DIR)
    assert named == (method, f"output/{name.removesuffix('.yaml')}")


@pytest.mark.parametrize(
    "name", [n for n in LVIS_NAMES if not n.startswith(tuple(f"lvis_v1/{m}_mask" for m in ZOO))]
)
def test_an_lvis_configuration_differs_from_its_baseline_where_its_name_says(name: str) -> None:
    folder, stem = name.removesuffix(".yaml").split("/")
    paper, stage, method, cascade, backbone = re.fullmatch(
        r"(paper_)?(feature_|classifier_)?(balms_(?:reweighter|sampler)|"
        r"(?:balanced_)?(?:softmax|sigmoid))_(cascade_)?mask_rcnn_(.*)_FPN(?:_1x)?",
        stem,
    ).groups()
    baseline = f"softmax_mask_rcnn_{backbone}_FPN_1x"
    expected = set() if stem == baseline else {"OUTPUT_DIR"}
    if method != "softmax":
        expected.add("MODEL.ROI_BOX_HEAD.CLASSIFIER")
    if cascade:
        expected |= {
            "MODEL.ROI_HEADS.NAME",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
            "MODEL.RPN.POST_NMS_TOPK_TRAIN",
        }
    if stage == "classifier_" or method.startswith("balms"):
        expected |= STAGE_TWO | SCHEDULE
    if method == "balms_reweighter":
        expected.add("MODEL.ROI_HEADS.NAME")
        if folder == "lvis_v0.5":  # as in the paper, or as released
            expected |= {"META.SOURCE", "META.LR" if paper else "META.OBJECTIVE"}
    if method == "balms_sampler":
        expected |= {"DATALOADER.SAMPLER_TRAIN"} | ({"META.LR"} if paper else set())
    if paper:
        expected |= {"SOLVER.IMS_PER_BATCH"}
        expected |= {"SOLVER.BASE_LR"} if stage == "feature_" else set()
    cfg = load(name)
    assert differences(cfg, load(f"{folder}/{baseline}.yaml")).keys() == expected
    method = "balanced_sigmoid" if method.startswith("balms") else method
    settings = (cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER, cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.OUTPUT_DIR)
    assert settings == (method, LVIS[folder], f"output/{folder}/{stem}")


def test_the_paper_and_the_release_differ_as_published() -> None:
    def settings(name: str) -> tuple[object, ...]:
        cfg = load(f"lvis_v0.5/{name}.yaml")
        return (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.META.LR, cfg.META.OBJECTIVE)

    balms = "balms_reweighter_mask_rcnn_R_50_FPN"
    assert settings(f"paper_{balms}") == (8, 0.02, 0.001, "plain")
    assert settings(balms) == (16, 0.02, 0.01, "balanced")
    feature = "feature_sigmoid_mask_rcnn_R_50_FPN_1x"
    assert settings(f"paper_{feature}")[:2] == (8, 0.01)
    assert settings(feature)[:2] == (16, 0.02)


def test_the_classifier_stage_has_the_released_schedule() -> None:
    for folder in LVIS:
        solver = load(f"{folder}/classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml").SOLVER
        assert (tuple(solver.STEPS), solver.MAX_ITER) == ((11_000, 18_000), 22_000)
        assert (solver.IMS_PER_BATCH, solver.BASE_LR) == (16, 0.02)


@pytest.mark.data
def test_a_third_of_the_classes_repeat_on_a_hundred_photographs(shared_data: Path) -> None:
    json_file = shared_data / "coco_mini_lvis" / "coco_mini_lvis_train.json"
    frequency = ClassStatistics.from_json(json_file).frequency
    threshold = threshold_that_repeats(frequency)
    assert 1 / 3 <= (frequency < threshold).mean() < 1
