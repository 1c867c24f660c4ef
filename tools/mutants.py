#!/usr/bin/env python
"""Change one operator or constant at a time, and see whether the related tests notice.

python tools/mutants.py balms_seg/losses balms_seg/meta --sample 50 --csv survivors.csv

A copy of the checkout is changed, never the checkout. First the tests that speak of the modules or
of what they define run once, recorded line by line. A mutant is killed if the tests that ran its
line fail or take too long; of a line that runs on import, those that ran any line of its class, or
else all tests that speak of its module.
Mutants that nobody can notice are listed with a reason in tests/equivalent_mutants.csv.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import coverage
import pytest
from mutations import Mutant, sample

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path("tests/equivalent_mutants.csv")  # module, before, after, reason


def related_tests(root: Path, module: Path) -> list[str]:
    """Test files that speak of a module or of what it defines; else its mirrored folder's."""
    body = ast.parse((root / module).read_text(encoding="utf-8")).body
    defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    names = {name for name in defined if not name.startswith("_")}
    names.add(".".join(module.with_suffix("").parts))
    spoken = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    mirror = root / "tests" / Path(*module.parts[1:-1])
    found = [
        path
        for path in sorted((root / "tests").rglob("test_*.py"))
        if spoken.search(path.read_text(encoding="utf-8"))
    ]
    # Those of its own folder first: they are the quick ones.
    found = sorted(found, key=lambda path: path.parent != mirror) or sorted(mirror.glob("test_*"))
    return [str(path.relative_to(root)) for path in found]


class _Recorder:
    """A plugin of pytest that says which test runs what coverage sees."""

    def __init__(self, recording: coverage.Coverage) -> None:
        self._recording = recording

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._recording.switch_context(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._recording.switch_context("")


def record(root: Path, tests: Sequence[str], data_file: Path) -> bool:
    """Run tests in a process of their own, and keep which lines each of them ran.

    Returns:
        Whether all of them passed: where a test fails without a mutant, each would look killed.
    """
    child = os.fork()
    if child == 0:
        sys.path.insert(0, str(root))
        recording = coverage.Coverage(data_file=data_file, source_pkgs=["balms_seg"])
        recording.start()
        code = _run_tests(root, tests, plugins=[_Recorder(recording)])
        recording.stop()
        recording.save()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def tests_of_lines(data_file: Path, source: Path) -> dict[int, list[str]]:
    """Tests that ran each line of a file; lines that run on import alone are left out."""
    data = coverage.CoverageData(str(data_file))
    data.read()
    lines = data.contexts_by_lineno(str(source.resolve()))
    found = {line: [name for name in names if name] for line, names in lines.items()}
    return {line: names for line, names in found.items() if names}


def tests_of(mutant: Mutant, lines: dict[int, list[str]], source: str) -> list[str]:
    """Tests that ran a mutant's line; of one that runs on import, any line of its innermost class.

    Args:
        mutant: the change.
        lines: tests of each line, see `tests_of_lines`.
        source: of its module, unchanged.
    """
    if mutant.line in lines:
        return lines[mutant.line]
    classes = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]
    around = min((own for own in classes if mutant.line in own), key=len, default=range(0))
    return list(dict.fromkeys(test for line in around for test in lines.get(line, ())))


def is_killed(root: Path, mutant: Mutant, tests: Sequence[str], *, timeout: float) -> bool:
    """Run tests on a copy with the mutant in place, in a process of its own."""
    target = root / mutant.module
    original = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    child = os.fork()  # with torch imported already, which takes longer than most tests
    if child == 0:
        os._exit(_run_tests(root, tests))
    try:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status) != 0
            time.sleep(0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True
    finally:
        target.write_text(original, encoding="utf-8")


def _run_tests(root: Path, tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    sys.dont_write_bytecode = True
    options = ["-q", "-p", "no:cacheprovider", "--no-header"] + ([] if plugins else ["-x"])
    return int(pytest.main([*options, *tests], plugins=list(plugins)))


def known_equivalents(root: Path) -> set[tuple[str, str, str]]:
    """Module, statement before and statement after of the mutants that nobody can notice."""
    if not (root / EQUIVALENT).is_file():
        return set()
    with (root / EQUIVALENT).open(newline="", encoding="utf-8") as file:
        return {(row["module"], row["before"], row["after"]) for row in csv.DictReader(file)}


def _left_out(root: Path, folder: str, names: Sequence[str]) -> set[str]:
    """What a copy of the checkout does without; below its root, packages have such names too."""
    at_root = {".git", ".venv", "output", "build"} if Path(folder) == root else set()
    return (at_root | {"__pycache__"}) & set(names)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Modules, and how many of their mutants."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", type=Path, help="files or folders of balms_seg")
    parser.add_argument("--sample", type=int, default=50, help="mutants; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; default: %(default)s")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one mutant")
    parser.add_argument("--csv", type=Path, help="write the survivors here")
    return parser.parse_args(words)


def main(args: argparse.Namespace, root: Path = ROOT) -> list[Mutant]:
    """Try a sample of mutants; returns those that survived."""
    files = [
        f for m in args.modules for f in ([m] if m.suffix == ".py" else sorted(m.rglob("*.py")))
    ]
    chosen = sample(root, files, args.sample, args.seed, known_equivalents(root))
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy, recorded = Path(folder) / "checkout", Path(folder) / "recorded"
        shutil.copytree(root, copy, ignore=lambda path, names: _left_out(root, path, names))
        related = {mutant.module: related_tests(copy, mutant.module) for mutant in chosen}
        every_test = sorted({test for tests in related.values() for test in tests})
        print(f"Running {len(every_test)} test files without a mutant ...", flush=True)
        if not record(copy, every_test, recorded):
            raise SystemExit(
                "Expected tests that pass without a mutant, but some fail: see `make test`."
            )
        for number, mutant in enumerate(chosen, start=1):
            lines = tests_of_lines(recorded, copy / mutant.module)
            tests = tests_of(mutant, lines, (copy / mutant.module).read_text(encoding="utf-8"))
            tests = tests or related[mutant.module]
            killed = is_killed(copy, mutant, tests, timeout=args.timeout)
            survivors += [] if killed else [mutant]
            print(
                f"{number}/{len(chosen)} {'killed  ' if killed else 'SURVIVED'} "
                f"{mutant.module}:{mutant.line}: {mutant.before!r} -> {mutant.after!r}",
                flush=True,
            )
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed.")
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["module", "line", "before", "after"])
            writer.writerows([str(m.module), m.line, m.before, m.after] for m in survivors)
    return survivors


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # its pool does not survive forks
    import detectron2.modeling  # noqa: F401  once for all mutants

    main(parse_arguments())
