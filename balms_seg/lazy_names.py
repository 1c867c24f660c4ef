"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from balms_seg.requirements import explained


def lazy_names(
    package: str, modules: Mapping[str, str], *, packages: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` takes as its `__getattr__`, `__dir__` and `__all__`.

    So a light part of a package can be imported without what its heavy parts need.

    Args:
        package: its `__name__`.
        modules: the module of each public name, relative to the package. A name that a module or
            folder of the package has as well would hide behind it, so there is none.
        packages: folders of the package that are attributes without an import of their own.
    """

    def get(name: str) -> Any:
        if name in packages:
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = import_module(f"{package}.{modules[name]}")
        except ModuleNotFoundError as error:
            raise explained(error, f"{package}.{name}") from error
        return getattr(module, name)

    assert not modules.keys() & {path.partition(".")[0] for path in modules.values()}
    names = sorted(modules)
    return get, lambda: sorted([*names, *packages]), names
