"""Sentences about values that mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def outside(node: CfgNode, where: str, allowed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """One sentence for each key of a node whose value is not among those that are allowed."""
    return [
        f"{where}.{key} is {node[key]!r}; expected one of {', '.join(map(repr, values))}."
        for key, values in allowed.items()
        if node[key] not in values
    ]


def below(node: CfgNode, where: str, lowest: Mapping[str, int]) -> list[str]:
    """One sentence for each key of a node whose value is below the least that is allowed."""
    return [
        f"{where}.{key} is {node[key]}; expected at least {least}."
        for key, least in lowest.items()
        if node[key] < least
    ]
