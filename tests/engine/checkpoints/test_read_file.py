"""Checkpoint files: damage is noticed, nothing in them runs, other trainers' forms are read."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import socket
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.file_io import Detectron2Handler
from fvcore.common.config import CfgNode
from torch import nn

from balms_seg.engine.checkpoints import checksum
from balms_seg.engine.checkpoints.checkpointer import LongTailedCheckpointer
from balms_seg.engine.checkpoints.read_file import (
    DamagedCheckpointError,
    RefusedCheckpointError,
    read_checkpoint,
)

CONTENT = {
    "model": OrderedDict(weight=torch.arange(40.0).reshape(8, 5), bias=torch.ones(8)),
    "iteration": 7,
    "trainer": {"hooks": {"a": [1, 2.5, "x", None, (True, b"y")]}, "empty": torch.zeros(0, 3)},
}


def write(path: Path, content: dict) -> Path:
    torch.save({**content, checksum.KEY: checksum.checksum(content)}, path)
    return path


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    assert same(read_checkpoint(write(tmp_path / "x.pth", CONTENT)), CONTENT)


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(step: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", CONTENT)
    whole, rng, noticed = path.read_bytes(), random.Random(0), 0
    for position in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            content = read_checkpoint(path)
        except (DamagedCheckpointError, RefusedCheckpointError):
            noticed += 1
        else:
            assert same(content, CONTENT), position
    assert noticed > 10


def test_a_checksum_under_a_damaged_name_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", CONTENT)
    path.write_bytes(path.read_bytes().replace(b"checksum", b"shecksum"))
    with pytest.raises(DamagedCheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", CONTENT)
    with (
        zipfile.ZipFile(path) as stored,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for name in stored.namelist():
            compressed.writestr(name, stored.read(name))
    with pytest.raises(RefusedCheckpointError, match="compressed"):
        read_checkpoint(tmp_path / "y.pth")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_damaged(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", CONTENT)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DamagedCheckpointError, match="cut short"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"iteration": 8},
        {"iteration": 7.0},
        {"model": {**CONTENT["model"], "weight": CONTENT["model"]["weight"].reshape(5, 8)}},
        {"model": {"w": CONTENT["model"]["weight"], "bias": CONTENT["model"]["bias"]}},
        {"more": None},
    ],
)
def test_the_checksum_sees_values_types_shapes_and_names(change: dict) -> None:
    assert checksum.checksum({**CONTENT, **change}) != checksum.checksum(CONTENT)


def test_what_would_not_load_again_is_refused_on_saving() -> None:
    with pytest.raises(TypeError, match=r"checkpoint\.hooks\[1\] is a Namespace"):
        checksum.checksum({"hooks": [1, argparse.Namespace()]})


class Attack:
    def __reduce__(self) -> tuple:
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (argparse.Namespace(a=1), "argparse.Namespace"),
        (CfgNode({"a": 1}), "fvcore.common.config.CfgNode"),
        (Path("x"), "pathlib.PosixPath"),
        (Attack(), "posix.system"),
    ],
)
def test_what_a_pth_asks_for_is_named_and_never_run(
    value: object, name: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": {}, "args": value}
    torch.save(content, "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RefusedCheckpointError, match=name.replace(".", r"\.")) as error:
        read_checkpoint("x.pth")
    assert "torch.save({'model': content['model']}" in str(error.value)
    assert not Path("attacked").exists()


def test_a_pkl_of_the_model_zoo_is_read(tmp_path: Path) -> None:
    weights = {"conv1_w": np.arange(6, dtype=np.float32), "conv1_w_momentum": np.zeros(6)}
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump({"blobs": weights}, file, protocol=2)
    content = read_checkpoint(tmp_path / "x.pkl")
    assert content["matching_heuristics"]
    assert list(content["model"]) == ["conv1_w"]
    np.testing.assert_array_equal(content["model"]["conv1_w"], weights["conv1_w"])


def test_a_pkl_of_detectron2_is_read(tmp_path: Path) -> None:
    zoo = {"model": {"w": np.ones((2, 3))}, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(zoo))
    assert read_checkpoint(tmp_path / "x.pkl")["__author__"] == "Detectron2 Model Zoo"


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pkl_runs_no_code(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pkl").write_bytes(pickle.dumps({"model": Attack()}, protocol=protocol))
    with pytest.raises(RefusedCheckpointError, match=r"posix\.system"):
        read_checkpoint("x.pkl")
    assert not Path("attacked").exists()


WEIGHTS = {"trunk.0.weight": torch.ones(2), "head.bias": torch.zeros(1)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS},
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": {"state_dict": WEIGHTS}},
        {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}},
        {"state_dict": {f"_orig_mod.module.{name}": v for name, v in WEIGHTS.items()}},
        {"model": {name.replace("trunk.", "trunk._orig_mod."): v for name, v in WEIGHTS.items()}},
    ],
)
def test_other_trainers_names_are_understood(content: dict, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert same(dict(read_checkpoint(tmp_path / "x.pth")["model"]), WEIGHTS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.pth, but there is no such file"):
        read_checkpoint(tmp_path / "x.pth")


def test_the_checksum_does_not_depend_on_the_file() -> None:
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer)
    buffer.seek(0)
    assert checksum.checksum(torch.load(buffer)) == checksum.checksum(CONTENT)


@pytest.mark.parametrize("address", ["{server}/R-50.pkl", "detectron2://R-50.pkl"])
def test_weights_that_cannot_be_downloaded_are_named_with_a_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(Detectron2Handler, "S3_DETECTRON2_PREFIX", f"{server}/")
        checkpointer = LongTailedCheckpointer(nn.Linear(2, 2), str(tmp_path))
        with pytest.raises(ConnectionError) as caught:
            checkpointer.resume_or_load(address.format(server=server), resume=False)
    assert f"MODEL.WEIGHTS is {address.format(server=server)}" in str(caught.value)
    assert f"Download {server}/R-50.pkl where there is a network" in str(caught.value)
