"""Tensors that say they are on cuda:0 and compute on the CPU, so that device errors show there.

An operation that mixes such a tensor with one of the CPU raises, as does drawing on the device with
a generator of the CPU; of what makes the host wait for the device it warns, where it is asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from waits import warn_of_wait

aten = torch.ops.aten
DEVICE = torch.device("cuda", 0)

# Their result's shape, or the result itself, is known on the host only after the device is done.
WAITING = {
    getattr(aten, name).default
    for name in (
        *("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "histc"),
        *("_unique2", "unique_consecutive", "unique_dim"),
    )
} | {aten.repeat_interleave.Tensor}
INDEXING = {
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default),
    *(aten._index_put_impl_.default, aten._unsafe_index.Tensor, aten._unsafe_index_put.default),
}

_debugging = {"waits": False}
_generator = torch.Generator()


class DeviceMixError(RuntimeError):
    """Tensors of two devices met."""


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device; its numbers lie in `elem`, on the CPU."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls: type[PretendedTensor], elem: torch.Tensor) -> PretendedTensor:
        assert type(elem) in (torch.Tensor, torch.nn.Parameter)
        assert elem.device.type == "cpu"
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=DEVICE,
            requires_grad=False,
        )
        tensor.elem = elem
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run_on_device(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"PretendedTensor({self.elem!r})"

    def tolist(self) -> Any:
        tell_wait("tolist")
        return self.elem.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Expected a tensor of the CPU, but got one of cuda:0; use Tensor.cpu().")

    __array__ = numpy

    # A wrapper's shape is fixed.
    def unsqueeze_(self, dim: int) -> torch.Tensor:
        return self.unsqueeze(dim)

    def squeeze_(self, *dims: int) -> torch.Tensor:
        return self.squeeze(*dims)

    def transpose_(self, one: int, other: int) -> torch.Tensor:
        return self.transpose(one, other)

    def t_(self) -> torch.Tensor:
        return self.t()

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        if id(self) not in memo:
            copy: torch.Tensor = PretendedTensor(self.elem.clone())
            if isinstance(self, torch.nn.Parameter):
                copy = torch.nn.Parameter(copy, self.requires_grad)
            memo[id(self)] = copy.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return (_identity, (self.elem.detach(),))


class Pretending(TorchDispatchMode):
    """What is made on a CUDA device is pretended."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_meant = is_cuda(kwargs.get("device")) or any(
            isinstance(leaf, PretendedTensor) for leaf in tree_leaves((args, kwargs))
        )
        return run_on_device(func, args, kwargs) if is_meant else func(*args, **kwargs)


def is_cuda(device: Any) -> bool:
    """Whether that is the pretended device."""
    return device is not None and torch.device(device).type == "cuda"


def run_on_device(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operator as the device would run it."""
    if func is aten._to_copy.default:
        return _copy(args[0], kwargs)
    if func is aten.copy_.default:
        target, source = args[:2]
        if isinstance(target, PretendedTensor) != isinstance(source, PretendedTensor):
            tell_wait("copy_")
        func(_unwrapped(target), _unwrapped(source), *args[2:])
        return target
    leaves = tree_leaves((args, kwargs))
    on_device = any(isinstance(leaf, PretendedTensor) for leaf in leaves)
    if on_device:
        _check_one_device(func, args, leaves)
        _tell_if_waiting(func, args)
    kwargs = dict(kwargs)
    device = kwargs.get("device")
    stays = on_device if device is None else is_cuda(device)
    if device is not None and stays:
        kwargs["device"] = torch.device("cpu")
    generator = kwargs.get("generator")
    if stays and generator is not None and generator.device.type == "cpu":
        raise DeviceMixError(f"{func}: expected a generator of cuda:0, but got one of the CPU.")
    draws = stays and torch.Tag.nondeterministic_seeded in func.tags
    with _own_generator() if draws else nullcontext():
        result = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    written = _written_arguments(func, args, kwargs)
    if written:
        return written[0] if len(written) == 1 else tuple(written)
    return tree_map(_wrapped, result) if stays else result


@contextmanager
def _own_generator() -> Iterator[None]:
    """What is drawn on a device is not what the CPU's generator would have drawn."""
    of_host = torch.get_rng_state()
    torch.set_rng_state(_generator.get_state())
    try:
        yield
    finally:
        _generator.set_state(torch.get_rng_state())
        torch.set_rng_state(of_host)


def manual_seed(seed: int | str) -> None:
    """As torch.cuda has it; torch.manual_seed calls it too, and detectron2's main with a text."""
    _generator.manual_seed(int(seed) + 1)


manual_seed_all = manual_seed


def get_rng_state(device: Any = None) -> torch.Tensor:
    """As torch.cuda has it."""
    return _generator.get_state()


def set_rng_state(state: torch.Tensor, device: Any = None) -> None:
    """As torch.cuda has it."""
    _generator.set_state(state)


def set_sync_debug_mode(mode: str) -> None:
    """As torch.cuda has it."""
    _debugging["waits"] = mode == "warn"


def tell_wait(what: str) -> None:
    """Warn that the host waits here, where that was asked for."""
    if _debugging["waits"]:
        warn_of_wait(what)


def _copy(source: torch.Tensor, kwargs: dict) -> torch.Tensor:
    device = kwargs.get("device")
    is_there = isinstance(source, PretendedTensor)
    goes = is_there if device is None else is_cuda(device)
    if is_there and not goes:
        tell_wait("to the host")
    elif goes and not is_there and not (kwargs.get("non_blocking") and _is_pinned(source)):
        tell_wait("to the device")
    dropped = ("device", "non_blocking", "pin_memory")
    options = {key: value for key, value in kwargs.items() if key not in dropped}
    result = aten._to_copy.default(_unwrapped(source), **options)
    return PretendedTensor(result) if goes else result


def _is_pinned(tensor: torch.Tensor) -> bool:
    return getattr(tensor, "_is_pretended_pinned", False)


def _check_one_device(func: Any, args: tuple, leaves: list) -> None:
    strangers = [
        leaf
        for leaf in leaves
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, PretendedTensor) and leaf.dim()
    ]
    if func in INDEXING and isinstance(args[0], PretendedTensor):  # CUDA takes the CPU's indices
        indices = {id(index) for index in args[1]}
        if any(id(each) in indices for each in strangers):
            tell_wait("index of the CPU")
        strangers = [each for each in strangers if id(each) not in indices]
    if strangers:
        raise DeviceMixError(
            f"{func}: expected all tensors on one device, but beside cuda:0 got some of the CPU, "
            f"of shapes {[tuple(each.shape) for each in strangers]}."
        )


def _tell_if_waiting(func: Any, args: tuple) -> None:
    if func in WAITING:
        tell_wait(str(func))
    elif func in INDEXING and any(
        isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
        for index in args[1]
    ):
        tell_wait("mask")


def _written_arguments(func: Any, args: tuple, kwargs: dict) -> list:
    """Where an operator returns what it wrote into, the caller's own tensors."""
    arguments = func._schema.arguments
    written = {
        tuple(sorted(each.alias_info.before_set)): args[i] if i < len(args) else kwargs[each.name]
        for i, each in enumerate(arguments)
        if each.alias_info is not None and each.alias_info.is_write
        if i < len(args) or each.name in kwargs
    }
    infos = [each.alias_info for each in func._schema.returns]
    if not any(info is not None and info.is_write for info in infos):
        return []
    return [written[tuple(sorted(info.before_set))] for info in infos]


def _identity(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _unwrapped(value: Any) -> Any:
    return value.elem if isinstance(value, PretendedTensor) else value


def _wrapped(value: Any) -> Any:
    is_plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendedTensor)
    return PretendedTensor(value) if is_plain else value
