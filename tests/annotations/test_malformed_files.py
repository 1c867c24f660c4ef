"""Files that are no annotations: absent, cut short, malformed, of ids that lead nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_sets import annotation, changed, lvis_style

from balms_seg.annotations import AnnotationError, read_annotations
from balms_seg.annotations.json_file import read_json


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def error_of(tmp_path: Path, content: object) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(write(tmp_path, content))
    assert str(tmp_path / "annotations.json") in str(caught.value)
    return str(caught.value)


def test_missing_json_says_what_exists_instead(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"at .*/gone\.json.*json files.*other\.json"):
        read_annotations(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} exists, the rest"):
        read_annotations(tmp_path / "no" / "such" / "gone.json")


def test_folder_instead_of_json(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="is a folder"):
        read_annotations(tmp_path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_truncated_json_is_called_cut_short(tmp_path: Path, keep: float) -> None:
    text = json.dumps(lvis_style())
    assert "is cut short" in error_of(tmp_path, text[: int(keep * len(text))])


def test_truncated_json_with_a_closing_brace_at_the_cut(tmp_path: Path) -> None:
    text = json.dumps(lvis_style())
    assert "is cut short" in error_of(tmp_path, text[: text.index("}") + 1])


@pytest.mark.parametrize("depth", [980, 5_000])
@pytest.mark.parametrize("field", ["area", "bbox", "segmentation", "unknown"])
def test_what_is_nested_too_deep_is_said(tmp_path: Path, depth: int, field: str) -> None:
    """Each decoder has a depth of its own at which it gives up."""
    text = json.dumps(lvis_style())
    where = text.index('"annotations": [{') + len('"annotations": [{')
    deep = f'"{field}": {"[" * depth}{"]" * depth}, '
    error_of(tmp_path, text[:where] + deep + text[where:])


def test_what_follows_the_json_is_not_called_a_cut(tmp_path: Path) -> None:
    message = error_of(tmp_path, json.dumps(lvis_style()) + "\n\0")
    assert "Extra data" in message
    assert "cut short" not in message


def test_malformed_json_names_the_place(tmp_path: Path) -> None:
    text = json.dumps(lvis_style(), indent=1).replace('"width": 20', '"width" 20', 1)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if '"width" 20' in row)
    message = error_of(tmp_path, text)
    byte = text.index('"width" 20') + len('"width" ')
    assert f"is not valid json at byte {byte} of {len(text)} (line {line}, column" in message
    assert "Expecting ':' delimiter" in message
    assert "cut short" not in message


def test_empty_json(tmp_path: Path) -> None:
    assert "is empty" in error_of(tmp_path, " \n")


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\0", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0"])
def test_compressed_json(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(start)
    with pytest.raises(AnnotationError, match="is compressed; unpack it"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'_BASE_: "base.yaml"\nMODEL:\n', "begins with '_BASE_: \"base.yaml\"' and not with {"),
        (b"class,AP\nant,1\n", "begins with 'class,AP' .* name the json file"),
        (b"1,2\n", "begins with '1,2' "),
        (b"\n<!DOCTYPE html>\n<html>", "begins with '<!DOCTYPE html>' .*a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("\N{NO-BREAK SPACE}".encode(), "begins with ''"),
        (b"\x89PNG\r\n\x1a\n\0", "it is no text"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "it is no text"),
    ],
)
def test_what_is_no_json_at_all_is_not_called_a_cut(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(raw)
    for read, error in ((read_annotations, AnnotationError), (read_json, ValueError)):
        with pytest.raises(error, match=rf"annotations\.json is no json: .*{said}") as caught:
            read(path)
        assert "cut short" not in str(caught.value)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(b'{"images": "\xff\xfe\xff"}')
    with pytest.raises(AnnotationError, match="not UTF-8 text: byte 12"):
        read_annotations(path)


def test_list_of_results(tmp_path: Path) -> None:
    assert "holds a list" in error_of(tmp_path, [{"image_id": 1}])


@pytest.mark.parametrize("section", ["images", "categories"])
def test_json_without_a_section(tmp_path: Path, section: str) -> None:
    content = lvis_style()
    del content[section]
    assert f"has no list named {section};" in error_of(tmp_path, content)


def test_json_without_any_category(tmp_path: Path) -> None:
    assert "list of categories" in error_of(tmp_path, {**lvis_style(), "categories": []})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image_id": 77}, "1 annotation in .* image_id .* images: 2 .image_id 77"),
        ({"category_id": 5}, "1 annotation in .* category_id .* categories: 2 .category_id 5"),
    ],
)
def test_annotation_of_something_unknown(tmp_path: Path, fields: dict, expected: str) -> None:
    import re

    message = error_of(tmp_path, changed(lvis_style(), "annotations", 1, **fields))
    assert re.search(expected, message)


def test_only_the_first_of_many_unknown_are_named(tmp_path: Path) -> None:
    content = lvis_style()
    content["annotations"] = [annotation(i, 99, 3) for i in range(8)]
    message = error_of(tmp_path, content)
    assert message.startswith("8 annotations")
    assert message.endswith("4 (image_id 99) and 3 more.")


@pytest.mark.parametrize(
    ("section", "kind"),
    [("images", "image"), ("categories", "category"), ("annotations", "annotation")],
)
def test_duplicate_ids(tmp_path: Path, section: str, kind: str) -> None:
    content = lvis_style()
    content[section].append(dict(content[section][0]))
    message = error_of(tmp_path, content)
    assert f"uses 1 {kind} id more than once: {content[section][0]['id']}." in message


@pytest.mark.parametrize("section", ["images", "categories", "annotations"])
@pytest.mark.parametrize("value", [7.5, [7], True, 2**63, -(2**80), {"$oid": "7"}])
def test_id_that_is_none(tmp_path: Path, section: str, value: object) -> None:
    message = error_of(tmp_path, changed(lvis_style(), section, 0, id=value))
    assert f"has id {value!r}; expected an integer of at most 64 bits, or text." in message


def test_reference_that_is_a_list(tmp_path: Path) -> None:
    content = changed(lvis_style(), "annotations", 1, image_id=[10])
    assert "Annotation 2 in" in error_of(tmp_path, content)
    assert "has image_id [10]; expected an integer" in error_of(tmp_path, content)


@pytest.mark.parametrize(
    ("section", "field", "noun"),
    [
        ("images", "id", "image"),
        ("categories", "id", "category"),
        ("annotations", "category_id", "annotation"),
        ("annotations", "image_id", "annotation"),
    ],
)
def test_entry_without_a_field(tmp_path: Path, section: str, field: str, noun: str) -> None:
    content = changed(lvis_style(), section, 1, **{field: None})
    message = error_of(tmp_path, content)
    assert message.startswith(f"1 {noun} in")
    assert f"without {field!r} (positions in the list: 1)" in message


def test_box_of_another_length(tmp_path: Path) -> None:
    content = changed(lvis_style(), "annotations", 0, bbox=[1.0, 2.0])
    assert "Annotation 1 of image 10" in error_of(tmp_path, content)


def test_unknown_frequency(tmp_path: Path) -> None:
    content = changed(lvis_style(), "categories", 0, frequency="x")
    assert "frequency x; expected 'r', 'c' or 'f'" in error_of(tmp_path, content)


def test_garbage_collection_is_on_afterwards_even_after_an_error(tmp_path: Path) -> None:
    import gc

    read_annotations(write(tmp_path, lvis_style()))
    assert gc.isenabled()
    with pytest.raises(AnnotationError):
        read_annotations(write(tmp_path, []))
    assert gc.isenabled()
