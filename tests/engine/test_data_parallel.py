"""The data-parallel wrapper, in a group of one process that takes itself for one of two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from balms_seg.engine.step import data_parallel


@pytest.fixture
def _group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    dist.init_process_group("gloo", f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    monkeypatch.setattr("balms_seg.engine.step.comm.get_world_size", lambda: 2)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("is_older", [False, True])
def test_buffers_stay_each_ranks_own_without_a_deprecated_name(
    is_older: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    original = DistributedDataParallel.__init__

    def up_to_2_13(
        self: nn.Module, module: nn.Module, device_ids: None, broadcast_buffers: bool = True
    ) -> None:
        given["broadcast_buffers"] = broadcast_buffers
        original(self, module)

    if is_older:
        monkeypatch.setattr(DistributedDataParallel, "__init__", up_to_2_13)
        data_parallel(nn.BatchNorm1d(2))
        assert given == {"broadcast_buffers": False}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = data_parallel(nn.BatchNorm1d(2))
    assert isinstance(wrapped, DistributedDataParallel)
    assert not wrapped.will_sync_module_buffers()
