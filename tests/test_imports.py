"""Imports point one way, and the pure parts need no detectron2."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "balms_seg"

# A part may import what stands on a lower line.
LAYERS = (
    {"distributed", "job", "model_zoo", "progress", "requirements", "configs"}
    | {"detectron2_wheel", "durable_files", "stop_signals"},
    {"annotations"},
    {"losses", "class_statistics", "lazy_names", "needs_detectron2"},
    {"meta"},
    {"methods", "sampling"},
    {"data"},
    {"modeling", "evaluation"},
    {"glyphs", "config"},
    {"engine"},
    {"report"},
    {"commands"},
    {"balms_seg"},
    {"tools", "__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
TRAINS = {"losses", "methods", "sampling", "meta", "modeling", "data", "engine"}
PURE = ["losses", "class_statistics", "methods", "sampling", "meta", "evaluation", "report"]

SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tools").rglob("*.py")])


def part_of(path: Path) -> str:
    """The part of the package a file belongs to; "balms_seg" for its own __init__."""
    if path.is_relative_to(ROOT / "tools"):
        return "tools"
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "balms_seg" if name == "__init__" else name


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of what a module imports anywhere but under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: -(node.level - 1) or None]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imported_modules(node, package)


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return set(imported_modules(ast.parse(path.read_text(encoding="utf-8")), package))


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports, its own left out."""
    parts = set()
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "balms_seg":
            first = rest.partition(".")[0]
            parts.add(first if first in LEVEL else "balms_seg")
    return parts - {part_of(path)}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_part_has_its_place_in_the_layers() -> None:
    unplaced = {part_of(path) for path in SOURCES} - LEVEL.keys()
    assert not unplaced, f"add {sorted(unplaced)} to LAYERS, as low as what it imports allows"


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_imports_point_one_way(path: Path) -> None:
    own = part_of(path)
    upwards = {part for part in imported_parts(path) if LEVEL[part] >= LEVEL[own]}
    assert not upwards, f"{own} may only import lower layers, but imports {sorted(upwards)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "losses").glob("*.py")), ids=identify)
def test_losses_import_only_themselves_and_torch(path: Path) -> None:
    assert not imported_parts(path)
    assert not {name for name in imports_of(path) if name.startswith("detectron2")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "report").rglob("*.py")), ids=identify)
def test_the_report_imports_nothing_that_trains(path: Path) -> None:
    assert not imported_parts(path) & TRAINS
    assert not {n for n in imports_of(path) if n.split(".")[0] in {"torch", "detectron2"}}


def test_every_folder_is_a_package_that_a_wheel_holds() -> None:
    bare = {str(p.parent.relative_to(ROOT)) for p in PACKAGE.rglob("*.py")} - {
        str(p.parent.relative_to(ROOT)) for p in PACKAGE.rglob("__init__.py")
    }
    assert not bare, f"add __init__.py to {sorted(bare)}"


def test_a_breach_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breach = "def late():\n    from ..engine.trainer import Trainer\n    import balms_seg.data\n"
    source = tmp_path / "balms_seg" / "losses" / "breach.py"
    source.parent.mkdir(parents=True)
    source.write_text(breach)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "balms_seg")
    assert imported_parts(source) == {"engine", "data"}


def loaded_by(code: str) -> set[str]:
    """Modules of a fresh interpreter after it has run the code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_package_and_its_losses_load_nothing_but_torch() -> None:
    """Where detectron2 and torchvision are installed, too."""
    before = loaded_by("import typing")
    added = loaded_by("import balms_seg") - before
    assert {name.split(".")[0] for name in added} - set(sys.stdlib_module_names) == {"balms_seg"}
    added = loaded_by("import balms_seg.losses") - loaded_by("import torch")
    assert added
    assert {name.split(".")[0] for name in added} == {"balms_seg"}


def test_names_of_the_package_are_there_when_asked_for() -> None:
    loaded = loaded_by(
        "import balms_seg\n"
        "assert {'ClassStatistics', 'add_balms_config', 'check_config'} <= set(dir(balms_seg))\n"
        "from balms_seg import ClassStatistics\n"
        "assert not hasattr(balms_seg, 'ClassStatistic')"
    )
    assert not {"torch", "detectron2"} & loaded


def test_the_configuration_registers_the_heads() -> None:
    loaded_by(
        "from detectron2.config import get_cfg\n"
        "from detectron2.modeling import ROI_HEADS_REGISTRY\n"
        "import balms_seg\n"
        "assert 'BALMSROIHeads' not in ROI_HEADS_REGISTRY\n"
        "balms_seg.add_balms_config(get_cfg())\n"
        "assert 'BALMSROIHeads' in ROI_HEADS_REGISTRY"
    )


def test_the_pure_parts_import_without_detectron2() -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'detectron2':\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import importlib, importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, p=None: None if n == 'detectron2' else real(n, p)\n"
        "import balms_seg\n"
        f"for part in {PURE!r}:\n"
        "    importlib.import_module('balms_seg.' + part)\n"
    )
    assert not any(name.split(".")[0] == "detectron2" for name in loaded_by(code))
