"""The table of methods, and how one from outside the package gets into it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from importlib.metadata import entry_points
from typing import Any, TypeVar

from balms_seg.methods.base import Method
from balms_seg.methods.settings import MethodSettings

ENTRY_POINTS = "balms_seg.methods"

METHODS: dict[str, type[Method]] = {}

AnyMethod = TypeVar("AnyMethod", bound=type[Method])


def register(name: str) -> Callable[[AnyMethod], AnyMethod]:
    """Put a method into the table: `@register("mine")` above its class.

    Register before `add_balms_config` declares the settings as `MODEL.METHODS.MINE`.

    Args:
        name: lower-case letters, digits and underscores; what CLASSIFIER and METHOD name.

    Raises:
        ValueError: the name has other characters or is taken by another class, or a setting has no
            default.
        TypeError: what is registered is no class of `Method`.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"Expected a method's name of lower-case letters, digits and _, but got {name!r}."
        )

    def put(method: AnyMethod) -> AnyMethod:
        if not (isinstance(method, type) and issubclass(method, Method)):
            raise TypeError(f"Expected a class of balms_seg.methods.Method, but got {method!r}.")
        taken = METHODS.get(name)
        if taken is not None and _identity(taken) != _identity(method):
            raise ValueError(
                f"Expected a name that is free, but {name!r} is {_identity(taken)} already; choose "
                f"another for {_identity(method)}."
            )
        for field in fields(method.Settings):
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(
                    f"Expected a default for the setting {field.name} of {_identity(method)}, "
                    "which is what its configuration key starts with."
                )
        METHODS[name] = method
        return method

    return put


def _identity(method: type) -> str:
    return f"{method.__module__}.{method.__qualname__}"


def load_entry_points() -> None:
    """Import what installed packages offer in the group `balms_seg.methods`.

    An entry point names a method's class, registered under the entry point's name, or a module
    that registers its methods itself.

    Raises:
        ImportError: one cannot be imported.
    """
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            found = entry_point.load()
        except Exception as error:
            raise ImportError(
                f"Expected a method at the entry point {entry_point.name} = {entry_point.value} of "
                f"group {ENTRY_POINTS}, but importing it failed: {error}. Repair or uninstall the "
                "package that declares it."
            ) from error
        if isinstance(found, type):
            register(entry_point.name)(found)


def find_method(name: str) -> type[Method]:
    """The class of that name.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if name in METHODS:
        return METHODS[name]
    if not name:
        raise ValueError(
            f"Expected a method out of {', '.join(METHODS)}, but got none. A detector of "
            "detectron2's own is described by MODEL.ROI_HEADS.NAME LongTailedROIHeads "
            "(cascades: CascadeLongTailedROIHeads) MODEL.ROI_BOX_HEAD.CLASSIFIER softmax, and "
            "keeps its scores."
        )
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(
        f"Expected a method out of {', '.join(METHODS)}, but got {name!r}{hint}; one of your own "
        "is registered by --import MODULE or an entry point of group balms_seg.methods."
    )


def settings_from(nodes: Mapping[str, Any], name: str) -> MethodSettings:
    """A method's settings from the configuration.

    Args:
        nodes: `cfg.MODEL.METHODS`.
        name: of the method.

    Raises:
        SettingError: a value means nothing.
        KeyError: the method was registered after `add_balms_config` declared the keys.
    """
    method = find_method(name)
    if name.upper() not in nodes:
        raise KeyError(
            f"MODEL.METHODS.{name.upper()} is not declared: register the method {name!r} before "
            "add_balms_config(cfg)."
        )
    node = nodes[name.upper()]
    return method.Settings(
        **{field.name: node[field.name.upper()] for field in fields(method.Settings)}
    )


def build_method(
    nodes: Mapping[str, Any], name: str, num_classes: int, *, has_background: bool
) -> Method:
    """A method with its settings from the configuration, still to be prepared.

    Args:
        nodes: `cfg.MODEL.METHODS`.
        name: of the method.
        num_classes: K.
        has_background: whether it is for boxes.
    """
    settings = settings_from(nodes, name)
    return find_method(name)(num_classes, has_background=has_background, settings=settings)
