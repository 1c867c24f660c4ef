"""A method from outside the package: registered, imported by a flag, or found by an entry point."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_up_data import SMALL, words, write_data_sets

from balms_seg import ClassStatistics, methods
from balms_seg.commands.imports import import_modules
from balms_seg.methods import METHODS, Method, MethodSettings, find_method, register
from balms_seg.methods.softmax import Softmax

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "adding_a_method.md"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table and the path of imports are put back."""
    before, path = dict(METHODS), list(sys.path)
    yield
    METHODS.clear()
    METHODS.update(before)
    sys.path[:] = path


def run(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run Python in a folder, with this checkout on its path."""
    python_path = os.pathsep.join([str(ROOT), environment.pop("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The files of docs/adding_a_method.md in a folder outside of the package."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in ("counted_softmax.py", "test_counted_softmax.py"):
        block = re.search(rf"`{name}`.*?```python\n(.*?)```", text, flags=re.DOTALL)
        (tmp_path / name).write_text(block[1])
    return tmp_path


def training_words(folder: Path) -> list[str]:
    settings = {
        **SMALL,
        **write_data_sets(folder / "data"),
        "DATASETS.TEST": (),
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "counted_softmax",
        "MODEL.METHODS.COUNTED_SOFTMAX.STRENGTH": 0.5,
        "OUTPUT_DIR": str(folder / "out"),
    }
    base = ["--config-file", str(ROOT / "configs/toy/base.yaml"), "--num-gpus", "0"]
    return ["--import", "counted_softmax", *base, *words(settings)]


def counted_rows(folder: Path) -> int:
    state = torch.load(folder / "out" / "model_final.pth", weights_only=False)["model"]
    return int(state["roi_heads.box_predictor.method.counts"].sum())


@pytest.mark.slow
def test_the_documents_example_passes_its_own_test(example: Path) -> None:
    result = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)], example)
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout


def test_the_documents_example_trains_from_its_folder(example: Path) -> None:
    result = run([str(ROOT / "tools/train_net.py"), *training_words(example)], example)
    assert result.returncode == 0, result.stderr
    # Two iterations of two images, from each of which eight proposals are sampled at most.
    assert 0 < counted_rows(example) <= 2 * 2 * 8
    config = (example / "out" / "config.yaml").read_text()
    assert re.search(r"COUNTED_SOFTMAX:\n\s+STRENGTH: 0\.5", config)


def test_the_documents_margin_is_that_of_its_formula() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    text = text[text.index("counts, or training's progress") :]
    method, use = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[:2]
    names = {
        **{"np": np, "torch": torch, "F": F, "dataclass": dataclass, "METHODS": METHODS},
        **{name: getattr(methods, name) for name in ("BalancedSoftmax", "register")},
        **{name: getattr(methods, name) for name in ("LossContext", "TrainingProgress")},
        "ClassStatistics": ClassStatistics,
    }
    exec(method + use, names)
    counts = np.array([16.0, 1.0])
    scaled = counts * 30 / 4  # a geometric mean of 30, the default
    for row, shift in enumerate(-0.5 * counts**-0.25):
        logits = np.append(np.log(scaled), 0.0)
        logits[row] += shift
        expected = np.log(np.exp(logits).sum()) - logits[row]
        assert float(names["rows"][row]) == pytest.approx(expected, rel=1e-6)
    assert float(names["rows"][2]) == pytest.approx(np.log(3))


@pytest.mark.slow
def test_ranks_that_torchrun_starts_import_the_module_too(example: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    tool = str(ROOT / "tools/train_net.py")
    alone = run([tool, *training_words(example)], example)
    assert alone.returncode == 0, alone.stderr
    expected = counted_rows(example)
    again = [*training_words(example / "ranks"), "DATALOADER.NUM_WORKERS", "0"]
    result = run([*torchrun, tool, *again], example)
    assert result.returncode == 0, result.stderr
    assert counted_rows(example / "ranks") == expected


def spawned(rank: int, folder: str) -> None:
    os.chdir(folder)
    import_modules(["counted_softmax"])
    (Path(folder) / f"{rank}.json").write_text(json.dumps(list(METHODS)))


@pytest.mark.slow
def test_a_spawned_process_imports_for_itself(example: Path) -> None:
    torch.multiprocessing.spawn(spawned, (str(example),), nprocs=1)
    assert "counted_softmax" in json.loads((example / "0.json").read_text())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module", "neither .* nor the path .* has a module of that name"),
        ("mine.py", "neither .*; give it without .py"),
        ("needs_more", "ModuleNotFoundError: No module named 'not_installed'"),
        ("broken", "ZeroDivisionError"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=f"--import {name} failed: {reason}"):
        import_modules([name])


def install(folder: Path, entry_points: str) -> None:
    """What pip leaves behind of a package, and its module."""
    info = folder / "counted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[balms_seg.methods]\n{entry_points}\n")


SHOW = (
    "from detectron2.config import get_cfg\n"
    "from balms_seg import add_balms_config\n"
    "cfg = get_cfg()\n"
    "add_balms_config(cfg)\n"
    "print(sorted(set(cfg.MODEL.METHODS) - {'SOFTMAX'}), cfg.MODEL.METHODS.COUNTED_SOFTMAX)\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["counted_softmax", "counted_softmax:CountedSoftmax"])
def test_an_installed_package_offers_its_method(example: Path, value: str) -> None:
    install(example, f"counted_softmax = {value}")
    result = run(["-c", SHOW], example)
    assert result.returncode == 0, result.stderr
    assert "COUNTED_SOFTMAX" in result.stdout
    assert "STRENGTH: 1.0" in result.stdout


@pytest.mark.slow
def test_an_entry_point_that_leads_nowhere_is_named(example: Path) -> None:
    install(example, "gone = not_there:Method")
    result = run(["-c", SHOW], example)
    assert "entry point gone = not_there:Method of group balms_seg.methods" in result.stderr
    assert "ImportError" in result.stderr.splitlines()[-1]


def mine(base: type[Method] = Softmax) -> type[Method]:
    return type("Mine", (base,), {})


def test_a_registered_class_is_found_by_name() -> None:
    cls = register("mine")(mine())
    assert find_method("mine") is METHODS["mine"] is cls


@pytest.mark.parametrize("name", ["Mine", "my-method", "1st", ""])
def test_a_name_that_is_no_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        register(name)


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(TypeError, match="class of balms_seg.methods.Method"):
        register("mine")(torch.nn.Linear)


def test_a_name_is_taken_once_but_a_module_may_be_imported_again() -> None:
    with pytest.raises(ValueError, match=r"'softmax' is balms_seg.methods.softmax.Softmax already"):
        register("softmax")(mine())
    register("mine")(mine())
    register("mine")(mine())  # of the same module and name


def test_a_setting_without_a_default_is_refused() -> None:
    @dataclass(frozen=True)
    class Settings(MethodSettings):
        strength: float

    cls = mine()
    cls.Settings = Settings
    with pytest.raises(ValueError, match="default for the setting strength"):
        register("mine")(cls)
