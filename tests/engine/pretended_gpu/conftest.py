"""The device that these tests run on: a pretended one, or a real one where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pretended_cuda import build_guard, pretended_cuda

from balms_seg.modeling.cifar_resnet import CifarResNet
from balms_seg.modeling.image_backbones import IMAGE_BACKBONES


@pytest.fixture(scope="module", autouse=True)
def _shallow() -> Iterator[None]:
    """Image classifiers of a quarter of the layers: each operator takes its time in Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IMAGE_BACKBONES, "cifar_resnet32", lambda **_: CifarResNet(8))
        yield


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pretended device needs, compiled."""
    if not shutil.which("g++"):
        pytest.skip("the pretended device needs g++")
    return build_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture(
    scope="module",  # this folder is no package to pytest: a wider scope lasts for all tests
    autouse=True,
    params=[
        pytest.param("pretended", marks=pytest.mark.pretended_gpu),
        pytest.param("real", marks=pytest.mark.gpu),
    ],
)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its kind; either way it is "cuda" to the code."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        yield "real"
        return
    with pretended_cuda(request.getfixturevalue("guard")):
        yield "pretended"
