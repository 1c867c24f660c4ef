"""A json list read entry by entry gives what json.loads gives, and its errors."""

import json
from pathlib import Path

import pytest

from balms_seg.annotations import json_list
from balms_seg.annotations.json_list import (
    is_json_list,
    iterate_json_batches,
    iterate_json_list,
)

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


OBJECTS = [
    {"image_id": 1, "segmentation": {"size": [2, 3], "counts": "},{"}, "bbox": [1, 2.5, 3, 4]},
    {"image_id": 2, "attributes": [{"a": 1}, {"b": {"c": '\\"}, {'}}]},
    {"image_id": 3, "text": "ä},\n{"},
    *({"image_id": i, "score": i / 7} for i in range(4, 40)),
]


@pytest.mark.parametrize("batch_bytes", [1, 7, 50, 300, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be"]
)
def test_batches_hold_the_entries_however_the_file_is_cut(
    batch_bytes: int,
    indent: int | None,
    encoding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_list, "BATCH_BYTES", batch_bytes)
    path = tmp_path / "list.json"
    text = json.dumps(OBJECTS, indent=indent, ensure_ascii=False)
    path.write_text("\ufeff" * (encoding == "utf-16-be") + text, encoding=encoding)
    batches = list(iterate_json_batches(path, json.loads))
    assert [entry for batch in batches for entry in batch] == OBJECTS
    if encoding == "utf-8" and batch_bytes == 300:
        assert len(batches) > 3


@pytest.mark.parametrize("batch_bytes", [16, 64, 1 << 20])
def test_batches_have_the_errors_of_entries(
    batch_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "BATCH_BYTES", batch_bytes)
    path = tmp_path / "list.json"
    raw = json.dumps(OBJECTS).encode()
    for end in (b"", b",]", b"] 2", b'"'):
        path.write_bytes(raw[:-1] + end)
        errors = []
        for read in (iterate_json_list, lambda path: iterate_json_batches(path, json.loads)):
            with pytest.raises(ValueError, match="is not valid json at byte") as error:
                list(read(path))
            errors.append(str(error.value))
        assert errors[0] == errors[1]


def test_what_is_nested_too_deep_is_said(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        list(iterate_json_list(path))
