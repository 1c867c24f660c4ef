"""Headers of all images: what they say, what they cost the second time, and what is made of it."""

from __future__ import annotations

import logging
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from balms_seg.data.preflight import image_headers
from balms_seg.data.preflight.header_checks import image_problems
from balms_seg.data.preflight.image_headers import read_headers

NUM_IMAGES = 100  # more than are decoded
SIZE = (20, 16)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [str(tmp_path / f"{i}.jpg") for i in range(NUM_IMAGES)]
    for path in paths:
        Image.new("RGB", SIZE, (90, 120, 30)).save(path)
    return paths


def turn(path: str, orientation: int, size: tuple[int, int] = SIZE) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif.tobytes())


def problems_of(images: list[str]) -> list[str]:
    return list(image_problems(images, name="mine", sizes=[SIZE] * len(images)))


def test_what_was_read_is_not_read_again(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_headers(images)
    read = []
    monkeypatch.setattr(image_headers, "read_header", lambda path: read.append(path) or first[0])
    assert read_headers(images) == first
    assert read == []
    turn(images[3], 6)
    os.utime(images[4], ns=(time.time_ns(), time.time_ns()))
    read_headers(images)
    assert sorted(read) == sorted(images[3:5])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_cut_short_is_found_wherever_it_lies(
    suffix: str, images: list[str], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = tmp_path / f"whole{suffix}"
    Image.fromarray(pixels).save(whole)
    content = whole.read_bytes()
    variants = {
        "cut": content[: len(content) // 2],
        "no_end_mark": content[:-2] if suffix == ".jpg" else content[:-12],
        "something_behind": content + b"behind" * 100,
    }
    paths = []
    for name, text in variants.items():
        paths.append(str(tmp_path / f"{name}{suffix}"))
        Path(paths[-1]).write_bytes(text)
    with_pixels = [*images[:50], *paths, *images[50:]]
    problems = list(image_problems(with_pixels, name="mine"))
    decodes = {path: is_decoded(path) for path in paths}
    assert not decodes[paths[0]]
    assert decodes[paths[2]]
    broken = [path for path, whole in decodes.items() if not whole]
    assert problems[0].startswith(f"{len(broken)} of {len(with_pixels)} images cannot be used")
    assert all(path in problems[0] for path in broken)


def is_decoded(path: str) -> bool:
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"no table", b"\x93NUMPY\x01\x00"])
def test_a_damaged_cache_is_read_anew(
    content: bytes, images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read_headers(images)
    (path,) = (tmp_path / "cache" / "balms_seg").iterdir()
    path.write_bytes(content)
    assert read_headers(images) == first
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert read_headers(images) == first
    assert not caplog.text


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert read_headers(images, tmp_path / "file") == read_headers(images)
    assert "cannot be kept" in caplog.text


def test_members_of_archives_have_headers(images: list[str], tmp_path: Path) -> None:
    turn(images[1], 8)
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in images[:2]:
            file.write(path, Path(path).name)
    assert read_headers([f"{archive}/0.jpg", f"{archive}/1.jpg"]) == read_headers(images[:2])


def test_a_photograph_turned_by_exif_is_named_wherever_it_lies(images: list[str]) -> None:
    """The json has the size of the stored pixels."""
    turn(images[41], 6)
    (problem,) = problems_of(images)
    assert "1 of 100 images has another size than the json says" in problem
    assert (
        "41.jpg has 16 x 20 pixels (turned by EXIF orientation 6), the json says 20 x 1" in problem
    )
    assert "remove the EXIF orientation" in problem


def test_a_json_of_upright_pictures_is_in_order(
    images: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    turn(images[41], 6, SIZE[::-1])
    assert problems_of(images) == []
    assert not caplog.text


@pytest.mark.parametrize(("orientation", "size"), [(3, SIZE), (6, (16, 16))])
def test_a_turn_that_leaves_the_size_is_said(
    orientation: int, size: tuple[int, int], images: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    turn(images[41], orientation, size)
    sizes = [SIZE if place != 41 else size for place in range(NUM_IMAGES)]
    assert list(image_problems(images, name="mine", sizes=sizes)) == []
    assert "Data set 'mine': 1 of 100 images is turned by EXIF" in caplog.text


def test_every_file_that_is_no_image_is_found(images: list[str]) -> None:
    for place in (7, 50, 51, 97):
        Path(images[place]).write_text("<html>404</html>")
    (problem,) = problems_of(images)
    assert all(f"Cannot read {images[place]}: it is" in problem for place in (7, 50, 51))
    assert problem.startswith("4 of 100 images cannot be used: ")
    assert problem.endswith(" and 1 more.")


def test_a_damaged_picture_of_the_sample_is_found(images: list[str]) -> None:
    for path in images:
        Image.effect_noise(SIZE, 99).save(path, "PNG")
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[:100] + b"damaged" + content[107:])
    assert len(problems_of(images)) == 32
    assert "0.jpg: " in problems_of(images)[0]


def test_12_bits_in_16_are_pointed_out(images: list[str], caplog: pytest.LogCaptureFixture) -> None:
    path = images[0].replace("jpg", "png")
    Image.fromarray(np.array([[5, 4090]], np.uint16)).save(path)
    assert list(image_problems([path], name="mine")) == []
    assert "lie from 5 to 4090, less than a quarter of 0 to 65535" in caplog.text
    assert "set INPUT.PIXEL_RANGE to [5, 4090]" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        list(image_problems([path], name="mine", pixel_range=(0, 4095)))
    assert not caplog.text


def test_transparency_is_said_once_with_its_number(
    images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(40)]
    for path in paths:
        Image.new("RGBA", SIZE).save(path)
    for _ in range(2):  # a run may look at a set more than once
        assert list(image_problems([*images, *paths], name="mine")) == []
    assert len(caplog.records) == 1
    assert "40 of 140 images may have transparent pixels, which are laid on white" in caplog.text
