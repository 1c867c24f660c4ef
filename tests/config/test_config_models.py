"""The models of the configurations that ship: built, and trained for two iterations."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from PIL import Image, ImageDraw

from balms_seg.data.instances.registration import register_long_tailed_instances
from balms_seg.engine import LongTailedTrainer, load_config, setup
from balms_seg.methods import LossContext, find_method
from balms_seg.model_zoo import get_config_file
from balms_seg.modeling import CascadeLongTailedROIHeads, LongTailedROIHeads

ROOT = Path(__file__).resolve().parents[2] / "configs"
# Those of image classifiers: test_classification_configs.py and test_settled_settings.py.
NAMES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.yaml")
    if not path.is_relative_to(ROOT / "classification") and not path.name.startswith("image_")
)
LVIS = ("lvis_v0.5", "lvis_v1")
BACKBONES = ("R_50", "R_101", "X_101_32x8d")
METHODS = ("softmax", "sigmoid", "balanced_softmax", "balanced_sigmoid")
# Whose classifiers have columns or state that a first stage's has not.
OWN_CLASSIFIER = ("lvis_v1/bags", "lvis_v1/fcbl", "lvis_v1/logn")
SECOND_STAGES = (
    *("classifier_", "balms_", "toy/crt", "toy/lws", "toy/tau_norm"),
    *OWN_CLASSIFIER,
)
STAGE_TWO = [name for name in NAMES if any(part in name for part in SECOND_STAGES)]
CLASSIFIER_STAGE = "lvis_v0.5/classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml"

# One of each kind; the others differ from these in depth, classes or schedule.
KINDS = [
    *(f"lvis_v1/{method}_mask_rcnn_R_50_FPN_1x.yaml" for method in METHODS),
    "lvis_v0.5/balanced_softmax_cascade_mask_rcnn_R_50_FPN_1x.yaml",
    CLASSIFIER_STAGE,
    "custom/mask_rcnn_small_cpu.yaml",
]


def load(name: str, *overrides: str) -> CfgNode:
    return load_config(ROOT / name, overrides)


def built_on_meta(cfg: CfgNode) -> torch.nn.Module:
    cfg.MODEL.DEVICE = "meta"
    cfg.DATASETS.TRAIN = ()  # no class statistics: nothing on disk is read
    with torch.device("meta"):
        return LongTailedTrainer.build_model(cfg)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registered data set of four images with squares of four classes."""
    folder = tmp_path_factory.mktemp("small_set")
    images, annotations = [], []
    for image_id in range(4):
        picture = Image.new("RGB", (64, 64), (90, 120, 30))
        for category in range(image_id + 1):
            x, y = 4 + 30 * (category % 2), 4 + 30 * (category // 2)
            ImageDraw.Draw(picture).rectangle([x, y, x + 24, y + 24], fill=(60 * category, 0, 90))
            corners = [x, y, x + 24, y, x + 24, y + 24, x, y + 24]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category + 1,
                    "bbox": [x, y, 24, 24],
                    "area": 576,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
        picture.save(folder / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 64, "width": 64})
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(4)]
    path = folder / "annotations.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    register_long_tailed_instances("configs_small_set", path, folder)
    return "configs_small_set"


def reduced(name: str, dataset: str, output: Path, *overrides: str) -> CfgNode:
    """A configuration made narrow and short: two iterations on a CPU, from scratch."""
    small = {
        "DATASETS.REGISTER": [],
        "DATASETS.TRAIN": (dataset,),
        "DATASETS.TEST": (),
        "MODEL.ROI_HEADS.NUM_CLASSES": 4,
        "MODEL.METHODS.FEDERATED.CLASSES": 2,
        "MODEL.METHODS.BAGS.BOUNDS": (3,),
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 40,
        "MODEL.RESNETS.NORM": "BN",  # FrozenBN without weights lets deep activations explode
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "SOLVER.STEPS": (),
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.MAX_ITER": 2,
        "SEED": 3,
        "OUTPUT_DIR": str(output),
    }
    words = [word for key, value in small.items() for word in (key, str(value))]
    cfg = load(name, *words, *overrides)
    cfg.freeze()
    return cfg


def parameters_changed_by_training(cfg: CfgNode) -> tuple[set[str], set[str]]:
    """Names that two iterations change, and names that they do not."""
    trainer = LongTailedTrainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert trainer.iter == 2
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return changed, before.keys() - changed


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_resolves_and_its_model_builds(name: str) -> None:
    cfg = load(name)
    model = built_on_meta(cfg)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert isinstance(model.roi_heads, LongTailedROIHeads | CascadeLongTailedROIHeads)
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, torch.nn.ModuleList) else [predictors]:
        method = find_method(cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER)
        columns = method(cfg.MODEL.ROI_HEADS.NUM_CLASSES, has_background=True).num_columns
        assert predictor.cls_score.out_features == columns


@pytest.mark.parametrize("name", STAGE_TWO)
def test_a_second_stage_starts_from_what_its_feature_stage_writes(name: str) -> None:
    second = load(name)
    first = load_config(get_config_file(second.MODEL.STAGE_ONE_CONFIG))
    assert f"{first.OUTPUT_DIR}/model_final.pth" == second.MODEL.WEIGHTS
    assert first.MODEL.ROI_BOX_HEAD.CLASSIFIER in ("sigmoid", "softmax")
    shapes = [
        {name: value.shape for name, value in built_on_meta(cfg).state_dict().items()}
        for cfg in (first, second)
    ]
    if second.MODEL.INIT_CLASSIFIER == "lws":
        shapes[0]["roi_heads.box_predictor.cls_score.scale"] = (41,)
    if name.startswith(OWN_CLASSIFIER):
        own = ("box_predictor.cls_score.", "box_predictor.method.")
        shapes = [
            {key: shape for key, shape in each.items() if not any(part in key for part in own)}
            for each in shapes
        ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("folder", LVIS)
def test_the_classifier_stage_trains_the_classifier_alone(folder: str) -> None:
    model = built_on_meta(load(f"{folder}/classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml"))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {f"roi_heads.box_predictor.cls_score.{key}" for key in ("weight", "bias")}


def setup_arguments(name: str, *overrides: str, **flags: bool) -> Namespace:
    return Namespace(
        config_file=str(ROOT / name),
        opts=["MODEL.DEVICE", "cpu", *overrides],
        num_gpus=0,
        **{"eval_only": False, "resume": False, **flags},
    )


def test_a_classifier_stage_without_its_feature_stage_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model_final\.pth") as error:
        setup(setup_arguments(CLASSIFIER_STAGE))
    command = "balms-seg train --config-file " + CLASSIFIER_STAGE.replace(
        "classifier_balanced_sigmoid_mask_rcnn_R_50_FPN", "feature_sigmoid_mask_rcnn_R_50_FPN_1x"
    )
    assert command in str(error.value)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("name", "eval_only"), [("toy/lws.yaml", False), ("toy/tau_norm.yaml", True)]
)
def test_a_toy_stage_without_its_feature_stage_names_a_command_for_a_cpu(
    name: str, eval_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        setup(setup_arguments(name, eval_only=eval_only))
    assert "--config-file toy/feature_softmax.yaml --num-gpus 0" in str(error.value)


@pytest.mark.parametrize("eval_only", [False, True])
def test_missing_weights_are_named_without_a_stage_to_blame(
    tmp_path: Path, eval_only: bool
) -> None:
    arguments = setup_arguments(
        "custom/mask_rcnn_small_cpu.yaml",
        *("MODEL.WEIGHTS", str(tmp_path / "absent.pth"), "OUTPUT_DIR", str(tmp_path)),
        eval_only=eval_only,
    )
    with pytest.raises(FileNotFoundError, match=r"absent\.pth") as error:
        setup(arguments)
    assert "balms-seg train" not in str(error.value)


def test_a_model_without_its_training_set_builds_and_asks_for_it_in_its_loss(
    tmp_path: Path,
) -> None:
    register_long_tailed_instances("configs_absent_set", tmp_path / "absent.json", tmp_path)
    cfg = load("custom/mask_rcnn_small_cpu.yaml", "DATASETS.TRAIN", "('configs_absent_set',)")
    method = build_model(cfg).roi_heads.box_predictor.method
    with pytest.raises(RuntimeError, match=r"needs the training set's ClassStatistics"):
        method.loss(torch.zeros(1, method.num_columns), torch.tensor([0]), LossContext())


@pytest.mark.parametrize("name", KINDS)
def test_one_of_each_kind_trains_two_iterations(name: str, small_set: str, tmp_path: Path) -> None:
    changed, unchanged = parameters_changed_by_training(reduced(name, small_set, tmp_path))
    if name == CLASSIFIER_STAGE:
        assert changed == {
            "roi_heads.box_predictor.cls_score.weight",
            "roi_heads.box_predictor.cls_score.bias",
        }
    else:
        assert {"proposal_generator.rpn_head.conv.weight"} <= changed
        assert any(key.endswith("cls_score.weight") for key in changed)
        assert not any("cls_score" in key or "mask_head" in key for key in unchanged)
    assert (tmp_path / "model_final.pth").is_file()


def test_normalisation_statistics_stay_while_only_the_classifier_trains(
    small_set: str, tmp_path: Path
) -> None:
    classifier = ("MODEL.TRAIN_ONLY", "['roi_heads.box_predictor.cls_score']")
    name = "custom/mask_rcnn_small_cpu.yaml"
    all_changed, _ = parameters_changed_by_training(reduced(name, small_set, tmp_path / "all"))
    changed, _ = parameters_changed_by_training(
        reduced(name, small_set, tmp_path / "classifier", *classifier)
    )
    assert any(key.endswith("running_mean") for key in all_changed)
    assert changed == {f"roi_heads.box_predictor.cls_score.{key}" for key in ("weight", "bias")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_model_builds_for_real(name: str) -> None:
    cfg = load(name, "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()")
    model = LongTailedTrainer.build_model(cfg)
    assert all(torch.isfinite(value).all() for value in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "base" not in name and name not in KINDS]
)
def test_every_configuration_trains_two_iterations(
    name: str, small_set: str, tmp_path: Path
) -> None:
    changed, _ = parameters_changed_by_training(reduced(name, small_set, tmp_path))
    assert any("cls_score" in key for key in changed)
