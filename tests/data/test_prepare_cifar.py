"""datasets/prepare_cifar.py says where CIFAR is, and downloads only what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_cifar.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_cifar", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_archive_is_enough(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cifar10-jpeg.zip").write_bytes(b"")
    assert script.main(["cifar10", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"cifar10: {tmp_path}/cifar10-jpeg.zip\n"


def test_a_missing_set_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["cifar100", "--no-download", "--root", str(tmp_path)]) == 1
    assert "cifar100: not in" in capsys.readouterr().out


def test_both_parts_are_downloaded(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        script.datasets, "CIFAR10", lambda root, train, download: calls.append((train, download))
    )
    assert script.main(["cifar10", "--root", str(tmp_path)]) == 0
    assert calls == [(True, True), (False, True)]


def test_an_unknown_name_is_refused(script: ModuleType) -> None:
    with pytest.raises(SystemExit):
        script.main(["svhn"])
