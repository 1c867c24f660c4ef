"""The data-parallel wrapper, in a group of one process that takes itself for one of two."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from balms_seg.distributed import same_statistics, sum_over_ranks
from balms_seg.engine.step import data_parallel

DEVICES = [
    pytest.param("cpu", id="gloo"),
    pytest.param("cuda", marks=pytest.mark.gpu, id="nccl"),
]


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "cpu")


@pytest.fixture
def _group(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(backend, f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    monkeypatch.setattr("balms_seg.engine.step.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("balms_seg.engine.step.comm.get_local_rank", lambda: 0)
    monkeypatch.setattr("balms_seg.distributed.world_size", lambda: 2)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_gradients_sums_and_statistics_go_through_the_group(device: str) -> None:
    alone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(device)
    wrapped = data_parallel(copy.deepcopy(alone))
    rows = torch.arange(12.0, device=device).reshape(4, 3)
    for model in (alone, wrapped):
        model(rows)[:, 0].square().sum().backward()
    assert isinstance(wrapped, DistributedDataParallel)
    for one, other in zip(alone.parameters(), wrapped.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert torch.equal(sum_over_ranks(rows), rows)
    assert sum_over_ranks(torch.ones(2)).device.type == "cpu"  # the class parameters' place
    with same_statistics(wrapped):
        assert wrapped.module[1].num_batches_tracked == 1


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
