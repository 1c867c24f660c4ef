"""The device itself: what a GPU refuses is refused."""

from __future__ import annotations

import pytest
import torch


def test_tensors_of_two_devices_do_not_mix() -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match="device"):
        there + here
    with pytest.raises(RuntimeError, match="device"):
        torch.where(there > 0, there, here)
    assert (there + 1 + torch.tensor(2.0)).tolist() == [4.0, 4.0, 4.0]


def test_numbers_are_read_on_the_cpu_alone() -> None:
    there = torch.arange(3, device="cuda")
    with pytest.raises(TypeError, match="cuda"):
        there.numpy()
    assert there.cpu().numpy().tolist() == [0, 1, 2]


def test_draws_need_a_generator_of_the_device() -> None:
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(2, device="cuda", generator=torch.Generator())


def test_gradients_and_in_place_writes_stay_on_the_device() -> None:
    weight = torch.nn.Parameter(torch.ones(2, device="cuda"))
    (weight * torch.arange(2.0, device="cuda")).sum().backward()
    assert weight.grad is not None
    assert weight.grad.device.type == "cuda"
    with torch.no_grad():
        assert weight.sub_(weight.grad) is weight
    assert weight.tolist() == [1.0, 0.0]


def test_equal_seeds_draw_something_else_than_on_the_cpu() -> None:
    torch.manual_seed(3)
    first, here = torch.randperm(40, device="cuda").tolist(), torch.randperm(40).tolist()
    torch.manual_seed(3)
    assert torch.randperm(40).tolist() == here
    assert torch.randperm(40, device="cuda").tolist() == first != here
