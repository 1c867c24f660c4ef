"""Numbers in sentences agree with what they count, and paths lead straight."""

from __future__ import annotations

from pathlib import Path

from balms_seg.wording import agreeing, counted, plain_path


def test_one_thing_is_in_the_singular_and_any_other_number_in_the_plural() -> None:
    numbers = [counted(number, "damaged mask") for number in (0, 1, 2)]
    assert numbers == ["0 damaged masks", "1 damaged mask", "2 damaged masks"]
    nouns = [counted(3, noun) for noun in ("exact copy", "box", "class", "image")]
    assert nouns == ["3 exact copies", "3 boxes", "3 classes", "3 images"]
    assert counted(12345, "object", ",") == "12,345 objects"
    assert [agreeing(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]


def test_a_path_leads_straight_to_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "far" / "run").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "run")
    assert plain_path("output/run/../data.json") == Path("output/data.json")
    assert plain_path(tmp_path / "far" / "run" / ".." / "a") == tmp_path / "far" / "a"
    assert plain_path(tmp_path / "near" / "link" / "a") == tmp_path / "near" / "link" / "a"
    assert plain_path(tmp_path / "near" / "link" / ".." / "a") == tmp_path / "far" / "a"
