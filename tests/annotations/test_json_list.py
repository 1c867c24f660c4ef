"""A json list read entry by entry gives what json.loads gives, and its errors."""

import json
from pathlib import Path

import pytest

from balms_seg.annotations import json_list
from balms_seg.annotations.json_list import is_json_list, iterate_json_list

ENTRIES = [1, -2.5e3, 'ä\n\\u00e9 "quoted"', None, True, [], {}, {"a": [1, {"b": "]"}]}, "x" * 50]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_block_size_gives_the_same_entries(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    monkeypatch.setattr(json_list, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "list.json"
    text = json.dumps(ENTRIES, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text + "\n", encoding="utf-8")
    assert list(iterate_json_list(path)) == ENTRIES


@pytest.mark.parametrize("text", ["[]", " [ ] \n", "[1]", "[ 1 , 2 ]", "[[1], [2]]"])
def test_short_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    assert is_json_list(path)
    assert list(iterate_json_list(path)) == json.loads(text)


@pytest.mark.parametrize("block_bytes", [4, 1 << 20])
def test_every_cut_is_found_with_its_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(json_list, "BLOCK_BYTES", block_bytes)
    raw = json.dumps([{"score": 0.5, "name": "ä"}, {"score": 1}], ensure_ascii=False).encode()
    path = tmp_path / "cut.json"
    for size in range(1, len(raw)):
        path.write_bytes(raw[:size])
        with pytest.raises(ValueError, match=rf"cut\.json is not .* byte \d+ of {size}"):
            list(iterate_json_list(path))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b" \n", r"is empty \(2 bytes\)"),
        (b"\x1f\x8b\x08", "is compressed"),
        (b'{"a": 1}', "Expected a json list"),
        (b"[1] 2", "byte 4 of 5: Extra data"),
        (b"[1, ]", "byte 4 of 5: Illegal trailing comma"),
        (b"[1 2]", "byte 3 of 5: Expecting ','"),
        (b'[1, {"a" 2}' + b" " * 40 + b"]", "byte 9 of 52: Expecting ':' delimiter"),
        (b'[1, "\xff"]', "not UTF-8 text: byte 5 of 8"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        list(iterate_json_list(path))


def test_entries_before_the_fault_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("[1, 2, oh no, and so on for a while]")
    entries = iterate_json_list(path)
    assert [next(entries), next(entries)] == [1, 2]
    with pytest.raises(ValueError, match="byte 7"):
        next(entries)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a json file"):
        next(iterate_json_list(tmp_path / "absent.json"))
