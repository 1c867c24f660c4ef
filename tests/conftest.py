"""Fixtures that several test modules share, and the option that divides the tests into parts."""

import importlib.util
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --part."""
    parser.addoption(
        "--part",
        metavar="K/N",
        help="run only the tests whose name's CRC-32 modulo N is K, for K in 0 to N - 1",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what --part leaves out."""
    part = config.getoption("--part")
    if part is None:
        return
    try:
        chosen, parts = (int(number) for number in part.split("/"))
    except ValueError:
        raise pytest.UsageError(f"--part: expected K/N as in 0/8, but got {part!r}") from None
    if not 0 <= chosen < parts:
        raise pytest.UsageError(f"--part: expected K in 0 to N - 1, but got {part!r}")
    outside = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts != chosen]
    config.hook.pytest_deselected(items=outside)
    items[:] = [item for item in items if item not in set(outside)]


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the home folder, and nothing found there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_of_a_terminal() -> None:
    """Shells start what runs in the background with interrupts ignored; tests send some."""
    for number, handler in [
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ]:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data beside the checkout; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the real data at {path}")
    return path


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """A function that imports a command of tools/ by its name."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).resolve().parents[1] / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"{name}_tool", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look for it
        spec.loader.exec_module(module)
        return module

    return load
