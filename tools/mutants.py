#!/usr/bin/env python
"""Change one operator or constant at a time, and see whether the related tests notice.

python tools/mutants.py balms_seg/losses balms_seg/meta --sample 50 --csv survivors.csv

A copy of the checkout is changed, never the checkout. A mutant is killed if its tests fail or take
too long. Related are the tests that speak of the module or of what it defines. Mutants that nobody
can notice are listed with a reason in tests/equivalent_mutants.csv.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path("tests/equivalent_mutants.csv")  # module, before, after, reason
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# What a message says is not what the code does.
_SPEECH = ("logger", "warnings", "print")


@dataclass(frozen=True)
class Mutant:
    """One change: `before` became `after` in a line of a module, which now reads `source`."""

    module: Path
    line: int
    before: str
    after: str
    source: str


def mutants_of(module: Path, text: str) -> Iterator[Mutant]:
    """Every change of one operator or constant; messages, annotations, decorators left out."""
    count = sum(1 for _ in _changes(ast.parse(text)))
    for number in range(count):
        tree = ast.parse(text)
        for place, (statement, change) in enumerate(_changes(tree)):
            if place == number:
                before = ast.unparse(statement)
                change()
                after = ast.unparse(statement)
                if before != after:
                    source = ast.unparse(tree)
                    yield Mutant(module, statement.lineno, before, after, source)
                break


def _changes(tree: ast.Module) -> Iterator[tuple]:
    """Pairs of a statement and of what changes it, in the order of the source."""
    stack: list[tuple[ast.AST, ast.stmt | None]] = [(tree, None)]
    while stack:
        node, statement = stack.pop()
        if isinstance(node, ast.Raise | ast.Assert) or _is_speech(node):
            continue
        statement = node if isinstance(node, ast.stmt) else statement
        if statement is not None:
            yield from ((statement, change) for change in _changes_here(node))
        children = [
            child
            for field, value in ast.iter_fields(node)
            if field not in ("annotation", "returns", "decorator_list")
            for child in (value if isinstance(value, list) else [value])
            if isinstance(child, ast.AST)
        ]
        stack += [(child, statement) for child in reversed(children)]


def _is_speech(node: ast.AST) -> bool:
    called = node.value if isinstance(node, ast.Expr) else None
    if isinstance(called, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    return isinstance(called, ast.Call) and ast.unparse(called.func).startswith(_SPEECH)


def _changes_here(node: ast.AST) -> Iterator:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        yield lambda: node.ops.__setitem__(0, _SWAPS[type(node.ops[0])]())
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _SWAPS:
        yield lambda: setattr(node, "op", _SWAPS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda: setattr(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield (
            lambda: (
                setattr(node, "op", ast.UAdd())
                or setattr(node, "operand", ast.Call(ast.Name("bool"), [node.operand], []))
            )
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield lambda: setattr(node, "value", node.value + 1)


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


def is_killed(root: Path, mutant: Mutant, tests: Sequence[str], *, timeout: float) -> bool:
    """Run tests on a copy with the mutant in place, in a process of its own."""
    target = root / mutant.module
    original = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    child = os.fork()  # with torch imported already, which takes longer than most tests
    if child == 0:
        _run_tests(root, tests)
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


def _run_tests(root: Path, tests: Sequence[str]) -> None:
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    sys.dont_write_bytecode = True
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests])
    os._exit(int(code))


def known_equivalents(root: Path) -> set[tuple[str, str, str]]:
    """Module, statement before and statement after of the mutants that nobody can notice."""
    if not (root / EQUIVALENT).is_file():
        return set()
    with (root / EQUIVALENT).open(newline="", encoding="utf-8") as file:
        return {(row["module"], row["before"], row["after"]) for row in csv.DictReader(file)}


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
    known = known_equivalents(root)
    every = [
        mutant
        for file in files
        for mutant in mutants_of(file, (root / file).read_text(encoding="utf-8"))
        if (str(file), mutant.before, mutant.after) not in known
    ]
    chosen = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    survivors: list[Mutant] = []
    tried = 0
    usable: dict[Path, bool] = {}  # where its tests fail without a mutant, each would look killed
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = Path(folder) / "checkout"
        left_out = shutil.ignore_patterns(".git", ".venv", "output", "build", "__pycache__")
        shutil.copytree(root, copy, ignore=left_out)
        for mutant in chosen:
            module, tests = mutant.module, related_tests(copy, mutant.module)
            if module not in usable:
                unchanged = replace(mutant, source=(copy / module).read_text(encoding="utf-8"))
                usable[module] = not is_killed(copy, unchanged, tests, timeout=args.timeout)
            if not usable[module]:
                continue
            tried += 1
            killed = is_killed(copy, mutant, tests, timeout=args.timeout)
            survivors += [] if killed else [mutant]
            print(
                f"{tried}/{len(chosen)} {'killed  ' if killed else 'SURVIVED'} "
                f"{module}:{mutant.line}: {mutant.before!r} -> {mutant.after!r}",
                flush=True,
            )
    print(f"{tried - len(survivors)} of {tried} killed.")
    for module in (module for module, is_usable in usable.items() if not is_usable):
        print(f"Left out {module}: its tests fail, or take more than {args.timeout:g} seconds.")
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["module", "line", "before", "after"])
            writer.writerows([str(m.module), m.line, m.before, m.after] for m in survivors)
    return survivors


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # its pool does not survive forks
    import detectron2.modeling  # noqa: F401  once for all mutants
    import pytest  # noqa: F401
    import torch  # noqa: F401

    main(parse_arguments())
