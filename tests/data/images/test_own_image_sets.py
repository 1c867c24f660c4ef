"""Class folders, zips and lists as people bring them: what is read, left out, and refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from image_sets import picture, write_folders
from PIL import Image

from balms_seg.data.images.class_names import relabel
from balms_seg.data.images.image_files import IMAGE_SUFFIXES, read_bytes, read_image
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.image_split import split_images
from balms_seg.data.images.subset_files import format_list
from balms_seg.decoding import FORMATS

NAMES = ("ape", "bee", "cat")


def keys_of(found: ImageRecords) -> list[str]:
    return [record["key"] for record in found.records]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_folders(tmp_path / "set", (3, 2, 1))
    return tmp_path / "set"


def test_a_class_in_another_suffix_shifts_no_label(folders: Path) -> None:
    picture(1, 0).save(folders / "bee" / "extra.TIF")
    for path in (folders / "ape").iterdir():
        picture(0, 0).save(path.with_suffix(".tiff"))
        path.unlink()
    found = read_image_records(str(folders), "")
    assert found.class_names == NAMES
    assert [record["label"] for record in found.records] == [0, 0, 0, 1, 1, 1, 2]
    assert found.notes == ()


def test_what_is_left_out_is_counted_in_a_line(folders: Path) -> None:
    for name in (".ipynb_checkpoints", "__MACOSX", ".hidden"):
        (folders / name).mkdir()
        picture(0, 0).save(folders / name / "x.png")
    (folders / "ape" / "._000.png").write_bytes(b"")
    (folders / "ape" / "notes.txt").write_text("")
    (folders / "ape" / "layers.xcf").write_bytes(b"")
    picture(0, 0).save(folders / "cover.png")
    (folders / "dog").mkdir()
    found = read_image_records(str(folders), "")
    assert found.class_names == (*NAMES, "dog")
    assert len(found.records) == 6
    assert found.notes == (
        "6 images are read; left out are files: 2 with another suffix (.txt 1, .xcf 1), 1 beside "
        "the class folders, 4 hidden ones.",
        "1 class folder holds no image: dog.",
    )


def test_the_root_itself_is_no_file_that_is_left_out(folders: Path) -> None:
    found = read_image_records(str(folders.parent), folders.name)
    assert len(found.records) == 6
    assert found.notes == ()


def test_links_that_lead_back_end(folders: Path) -> None:
    (folders / "ape" / "again").symlink_to(folders, target_is_directory=True)
    assert len(read_image_records(str(folders), "").records) == 6


@pytest.mark.parametrize("parts", [("train", "test"), ("mine",), ("left", "right")])
def test_a_folder_one_level_too_high_is_named(parts: tuple[str, ...], tmp_path: Path) -> None:
    for part in parts:
        write_folders(tmp_path / part, (2, 1, 1))
    with pytest.raises(ValueError, match=r"one level above the class folders: it holds .*ape, bee"):
        read_image_records(str(tmp_path), "")


def test_classes_may_hold_folders(tmp_path: Path) -> None:
    for folder in ("ape/2019", "ape/2020", "bee/2021"):
        (tmp_path / folder).mkdir(parents=True)
        picture(0, 0).save(tmp_path / folder / "1.png")
    assert keys_of(read_image_records(str(tmp_path), "")) == [
        *("ape/2019/1.png", "ape/2020/1.png", "bee/2021/1.png")
    ]


def test_a_file_names_the_classes_and_their_order(folders: Path) -> None:
    (folders / "red fox").mkdir()
    (folders / "classes.txt").write_text("\ufeffcat\nred fox\nape\nbee\n", encoding="utf-8")
    found = read_image_records(str(folders), "")
    assert found.class_names == ("cat", "red fox", "ape", "bee")
    assert [record["label"] for record in found.records] == [0, 2, 2, 2, 3, 3]
    (folders / "classes.txt").write_text("cat\nape\n")
    with pytest.raises(ValueError, match=r"does not name 1 of the folders that hold images: bee"):
        read_image_records(str(folders), "")


def test_a_zip_of_windows_reads_as_its_folders(folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "SET.ZIP"
    with zipfile.ZipFile(path, "w") as archive:
        for number, file in enumerate(sorted(folders.rglob("*.png"))):
            inside = file.relative_to(folders).as_posix()
            archive.write(file, [f"./{inside}", inside.replace("/", "\\")][number % 2])
        archive.writestr("dog/", b"")
    found = read_image_records(str(path), "")
    assert found.class_names == (*NAMES, "dog")
    assert keys_of(found) == keys_of(read_image_records(str(folders), ""))
    for record in found.records:
        assert (read_image(record["file_name"]) == read_image(str(folders / record["key"]))).all()


def test_a_zip_bomb_is_refused_and_a_large_image_is_not(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ape/bomb.png", b"0" * (17 << 20))
        archive.writestr("ape/large.bmp", bytes(range(256)) * (17 << 12), zipfile.ZIP_STORED)
    with pytest.raises(OSError, match=r"bomb.png in .* unpacks \d+ bytes to 17 MiB, as no image"):
        read_image(f"{tmp_path}/a.zip/ape/bomb.png")
    assert len(read_bytes(f"{tmp_path}/a.zip/ape/large.bmp")) == 17 << 20
    # A header that lies about the size: no more is unpacked than it says.
    content = (tmp_path / "a.zip").read_bytes()
    says = (17 << 20).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content.replace(says, (1 << 10).to_bytes(4, "little")))
    with pytest.raises(OSError, match=r"bomb.png in .*b.zip is damaged"):
        read_image(f"{tmp_path}/b.zip/ape/bomb.png")


def test_an_encrypted_or_huge_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ape/1.png", b"0" * 100)
    monkeypatch.setattr("balms_seg.data.images.image_files._MAX_MEMBER_BYTES", 99)
    with pytest.raises(OSError, match="ape/1.png in .*a.zip unpacks to"):
        read_image(f"{tmp_path}/a.zip/ape/1.png")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the central directory's flags
    (tmp_path / "b.zip").write_bytes(content)
    monkeypatch.undo()
    with pytest.raises(OSError, match="b.zip is encrypted"):
        read_image(f"{tmp_path}/b.zip/ape/1.png")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"0" * 100)] = 0
    (tmp_path / "c.zip").write_bytes(content)
    with pytest.raises(OSError, match="ape/1.png in .*c.zip is damaged"):
        read_image(f"{tmp_path}/c.zip/ape/1.png")


def test_every_suffix_is_of_a_format_that_is_read() -> None:
    Image.init()
    formats = Image.registered_extensions()
    assert {formats[suffix] for suffix in IMAGE_SUFFIXES} <= {*FORMATS}
    of_photographs = {suffix for suffix, name in formats.items() if name in FORMATS}
    rare = {".avifs", ".jpc", ".jpf", ".j2c", ".pfm", ".icb", ".vda", ".vst"}
    assert of_photographs - {*IMAGE_SUFFIXES} <= rare | {".bw", ".rgb", ".rgba"}


CLASSES_LINE = '# classes: ["ape", "red fox", "cat"]'


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["ape/000.png 0", "cat/000.png 2"], "list.txt"),
        (["ape\\000.png 0\r", ".\\cat\\000.png 2\r"], "list.txt"),
        (["ape/000.png\tape", "./cat/000.png\tcat"], "list.txt"),
        (["path,class", "ape/000.png,ape", '"cat/000.png",cat'], "LIST.CSV"),
    ],
    ids=["plain", "windows", "tab", "csv"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_many_programs_say_the_same(
    lines: list[str], name: str, encoding: str, folders: Path
) -> None:
    (folders / name).write_text("\n".join([CLASSES_LINE, *lines]), encoding=encoding)
    found = read_image_records(str(folders / name), "")
    assert found.class_names == ("ape", "red fox", "cat")
    assert found.names_are_known
    assert [(record["key"], record["label"]) for record in found.records] == [
        *(("ape/000.png", 0), ("cat/000.png", 2))
    ]
    assert (read_image(found.records[1]["file_name"]) == read_image(f"{folders}/cat/000.png")).all()


def test_names_in_a_list_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b.png\tred fox\na.png\tape\n")
    found = read_image_records(str(tmp_path / "list.txt"), "")
    assert (found.class_names, found.names_are_known) == (("ape", "red fox"), True)
    assert [record["label"] for record in found.records] == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 0\nb.png 1\na.png 1\n", r"1 image of .* has two labels: a.png \(0 and 1\)"),
        ("# classes: cat\na.png\tdog\n", "names classes that its line '# classes:' lacks: dog"),
        ('# classes: ["cat"\na.png 0\n', "a list of names"),
        ('# classes: ["cat"]\na.png 1\n', r"label 1 of a.png .*1 classes"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_image_records(str(tmp_path / "list.txt"), "")


def test_a_list_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("käfer.png 0\n".encode("latin-1"))
    with pytest.raises(ValueError, match="text in UTF-8 in .*list.txt, but byte 1 is none"):
        read_image_records(str(tmp_path / "list.txt"), "")


def test_a_repeated_line_counts_once(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png 0\na.png 0\nb.png 1\n")
    found = read_image_records(str(tmp_path / "list.txt"), "")
    assert keys_of(found) == ["a.png", "b.png"]
    assert found.notes == ("1 line repeats an image and is left out.",)


def records_of(*labels: int) -> list[dict]:
    return [{"file_name": f"{i}.png", "key": f"{i}.png", "label": n} for i, n in enumerate(labels)]


def test_labels_follow_the_names() -> None:
    found = relabel(records_of(0, 2, 1), ("bee", "zoo", "cat"), ("ape", "cat", "zoo", "bee"))
    assert [record["label"] for record in found] == [3, 1, 2]
    assert relabel(records_of(0), ("bee", "new"), ("ape", "bee"))[0]["label"] == 1


def test_an_unknown_class_is_named_with_what_is_lacking() -> None:
    message = r"1 class that the model does not know: zebra; it lacks apple; rename"
    with pytest.raises(ValueError, match=message):
        relabel(records_of(0, 1), ("cat", "zebra"), ("apple", "cat"))


def test_numbers_count_in_the_classes_of_the_model() -> None:
    given = {"names_are_known": False}
    assert relabel(records_of(0, 2), ("0", "1", "2"), NAMES, **given)[1]["label"] == 2
    with pytest.raises(ValueError, match="1 of 2 labels lies outside 0 to 1, the first is 2 of 1"):
        relabel(records_of(0, 2), ("0", "1", "2"), ("ape", "bee"), **given)


def test_a_split_keeps_every_class_on_both_sides(folders: Path, tmp_path: Path) -> None:
    for number in range(20):
        picture(0, number).save(folders / "ape" / f"more{number}.png")
    whole = read_image_records(str(folders), "")
    train, held = split_images(whole, 0.1, seed=1)
    assert sorted(keys_of(train) + keys_of(held)) == sorted(keys_of(whole))
    counts = [
        [sum(r["label"] == k for r in part.records) for k in range(3)] for part in (train, held)
    ]
    assert counts == [[21, 1, 1], [2, 1, 0]]
    assert keys_of(split_images(whole, 0.1, seed=1)[1]) == keys_of(held)
    assert keys_of(split_images(whole, 0.1, seed=2)[1]) != keys_of(held)
    (tmp_path / "held.txt").write_text(format_list(held))
    again = read_image_records(str(tmp_path / "held.txt"), str(folders))
    assert (keys_of(again), again.class_names) == (keys_of(held), NAMES)


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_split_takes_a_share(share: float, folders: Path) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        split_images(read_image_records(str(folders), ""), share)
