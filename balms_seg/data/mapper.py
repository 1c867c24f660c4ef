"""From a data set dict to a model input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetMapper


def build_mapper(cfg: Any) -> Callable[[dict], dict | None]:
    """The training mapper of a configuration: detectron2's, random crops and all."""
    return DatasetMapper(cfg, True)
