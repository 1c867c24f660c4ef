"""The configurations of image classifiers: which there are, what they say, and that they train."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from balms_seg.engine import LongTailedTrainer, load_config
from balms_seg.model_zoo import get_config_file
from balms_seg.modeling import ImageClassifier

ROOT = Path(__file__).resolve().parents[2] / "configs"
FOLDER = ROOT / "classification"
NAMES = sorted(path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*.yaml"))
RUNNABLE = [name for name in NAMES if not name.endswith("base.yaml")]
CIFAR = ("cifar10_lt", "cifar100_lt", "cifar10_lt_cpu")
RHOS = (200, 100, 10)
END_TO_END = (
    *("softmax", "class_balanced_weighting", "class_balanced_sampling", "focal", "cb_loss"),
    *("ldam", "balanced_softmax"),
)
SECOND_STAGES = ("crt", "lws", "classifier_balanced_softmax", "balms_reweighter", "balms")
WITHOUT_TRAINING = ("tau_norm", "post_hoc_logit_adjustment")
AT_RHO_100 = ("ldam_drw", "logit_adjustment", "feature_balanced", *WITHOUT_TRAINING)
# Rows of the paper's tables 2 and 5 for CIFAR-10-LT and CIFAR-100-LT at rho 200, 100 and 10.
PUBLISHED = {
    "softmax": (71.2, 77.4, 90.0, 41.0, 45.3, 61.9),
    "class_balanced_weighting": (72.5, 78.6, 90.1, 36.7, 42.3, 61.4),
    "class_balanced_sampling": (68.3, 77.8, 90.2, 37.8, 42.6, 61.2),
    "focal": (71.8, 77.1, 90.3, 40.2, 43.8, 60.0),
    "cb_loss": (72.6, 78.2, 89.9, 39.9, 44.6, 59.8),
    "ldam": (73.6, 78.9, 90.3, 41.3, 46.1, 62.1),
    "crt": (76.6, 82.0, 91.0, 44.5, 50.0, 63.3),
    "lws": (78.1, 83.7, 91.1, 45.3, 50.5, 63.4),
    "balanced_softmax": (79.0, 83.1, 90.9, 45.9, 50.3, 63.1),
    "classifier_balanced_softmax": (78.6, 83.7, 91.2, 45.1, 50.4, 63.4),
    "balms_reweighter": (79.2, 84.1, 91.2, 45.3, 50.8, 63.5),
    "balms": (81.5, 84.9, 91.3, 45.5, 50.8, 63.0),
}
# One of each kind; the others differ from these in the loss, the data or the schedule.
KINDS = [
    "classification/cifar10_lt/softmax_rho200.yaml",
    "classification/cifar10_lt/ldam_rho200.yaml",
    "classification/cifar10_lt/feature_balanced_rho100.yaml",
    "classification/cifar10_lt/crt_rho100.yaml",
    "classification/cifar10_lt/lws_rho200.yaml",
    "classification/cifar10_lt_cpu/balms_reweighter_rho100.yaml",
    "classification/cifar10_lt_cpu/balms_rho100.yaml",
    "classification/cifar10_lt/strong_rho200.yaml",
    "classification/imagenet_lt/balms_resnet10.yaml",
]


def slow_but_for(few: list[str], names: list[str]) -> list[Any]:
    """All names, most of them for the slow tests only."""
    return [name if name in few else pytest.param(name, marks=pytest.mark.slow) for name in names]


def load(name: str, *overrides: str) -> CfgNode:
    return load_config(ROOT / name, overrides)


def header(name: str) -> str:
    lines = (ROOT / name).read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("# "))


def method_of(name: str) -> str:
    return Path(name).stem.rpartition("_rho")[0]


def trains(name: str) -> bool:
    return method_of(name) not in WITHOUT_TRAINING


def starts_from_another(name: str) -> bool:
    return "WEIGHTS: output" in (ROOT / name).read_text()


def built_on_meta(cfg: CfgNode) -> ImageClassifier:
    cfg.MODEL.DEVICE, cfg.MODEL.IMAGE_CLASSIFIER.PRETRAINED = "meta", False  # no download
    cfg.DATASETS.TRAIN = ()  # no class statistics: nothing on disk is read
    with torch.device("meta"):
        return LongTailedTrainer.build_model(cfg)


@pytest.mark.parametrize("folder", CIFAR)
def test_the_promised_configurations_are_there(folder: str) -> None:
    expected = {
        f"{method}_rho{rho}" for method in (*END_TO_END, *SECOND_STAGES) for rho in RHOS
    } | {f"{method}_rho100" for method in AT_RHO_100}
    found = {path.stem for path in (FOLDER / folder).glob("*_rho*.yaml")}
    assert expected <= found
    assert set(PUBLISHED) == {*END_TO_END, *SECOND_STAGES}


def test_the_larger_sets_have_their_configurations() -> None:
    four = ("softmax", "balanced_softmax", "classifier_balanced_softmax", "balms")
    expected = {
        "imagenet_lt": {f"{m}_{b}" for m in four for b in ("resnet10", "resnext50")},
        "places_lt": {f"{m}_resnet152" for m in four if m != "balanced_softmax"},
        "inaturalist2018": {"softmax_resnet50", "balanced_softmax_resnet50"},
    }
    for folder, names in expected.items():
        found = {path.stem for path in (FOLDER / folder).glob("*_res*.yaml")}
        assert found == names


def test_second_stages_of_the_larger_sets_have_the_released_schedule() -> None:
    """Epochs, rate, meta rate, meta batch and tilt; the images of an epoch are the lists'."""
    for name, epochs, images, *expected in (
        ("imagenet_lt/balms_resnet10", 20, 115_846, 0.5, 0.001, 1024, 0.1),
        ("places_lt/balms_resnet152", 10, 62_500, 0.02, 0.001, 512, 0.3),
    ):
        cfg = load(f"classification/{name}.yaml")
        meta = cfg.META
        assert expected == [cfg.SOLVER.BASE_LR, meta.LR, meta.BATCH_SIZE, meta.INIT_POW]
        iterations = epochs * images / cfg.SOLVER.IMS_PER_BATCH
        assert pytest.approx(iterations, abs=1) == cfg.SOLVER.MAX_ITER


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_header_has_the_command_the_hardware_and_the_expected_result(name: str) -> None:
    text = header(name)
    gpus = 0 if "_cpu/" in name else 1
    flags = "" if trains(name) else " --eval-only"
    command = f"# python tools/train_net.py --config-file configs/{name} --num-gpus "
    assert re.match(re.escape(command) + r"\d" + flags + "\n", text)
    assert gpus or text.startswith(command + "0")
    assert re.search(r"^# Hardware: .*(GPU|CPU)", text, re.MULTILINE)
    assert re.search(r"^# (Top-1: |Published.*not run here: top-1 )", text, re.MULTILINE)
    assert "not run here" in text or "docs/results/" in text


@pytest.mark.parametrize("folder", CIFAR)
def test_headers_quote_the_rows_of_the_paper(folder: str) -> None:
    first = 3 if folder.startswith("cifar100") else 0
    for method, row in PUBLISHED.items():
        for rho, value in zip(RHOS, row[first : first + 3], strict=True):
            text = header(f"classification/{folder}/{method}_rho{rho}.yaml")
            assert f"{value} in the paper" in text or ("docs/results/" in text)


@pytest.mark.slow
@pytest.mark.parametrize("folder", CIFAR)
def test_files_are_named_after_their_data_method_and_output(folder: str) -> None:
    classes = re.search(r"\d+", folder).group()
    for path in (FOLDER / folder).glob("*_rho*.yaml"):
        cfg = load(f"classification/{folder}/{path.name}")
        method, rho = path.stem.split("_rho")
        assert (f"cifar{classes}_lt_rho{rho}_train",) == cfg.DATASETS.TRAIN
        assert (f"cifar{classes}_test",) == cfg.DATASETS.TEST
        assert int(classes) == cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES
        assert f"output/{folder}/{path.stem}" == cfg.OUTPUT_DIR
        loss = cfg.MODEL.IMAGE_CLASSIFIER.METHOD
        if method.startswith(("classifier_", "balms", "strong")):
            assert loss == "balanced_softmax"
        elif method in ("crt", "lws", "tau_norm", "class_balanced_sampling"):
            assert loss == "softmax"
        else:
            assert loss == method


def test_the_schedule_of_cifar_is_the_papers() -> None:
    solver = load("classification/cifar10_lt/softmax_rho200.yaml").SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.WARMUP_ITERS) == (512, 13_000, 800)
    assert (solver.BASE_LR, solver.WARMUP_FACTOR, solver.MOMENTUM) == (0.1, 0.5, 0.9)
    assert (solver.WEIGHT_DECAY, solver.NESTEROV) == (5e-4, True)
    cfg = load("classification/cifar100_lt/balms_rho200.yaml")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.META.LR) == (2000, 0.1, 0.01)
    assert tuple(cfg.META.BETAS) == (0.9, 0.99)
    assert (cfg.META.SOURCE, cfg.META.BATCH_SIZE) == ("loader", 0)


def test_feature_balanced_loss_has_its_own_schedule() -> None:
    for folder, images in (("cifar10_lt", 12_406), ("cifar100_lt", 10_847)):
        cfg = load(f"classification/{folder}/feature_balanced_rho100.yaml")
        solver, epoch = cfg.SOLVER, images / 64
        assert pytest.approx(200 * epoch, abs=1) == solver.MAX_ITER
        assert tuple(solver.STEPS) == pytest.approx((160 * epoch, 180 * epoch), abs=1)
        assert pytest.approx(5 * epoch, abs=1) == solver.WARMUP_ITERS
        assert (solver.IMS_PER_BATCH, solver.GAMMA, solver.WEIGHT_DECAY) == (64, 0.01, 2e-4)
        assert cfg.MODEL.METHODS.FEATURE_BALANCED.STRENGTH == 60


@pytest.mark.parametrize("name", slow_but_for(KINDS, RUNNABLE))
def test_every_configuration_resolves_and_its_model_builds(name: str) -> None:
    cfg = load(name)
    model = built_on_meta(cfg)
    assert isinstance(model, ImageClassifier)
    assert all(parameter.is_meta for parameter in model.parameters())
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    if cfg.MODEL.TRAIN_ONLY:
        assert trained
        assert all(any(key.startswith(only) for only in cfg.MODEL.TRAIN_ONLY) for key in trained)
    else:
        assert trained == set(dict(model.named_parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNNABLE if starts_from_another(name)])
def test_a_second_stage_starts_from_what_its_stage_one_writes(name: str) -> None:
    second = load(name)
    first = load_config(get_config_file(second.MODEL.STAGE_ONE_CONFIG))
    assert f"{first.OUTPUT_DIR}/model_final.pth" == second.MODEL.WEIGHTS
    assert first.MODEL.IMAGE_CLASSIFIER.METHOD == "softmax"
    assert first.DATASETS.TRAIN == second.DATASETS.TRAIN
    for key in ("BACKBONE", "WIDTH", "NUM_CLASSES"):
        assert first.MODEL.IMAGE_CLASSIFIER[key] == second.MODEL.IMAGE_CLASSIFIER[key]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of four classes, 24, 12, 6 and 3 of them."""
    path = tmp_path_factory.mktemp("images") / "images.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as content:
        for label, number in enumerate((24, 12, 6, 3)):
            for i in range(number):
                buffer = io.BytesIO()
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer, "PNG")
                content.writestr(f"train/class{label}/{i}.png", buffer.getvalue())
    return path


def train_two_iterations(name: str, archive: Path, output: Path) -> tuple[set[str], set[str]]:
    """Names of parameters and buffers that training changed, and of those that it did not."""
    small = {
        "DATASETS.REGISTER_IMAGES": [["classification_configs_set", str(archive), "train"]],
        "DATASETS.TRAIN": ("classification_configs_set",),
        "DATASETS.TEST": (),
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 4,
        "MODEL.IMAGE_CLASSIFIER.PRETRAINED": False,
        "MODEL.METHODS.FEATURE_BALANCED.RAMP": 0.5,
        "INPUT.IMAGES.SIZE": 32,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "SOLVER.STEPS": (),
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.MAX_ITER": 2,
        "META.BLOCK": 8,
        "META.BATCH_SIZE": 8,
        "SEED": 3,
        "OUTPUT_DIR": str(output),
    }
    cfg = load(name, *(str(word) for pair in small.items() for word in pair))
    cfg.freeze()
    trainer = LongTailedTrainer(cfg)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.train()
    assert trainer.iter == 2
    assert (output / "model_final.pth").is_file()
    after = trainer.model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    return changed, before.keys() - changed


def check_training(name: str, archive: Path, output: Path) -> None:
    changed, unchanged = train_two_iterations(name, archive, output)
    assert any(key.startswith("classifier.") for key in changed)
    weights = {key for key in changed if not re.search("running|num_batches", key)}
    if load(name).MODEL.TRAIN_ONLY == ["classifier"]:
        assert all(key.startswith("classifier.") for key in weights)
    elif not load(name).MODEL.TRAIN_ONLY:
        assert not any(re.search(r"conv\d?\.weight", key) for key in unchanged)


@pytest.mark.parametrize("name", KINDS)
def test_one_of_each_kind_trains_two_iterations(name: str, archive: Path, tmp_path: Path) -> None:
    check_training(name, archive, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in RUNNABLE if trains(n) and n not in KINDS])
def test_every_configuration_trains_two_iterations(
    name: str, archive: Path, tmp_path: Path
) -> None:
    check_training(name, archive, tmp_path)
