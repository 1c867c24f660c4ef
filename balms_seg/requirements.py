"""Say how to install a package that is missing, instead of only that it is."""

from __future__ import annotations

import importlib
from types import ModuleType

_HOW_TO_INSTALL = {
    "detectron2": "run `python tools/install_detectron2.py` from the source tree of balms_seg",
    "vl_convert": "run `pip install 'balms-seg[report]'`",
    "matplotlib": "run `pip install 'balms-seg[plot]'`",
    "tqdm": "run `pip install 'balms-seg[progress]'`",
    "tensorboard": "run `pip install 'balms-seg[tensorboard]'`",
    "shapely": "run `pip install 'balms-seg[crop]'`",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import a module that not every part of the package needs.

    Args:
        module: Its full name, as `import` takes it.
        purpose: What it is needed for, as the subject of a sentence: "Drawing figures".

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: it is missing; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        how = _HOW_TO_INSTALL.get(package, f"run `pip install {package}`")
        raise ModuleNotFoundError(
            f"{purpose} needs {package}, which is not installed: {how}.", name=package
        ) from None
