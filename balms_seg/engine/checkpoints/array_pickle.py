"""The model zoo's .pkl files, read without running what a pickle may ask for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

# What numpy arrays and plain containers are made of, under the names of Python 2 and 3 and of
# numpy 1 and 2.
_ARRAYS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, and only numpy arrays and plain values are read from a "
            ".pkl file, which could run any code otherwise. If you trust its origin, load it with "
            "pickle yourself and save its arrays: torch.save({'model': {name: tensor}}, 'x.pth')"
        )


def read_array_pickle(path: str | Path) -> dict[str, Any]:
    """What a .pkl file of detectron2's or Caffe2's model zoo holds.

    Raises:
        pickle.UnpicklingError: it holds something else than arrays, or no dict; says what.
    """
    with Path(path).open("rb") as file:
        content = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(
            f"expected a dict of arrays, but it holds a {type(content).__name__}"
        )
    return content


def as_checkpoint(content: dict[str, Any]) -> dict[str, Any]:
    """A zoo file's content with its weights under "model", and how their names are matched.

    Source: the two forms are those that detectron2's DetectionCheckpointer reads.
    """
    if "model" in content and "__author__" in content:
        return content
    weights = content.get("blobs", content)
    weights = {name: value for name, value in weights.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
