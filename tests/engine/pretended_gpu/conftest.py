"""The device that these tests run on: a pretended one, or a real one where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from pretended_cuda import build_guard, pretended_cuda


@pytest.fixture(
    scope="package",
    autouse=True,
    params=[
        pytest.param("pretended", marks=pytest.mark.pretended_gpu),
        pytest.param("real", marks=pytest.mark.gpu),
    ],
)
def device(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its kind; either way it is "cuda" to the code."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        yield "real"
        return
    if not shutil.which("g++"):
        pytest.skip("the pretended device needs g++")
    with pretended_cuda(build_guard(tmp_path_factory.mktemp("guard"))):
        yield "pretended"
