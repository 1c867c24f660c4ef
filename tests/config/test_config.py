"""What load_config and check_config accept, and what they say about the rest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY

from balms_seg import add_balms_config, check_config
from balms_seg.config import SUBJECTS
from balms_seg.engine import LongTailedTrainer, load_config
from balms_seg.modeling import CosineMaskHead, build_small_resnet_fpn_backbone
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.sampling import MetaRepeatFactorTrainingSampler

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs" / "base_mask_rcnn_fpn.yaml"
BALANCED = "MODEL.METHODS.BALANCED_SOFTMAX"


def loaded(*overrides: str) -> CfgNode:
    return load_config(BASE, overrides)


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(f"_BASE_: {BASE}\n{text}")
        return path

    return write


def test_a_cascade_needs_one_regression_for_all_classes() -> None:
    name = ("MODEL.ROI_HEADS.NAME", "CascadeLongTailedROIHeads")
    method = ("MODEL.ROI_BOX_HEAD.CLASSIFIER", "softmax")
    key = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"
    with pytest.raises(ValueError, match=rf"set {key} to True"):
        loaded(*name, *method, key, "False")
    loaded(*name, *method, key, "True")


def test_detectron2s_own_configuration_is_accepted() -> None:
    cfg = get_cfg()
    add_balms_config(cfg)
    check_config(cfg)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__)
def test_every_key_of_ours_has_a_comment(subject: ModuleType) -> None:
    lines = inspect.getsource(subject.add_keys).splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"    \w+(\.[A-Z_]+)+ = ", line)]
    nodes = [i for i in keys if lines[i].endswith("CfgNode()")]
    assert keys
    for index in set(keys) - set(nodes):
        above = index - 1 if index - 1 not in nodes else index - 2
        assert lines[above].strip().startswith("#"), lines[index]


def test_every_key_of_ours_is_declared_in_one_place() -> None:
    """And each subject's, before anything is set, passes its own check."""
    declared: dict[str, str] = {}
    stock = set(flat(get_cfg()))
    for subject in SUBJECTS:
        cfg = get_cfg()
        subject.add_keys(cfg)
        for key in set(flat(cfg)) - stock:
            assert declared.setdefault(key, subject.__name__) == subject.__name__
    cfg = get_cfg()
    add_balms_config(cfg)
    assert declared.keys() == set(flat(cfg)) - stock


def flat(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Full names of the keys below a node."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["MODEL.ROI_BOX_HEAD.CLASSIFIER", "softmx"], "MODEL.ROI_BOX_HEAD.CLASSIFIER"),
        (["MODEL.ROI_BOX_HEAD.CLASSIFIER", "softmx"], "Did you mean softmax?"),
        (["MODEL.ROI_BOX_HEAD.CLASSIFIER", ""], "MODEL.ROI_BOX_HEAD.CLASSIFIER"),
        (["MODEL.ROI_HEADS.NAME", "SigmoidROIHeads"], "MODEL.ROI_BOX_HEAD.CLASSIFIER"),
        (["MODEL.ROI_HEADS.NAME", "StandardROIHeads"], "MODEL.ROI_HEADS.NAME"),
        ([f"{BALANCED}.PRIOR", "images"], f"{BALANCED}.PRIOR is 'images'; expected one of auto"),
        ([f"{BALANCED}.BACKGROUND", "none"], f"{BALANCED}.BACKGROUND is 'none'"),
        ([f"{BALANCED}.BACKGROUND_COUNT", "-1.0"], f"{BALANCED}.BACKGROUND_COUNT is -1.0"),
        (
            [f"{BALANCED}.BACKGROUND", "prior", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "0.5"],
            f"{BALANCED}.BACKGROUND_RATIO is 3.0",
        ),
        (["MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER", "dot"], "MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER"),
        (["MODEL.ROI_BOX_HEAD.COSINE_SCALE", "0.0"], "MODEL.ROI_BOX_HEAD.COSINE_SCALE is 0.0"),
        (
            ["MODEL.ROI_BOX_HEAD.CLASSIFIER", "ldam", "MODEL.ROI_BOX_HEAD.COSINE_SCALE", "16.0"],
            "set MODEL.METHODS.LDAM.SCALE instead",
        ),
        (
            ["MODEL.ROI_BOX_HEAD.CLASSIFIER", "seesaw", "MODEL.INIT_CLASSIFIER", "tau_norm"],
            "which needs a linear classifier; set MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER to linear",
        ),
        (["MODEL.ROI_BOX_HEAD.EMPTY_CLASSES", "skip"], "MODEL.ROI_BOX_HEAD.EMPTY_CLASSES"),
        (["TEST.LONG_TAILED.BACKEND", "rust"], "TEST.LONG_TAILED.BACKEND"),
        (["TEST.LONG_TAILED.MAX_DETECTIONS", "0"], "TEST.LONG_TAILED.MAX_DETECTIONS"),
        (["TEST.LONG_TAILED.GROUP_BOUNDS", "[10]"], "TEST.LONG_TAILED.GROUP_BOUNDS"),
        (["TEST.LONG_TAILED.GROUP_BOUNDS", "[100, 10]"], "TEST.LONG_TAILED.GROUP_BOUNDS"),
        (
            ["TEST.LONG_TAILED.BOUNDARY", "True", "MODEL.MASK_ON", "False"],
            "TEST.LONG_TAILED.BOUNDARY",
        ),
        (
            ["MODEL.METHODS.SIGMOID.PRIOR_PROBABILITY", "1.0"],
            "MODEL.METHODS.SIGMOID.PRIOR_PROBABILITY is 1.0; expected a probability",
        ),
        (["MODEL.INIT_CLASSIFIER", "new"], "MODEL.INIT_CLASSIFIER"),
        (["MODEL.INIT_CLASSIFIER", "lws"], "MODEL.TRAIN_ONLY"),
        (
            ["MODEL.INIT_CLASSIFIER", "lws"]
            + ["MODEL.TRAIN_ONLY", "['roi_heads.box_predictor.cls_score']"],
            "MODEL.TRAIN_ONLY",
        ),
        (["MODEL.INIT_CLASSIFIER_TAU", "-1.0"], "MODEL.INIT_CLASSIFIER_TAU"),
        (
            ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER", ""]
            + ["MODEL.INIT_CLASSIFIER", "reset"],
            "MODEL.ROI_HEADS.NAME",
        ),
        (["SOLVER.OPTIMIZER", "Adam"], "SOLVER.OPTIMIZER"),
        (["SOLVER.AMP.DTYPE", "half"], "float16, bfloat16"),
        (["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER"),
        (["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH"),
        (["SOLVER.IMS_PER_BATCH", "12"], "SOLVER.REFERENCE_WORLD_SIZE"),
        (["DATASETS.REGISTER", "[['name', 'a.json']]"], "DATASETS.REGISTER"),
        (["MODEL.FROZEN_NORM", "frozen"], "MODEL.FROZEN_NORM"),
        (["META.LEARN", "everything"], "none, weights, rates"),
        (["META.OBJECTIVE", "shifted"], "META.OBJECTIVE"),
        (["META.SOURCE", "images"], "loader, feature_bank"),
        (["META.NORMALISE", "batch"], "META.NORMALISE"),
        (["META.ESTIMATOR", "gumbel"], "expected one of score"),
        (["META.ESTIMATOR", "gumbel_class"], "META.ESTIMATOR is gumbel_class"),
        (["META.PERIOD", "0"], "META.PERIOD is 0; expected at least 1"),
        (["META.BATCH_SIZE", "-1"], "META.BATCH_SIZE"),
        (["META.WEIGHT_DECAY", "-1.0"], "META.WEIGHT_DECAY"),
        (["META.BETAS", "(0.9, 1.0)"], "META.BETAS"),
        (["META.MAX_FACTOR", "1.0"], "META.MAX_FACTOR"),
        (["META.BANK.PER_CLASS", "0"], "META.BANK.PER_CLASS"),
        (["META.BANK.DEVICE", "tpu"], "META.BANK.DEVICE"),
        (["META.SOURCE", "feature_bank", "META.DATASET", "other"], "META.DATASET"),
    ],
)
def test_a_contradiction_names_the_key_to_change(overrides: Sequence[str], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        loaded(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["MODEL.ROI_HEADS.NAME", "SigmoidROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER", ""],
        ["MODEL.ROI_HEADS.NAME", "SigmoidROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER", "sigmoid"],
        ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER", ""],
        ["MODEL.ROI_BOX_HEAD.CLASSIFIER", "balanced_softmax", f"{BALANCED}.PRIOR", "image"],
        ["SOLVER.IMS_PER_BATCH", "12", "SOLVER.REFERENCE_WORLD_SIZE", "0"],
        ["DATASETS.REGISTER", "[['name', 'a.json', 'images']]"],
        ["MODEL.TRAIN_ONLY", "['roi_heads.box_predictor']"],
        ["MODEL.INIT_CLASSIFIER", "reset"],
        ["MODEL.INIT_CLASSIFIER", "lws"]
        + ["MODEL.TRAIN_ONLY", "['roi_heads.box_predictor.cls_score.scale']"],
    ],
)
def test_settings_that_agree_are_accepted(overrides: Sequence[str]) -> None:
    assert loaded(*overrides) != loaded()


@pytest.mark.parametrize("key", ["USE_FED_LOSS", "USE_SIGMOID_CE"])
def test_detectron2s_own_losses_contradict_our_heads(key: str) -> None:
    cfg = loaded()
    cfg.MODEL.ROI_BOX_HEAD[key] = True  # detectron2 0.6 does not have these keys
    with pytest.raises(ValueError, match=f"MODEL.ROI_BOX_HEAD.{key}"):
        check_config(cfg)


def test_one_error_lists_all_contradictions() -> None:
    with pytest.raises(ValueError, match="OPTIMIZER") as error:
        loaded("SOLVER.OPTIMIZER", "Adam", f"{BALANCED}.PRIOR", "images")
    assert f"{BALANCED}.PRIOR" in str(error.value)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(KeyError, match=r"MODEL\.ROI_BOX_HEAD\.CLASIFIER .*there are CLASSIFIER"):
        loaded("MODEL.ROI_BOX_HEAD.CLASIFIER", "softmax")


def test_a_key_below_a_value_is_named() -> None:
    with pytest.raises(KeyError, match=r"OUTPUT_DIR\.NAME"):
        loaded("OUTPUT_DIR.NAME", "output")


def test_an_unknown_key_in_a_file_is_named(yaml_file: Callable[[str], Path]) -> None:
    with pytest.raises(KeyError, match="CLASIFIER"):
        load_config(yaml_file("MODEL: {ROI_BOX_HEAD: {CLASIFIER: softmax}}"))


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("DECOUPLE_TRAINING: True", "MODEL.TRAIN_ONLY"),
        ("META_REWEIGHT: False", "BALMSROIHeads"),
        ("MODEL: {ROI_HEADS: {PRIOR_PROB: 0.01}}", r"METHODS\.BALANCED_SIGMOID\.PRIOR_PROBABILITY"),
    ],
)
def test_a_key_of_the_authors_release_is_answered_with_ours(
    yaml_file: Callable[[str], Path], text: str, ours: str
) -> None:
    with pytest.raises(KeyError, match=ours):
        load_config(yaml_file(text))


def test_a_key_of_the_authors_release_on_the_command_line_is_answered_too() -> None:
    with pytest.raises(KeyError, match=r"METHODS\.BALANCED_SIGMOID\.PRIOR_PROBABILITY"):
        loaded("MODEL.ROI_HEADS.PRIOR_PROB", "0.01")


def test_a_yaml_cannot_run_code(yaml_file: Callable[[str], Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = yaml_file(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{made}']")
    with pytest.raises(ValueError, match="not a plain yaml"):
        load_config(path)
    assert not made.exists()


def test_a_malformed_yaml_is_named(yaml_file: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml is not a plain yaml"):
        load_config(yaml_file("MODEL: [unclosed"))


@pytest.mark.parametrize("text", ["", "# to come", "- SEED", "word"])
def test_a_yaml_without_pairs_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is .*expected KEY: VALUE pairs"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_a_key_without_a_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="KEY VALUE"):
        loaded("SOLVER.MAX_ITER")


@pytest.mark.parametrize(
    ("num_workers", "batch", "rate", "iterations", "steps", "warmup"),
    [
        (8, 16, 0.02, 90_000, (60_000, 80_000), 1000),
        (4, 8, 0.01, 180_000, (120_000, 160_000), 2000),
        (1, 2, 0.0025, 720_000, (480_000, 640_000), 8000),
        (16, 32, 0.04, 45_000, (30_000, 40_000), 500),
    ],
)
def test_the_schedule_scales_with_the_number_of_processes(
    num_workers: int, batch: int, rate: float, iterations: int, steps: tuple, warmup: int
) -> None:
    cfg = LongTailedTrainer.auto_scale_workers(loaded(), num_workers)
    scaled = dict(cfg.SOLVER)
    scaled["STEPS"] = tuple(scaled["STEPS"])
    expected = {
        "IMS_PER_BATCH": batch,
        "BASE_LR": pytest.approx(rate),
        "MAX_ITER": iterations,
        "STEPS": steps,
        "WARMUP_ITERS": warmup,
    }
    assert {key: scaled[key] for key in expected} == expected


def test_the_schedule_stays_without_a_reference() -> None:
    cfg = loaded("SOLVER.REFERENCE_WORLD_SIZE", "0")
    assert LongTailedTrainer.auto_scale_workers(cfg, 4).SOLVER == cfg.SOLVER


@pytest.mark.parametrize(
    "read",
    [
        check_config,
        LongTailedTrainer,
        lambda cfg: ROI_HEADS_REGISTRY.get("BALMSROIHeads")(cfg, {}),
        lambda cfg: LongTailedBoxPredictor(cfg, ShapeSpec(channels=8)),
        lambda cfg: META_ARCH_REGISTRY.get("ImageClassifier")(cfg),
        lambda cfg: build_small_resnet_fpn_backbone(cfg, ShapeSpec(channels=3)),
        lambda cfg: CosineMaskHead(cfg, ShapeSpec(channels=8)),
        lambda cfg: MetaRepeatFactorTrainingSampler.from_config(cfg, [], num_classes=2, seed=0),
    ],
)
def test_a_forgotten_add_balms_config_is_named_by_whoever_reads_a_key(
    read: Callable[[CfgNode], object],
) -> None:
    cfg = get_cfg()
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "balanced_softmax"  # assigning declares it
    with pytest.raises(ValueError, match=r"call balms_seg\.add_balms_config\(cfg\) right after"):
        read(cfg)


@pytest.mark.parametrize("key", ["ROI_BOX_HEAD.CLASSIFIER", "INIT_CLASSIFIER"])
def test_a_cascade_of_detectron2s_own_is_told_our_cascade(key: str) -> None:
    value = {"ROI_BOX_HEAD.CLASSIFIER": "softmax", "INIT_CLASSIFIER": "reset"}[key]
    words = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", f"MODEL.{key}", value)
    with pytest.raises(ValueError, match=r"set the name to CascadeLongTailedROIHeads\."):
        loaded(*words)
