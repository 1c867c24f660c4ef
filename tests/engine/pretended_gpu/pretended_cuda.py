"""torch.cuda as on a machine with one device, for as long as a context lasts."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pretended_device
import pytest
import torch
from pretended_device import PretendedTensor, Pretending, is_cuda
from torch.utils.cpp_extension import include_paths

_SOURCE = Path(__file__).with_name("device_guard.cpp")
_ANSWERS: dict[str, Any] = {
    "is_available": True,
    "is_initialized": True,
    "is_bf16_supported": True,
    "is_current_stream_capturing": False,
    "current_device": 0,
    "device_count": 1,
    "get_device_name": "pretended",
    "get_device_capability": (9, 0),
    "max_memory_allocated": 0,
    "memory_allocated": 0,
}
_NOTHING = ("_lazy_init", "set_device", "synchronize", "reset_peak_memory_stats", "empty_cache")


def build_guard(folder: Path) -> Path:
    """Compile device_guard.cpp against the installed torch; needs g++ and some ten seconds."""
    library, torch_libraries = folder / "device_guard.so", Path(torch.__file__).parent / "lib"
    command = ["g++", "-shared", "-fPIC", "-std=c++20", "-O0", str(_SOURCE), "-o", str(library)]
    command += [f"-I{path}" for path in include_paths()]
    command += [f"-L{torch_libraries}", f"-Wl,-rpath,{torch_libraries}", "-lc10", "-ltorch_cpu"]
    subprocess.run(command, check=True)
    return library


@contextmanager
def pretended_cuda(guard: Path) -> Iterator[None]:
    """Everything on "cuda" is a PretendedTensor."""
    with _installed(ctypes.CDLL(os.fspath(guard))), pytest.MonkeyPatch.context() as patch:
        for name, answer in _ANSWERS.items():
            patch.setattr(torch.cuda, name, _returning(answer))
        for name in _NOTHING:
            patch.setattr(torch.cuda, name, _returning(None))
        for name in ("manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state"):
            patch.setattr(torch.cuda, name, getattr(pretended_device, name))
        patch.setattr(torch.cuda, "set_sync_debug_mode", pretended_device.set_sync_debug_mode)
        patch.setattr(
            "torch.cuda.amp.common.amp_definitely_not_available", lambda: False, raising=False
        )
        patch.setattr(torch.__config__, "show", _returning("pretended"))  # asks a CUDA library
        for name in ("tensor", "as_tensor"):
            patch.setattr(torch, name, _making_on_devices(getattr(torch, name)))
        patch.setattr(torch, "save", _saving_from_the_host(torch.save))
        patch.setattr(torch.Tensor, "pin_memory", _pinned)
        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:  # the mode holds in this thread alone, so autograd must stay in it
            with torch.autograd.set_multithreading_enabled(False), Pretending():
                yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


@contextmanager
def _installed(guard: ctypes.CDLL) -> Iterator[None]:
    guard.install()
    try:
        yield
    finally:
        guard.remove_again()


def _returning(answer: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: answer


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.clone()
    copy._is_pretended_pinned = True  # type: ignore[attr-defined]
    return copy


def _making_on_devices(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch.tensor and its like fill the memory themselves: so first there, then copied."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if isinstance(data, PretendedTensor):
            tensor = data.to(kwargs["dtype"]) if kwargs.get("dtype") else data
        elif device is None or is_cuda(device):
            tensor = make(data, *args, **kwargs)
        else:
            return make(data, *args, device=device, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made


def _saving_from_the_host(save: Callable[..., None]) -> Callable[..., None]:
    def saved(content: Any, *args: Any, **kwargs: Any) -> None:
        save(_on_host(content), *args, **kwargs)

    return saved


def _on_host(content: Any) -> Any:
    if isinstance(content, PretendedTensor):
        return content.elem.detach().clone()
    if isinstance(content, dict):
        moved = {key: _on_host(value) for key, value in content.items()}
        return moved if type(content).__name__ == "defaultdict" else type(content)(moved)
    if type(content) in (list, tuple):
        return type(content)(_on_host(value) for value in content)
    return content
