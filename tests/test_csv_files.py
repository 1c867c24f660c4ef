"""Every csv of ours is utf-8 text whose lines end in a newline alone."""

import ast
from pathlib import Path

from balms_seg.csv_files import csv_file

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*(ROOT / "balms_seg").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]


def test_lines_end_in_a_newline_alone(tmp_path: Path) -> None:
    with csv_file(tmp_path / "table.csv") as writer:
        writer.writerow(["name", "n"])
        writer.writerows([["a, b", 1], ["é", None]])
    assert (tmp_path / "table.csv").read_bytes() == 'name,n\n"a, b",1\né,\n'.encode()


def test_no_writer_is_left_to_end_lines_as_on_windows() -> None:
    writers = {
        f"{path.relative_to(ROOT)}:{node.lineno}": {word.arg for word in node.keywords}
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("csv.writer", "csv.DictWriter")
    }
    assert writers
    assert [place for place, words in writers.items() if "lineterminator" not in words] == []


def test_committed_tables_end_lines_so() -> None:
    tables = list((ROOT / "docs" / "results").glob("*.csv"))
    assert tables
    assert [path.name for path in tables if b"\r" in path.read_bytes()] == []
