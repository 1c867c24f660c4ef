#!/usr/bin/env python
"""make docs: a page for each module, from the docstrings, as html that needs no network.

tools/make_docs.py --output output/docs
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import balms_seg
from balms_seg.commands.command_line import errors_in_one_line
from balms_seg.requirements import require


def public_modules() -> Iterator[str]:
    """Names of the package's modules, those with an underscore left out."""
    yield balms_seg.__name__
    for module in pkgutil.walk_packages(balms_seg.__path__, f"{balms_seg.__name__}."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def resolve_names(module: str) -> bool:
    """Import a module and what it names but imports at first use: pdoc looks for that.

    Returns:
        Whether it could be imported; another library may be missing.
    """
    try:
        package = importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(f"{module} is left out. {error}")
        return False
    for name in list(getattr(package, "__all__", ())):
        try:
            package.__dict__.setdefault(name, getattr(package, name))
        except ModuleNotFoundError:  # that of its own module, which is told of
            package.__all__ = [other for other in package.__all__ if other != name]
    return True


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output/docs"), metavar="DIR")
    args = parser.parse_args()
    with errors_in_one_line("make_docs"), warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))  # of what we import
        # Of __init__ that NamedTuple and dataclass write, whose annotations are text.
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        # pdoc itself finds the modules of packages without __all__, which are named here as well.
        warnings.filterwarnings("ignore", message="The module specification")
        pdoc = require("pdoc", "Writing the API pages")
        render = importlib.import_module("pdoc.render")
        modules = [module for module in public_modules() if resolve_names(module)]
        render.configure(docformat="google", search=True, show_source=False)
        pdoc.pdoc(*modules, output_directory=args.output)
    print(f"{len(modules)} pages: {(args.output / 'index.html').resolve().as_uri()}")


if __name__ == "__main__":
    main()
