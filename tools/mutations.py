"""Changes of one operator or constant in Python source, by its syntax tree."""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    for number in range(_count_changes(text)):
        mutant = _mutant(module, text, number)
        if mutant is not None:
            yield mutant


def _count_changes(text: str) -> int:
    return sum(1 for _ in _changes(ast.parse(text)))


def _mutant(module: Path, text: str, number: int) -> Mutant | None:
    """The change of this number; None where it changes nothing."""
    tree = ast.parse(text)
    statement, change = next(itertools.islice(_changes(tree), number, None))
    before = ast.unparse(statement)
    change()
    after = ast.unparse(statement)
    if before == after:
        return None
    return Mutant(module, statement.lineno, before, after, ast.unparse(tree))


def sample(
    root: Path, files: Sequence[Path], size: int, seed: int, known: set[tuple[str, str, str]]
) -> list[Mutant]:
    """At most `size` mutants of these files, drawn from all but the known ones."""
    texts = {file: (root / file).read_text(encoding="utf-8") for file in files}
    places = [(file, n) for file, text in texts.items() for n in range(_count_changes(text))]
    random.Random(seed).shuffle(places)
    drawn = (_mutant(file, texts[file], number) for file, number in places)
    fresh = (m for m in drawn if m and (str(m.module), m.before, m.after) not in known)
    return list(itertools.islice(fresh, size))


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
