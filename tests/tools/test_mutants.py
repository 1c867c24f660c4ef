"""The mutation run finds what tests do not look at."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import mutants
import mutations

TOOLS = Path(__file__).resolve().parents[2] / "tools"
MODULE = '''"""Half of a number."""


def half(number: int = 2) -> float:
    """The half."""
    if number < 0:
        raise ValueError(f"Expected at least {0}.")
    logger.info("half %d", 1)
    return number / 2
'''
TEST = """from balms_seg.output.half import half


def test_half() -> None:
    assert half(6) == 3
"""


def texts(source: str) -> set[tuple[str, str]]:
    return {(m.before, m.after) for m in mutations.mutants_of(Path("a.py"), source)}


def test_operators_and_constants_are_changed_one_at_a_time() -> None:
    found = texts("x = a < b and not c\ny = -1.5 + f(k=True)\n")
    assert found == {
        ("x = a < b and (not c)", "x = a <= b and (not c)"),
        ("x = a < b and (not c)", "x = a < b or not c"),
        ("x = a < b and (not c)", "x = a < b and +bool(c)"),
        ("y = -1.5 + f(k=True)", "y = -1.5 - f(k=True)"),
        ("y = -1.5 + f(k=True)", "y = +1.5 + f(k=True)"),
        ("y = -1.5 + f(k=True)", "y = -2.5 + f(k=True)"),
        ("y = -1.5 + f(k=True)", "y = -1.5 + f(k=False)"),
    }


def test_messages_annotations_and_docstrings_are_left_alone() -> None:
    changed = [m.line for m in mutations.mutants_of(Path("half.py"), MODULE)]
    assert sorted(changed) == [4, 6, 6, 9, 9]


def test_a_line_that_runs_on_import_has_the_tests_of_its_class() -> None:
    source = (
        "class A:\n    x = 1\n    class B:\n        y = 2\n        def f(self):\n            pass\n"
    )
    lines = {5: [], 6: ["of f", "again"], 2: ["on its own"]}
    mutants_of = {m.line: m for m in mutations.mutants_of(Path("a.py"), source + "z = 3\n")}
    assert mutants.tests_of(mutants_of[2], lines, source) == ["on its own"]
    assert mutants.tests_of(mutants_of[4], lines, source) == ["of f", "again"]
    assert mutants.tests_of(mutants_of[7], lines, source) == []


@pytest.mark.slow
def test_survivors_are_those_that_no_test_notices(tmp_path: Path) -> None:
    for name, text in {
        "balms_seg/__init__.py": "",
        "balms_seg/output/__init__.py": "",
        "output/large.bin": "",
        "balms_seg/output/half.py": MODULE.replace('    logger.info("half %d", 1)\n', ""),
        "tests/test_half.py": TEST,
        "tests/equivalent_mutants.csv": "module,before,after,reason\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    words = ["balms_seg/output/half.py", "--csv", str(tmp_path / "left.csv"), "--timeout", "600"]
    # In a process that knows no other balms_seg yet, as the command's is.
    started = "import sys, pathlib, mutants; "
    call = "mutants.main(mutants.parse_arguments(sys.argv[2:]), pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", started + call, str(tmp_path), *words]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(TOOLS)}, timeout=250)
    with (tmp_path / "left.csv").open(newline="") as file:
        survivors = list(csv.DictReader(file))
    assert {int(one["line"]) for one in survivors} == {4, 6}  # the default, and what is below 0
    assert len(survivors) == 3
