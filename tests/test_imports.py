"""Imports point one way, file by file and without a circle; the pure parts need no detectron2."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "balms_seg"

# The layers of the architecture. A file may import files of a lower line, and of its own line too
# where that closes no circle.
LAYERS = (
    {"annotations", "csv_files", "decoding", "distributed", "job", "model_zoo", "progress"}
    | {"configs", "declared_keys", "detectron2_wheel", "device_copies", "durable_files"}
    | {"lazy_names", "needs_detectron2", "requirements", "stop_signals", "wording"},
    {"losses", "class_statistics"},
    {"methods", "sampling", "meta", "image_batch", "training_objects", "registered_names"},
    {"data", "modeling", "evaluation", "integrations"},
    {"glyphs", "config"},
    {"engine"},
    {"experiments"},
    {"report", "commands"},
    {"balms_seg"},
    {"tools"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
STRANGERS = ({"data", "modeling", "evaluation"},)  # none of these imports another
TRAINS = {"losses", "methods", "sampling", "meta", "modeling", "data", "engine"}
PURE = ["losses", "class_statistics", "methods", "sampling", "meta", "evaluation", "report"]

SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tools").rglob("*.py")])


def part_of(path: Path) -> str:
    """The part of the package a file belongs to; "balms_seg" for its own __init__."""
    if path.is_relative_to(ROOT / "tools"):
        return "tools"
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "balms_seg" if name in ("__init__", "__main__") else name


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere, under TYPE_CHECKING and in functions too."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def imports_of(path: Path) -> set[str]:
    return set(imported_modules(path))


@cache
def file_of(name: str) -> Path | None:
    """The file of the package that holds a module or a name of one; None for other packages.

    A name that a package's __init__ imports when it is asked for counts as the module it is from.
    """
    parts = name.split(".")
    if parts[0] != "balms_seg":
        return None
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            lazy = lazy_modules(path / "__init__.py").get(".".join(parts[length:]))
            return path / "__init__.py" if lazy is None else file_of(lazy)
    raise AssertionError(f"{name} is imported, but there is no such module")


@cache
def lazy_modules(init: Path) -> dict[str, str]:
    """Names that an __init__ hands to `lazy_names`, with the full names of their modules."""
    package = ".".join(init.parent.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if is_call and node.func.id == "lazy_names":
            return {k: f"{package}.{v}" for k, v in ast.literal_eval(node.args[1]).items()}
    return {}


def imported_files(path: Path) -> set[Path]:
    return {file for name in imports_of(path) if (file := file_of(name)) is not None} - {path}


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports, its own left out."""
    return {part_of(file) for file in imported_files(path)} - {part_of(path)}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def circle_in(graph: dict[Path, set[Path]]) -> list[Path]:
    """Files that import each other in a circle, the first one again at the end; [] for none."""
    done: set[Path] = set()
    for start in graph:
        stack: list[tuple[Path, Iterator[Path]]] = [(start, iter(sorted(graph[start])))]
        while stack and start not in done:
            file, following = stack[-1]
            entered = next((each for each in following if each not in done), None)
            on_the_way = [each for each, _ in stack]
            if entered is None:
                done.add(file)
                stack.pop()
            elif entered in on_the_way:
                return [*on_the_way[on_the_way.index(entered) :], entered]
            else:
                stack.append((entered, iter(sorted(graph.get(entered, ())))))
    return []


def test_every_part_has_its_place_in_the_layers() -> None:
    unplaced = {part_of(path) for path in SOURCES} - LEVEL.keys()
    assert not unplaced, f"add {sorted(unplaced)} to LAYERS, as low as what it imports allows"


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_imports_point_one_way(path: Path) -> None:
    own = part_of(path)
    parts = imported_parts(path)
    upwards = {part for part in parts if LEVEL[part] > LEVEL[own]}
    assert not upwards, f"{own} may not import what stands above it, but imports {sorted(upwards)}"
    strange = {part for group in STRANGERS if own in group for part in parts & group}
    assert not strange, f"{own} is handed what it needs, but imports {sorted(strange)}"


def test_no_files_import_each_other_in_a_circle() -> None:
    circle = circle_in({path: imported_files(path) for path in SOURCES})
    assert not circle, " imports ".join(map(identify, circle))


def test_a_circle_would_be_seen() -> None:
    one, two, three = map(Path, "abc")
    assert circle_in({one: {two}, two: {three}, three: set()}) == []
    assert circle_in({one: {two, three}, two: {three}, three: {two}}) == [two, three, two]


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


def test_one_place_asks_which_job_a_configuration_is() -> None:
    """The engine's jobs; the check of a configuration, which knows no engine, is the other."""
    asking = {
        identify(path) for path in SOURCES if "balms_seg.job.classifies_images" in imports_of(path)
    }
    assert asking == {"balms_seg/engine/jobs/choice.py", "balms_seg/config/__init__.py"}


def test_a_breach_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breach = (
        "def late():\n    from ..engine.trainer import Trainer\n    import balms_seg.data.loader\n"
    )
    package = tmp_path / "balms_seg"
    for name in ("losses/breach", "engine/trainer", "data/loader"):
        source = package / f"{name}.py"
        source.parent.mkdir(parents=True)
        source.write_text(breach if name.endswith("breach") else "")
    file_of.cache_clear()
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    assert imported_parts(package / "losses/breach.py") == {"engine", "data"}
    file_of.cache_clear()


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


def test_packages_need_no_import_of_their_own() -> None:
    loaded = loaded_by(
        "import balms_seg\nbalms_seg.methods.register, balms_seg.losses.sigmoid_loss"
    )
    assert "torch" in loaded
    assert "detectron2" not in loaded


@pytest.mark.slow
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
