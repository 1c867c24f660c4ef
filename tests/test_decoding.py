"""One decoder: upright, nothing clipped, and nothing that is not an image waited for."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from balms_seg.decoding import MAX_PIXELS, UsedRange, decode_image, read_header, used_range

COLOURS = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)


def encoded(image: Image.Image, suffix: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(COLOURS), exif=exif.tobytes())


def png_of(pixels: np.ndarray, *, behind: bytes = b"") -> bytes:
    """A PNG of 16-bit pixels (H, W, C), which Pillow cannot write; `behind` are further chunks."""
    height, width, num_channels = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[num_channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(lines))
    start = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    return start + behind + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_equals_detectron2_on_a_photograph(tmp_path: Path) -> None:
    detection_utils = pytest.importorskip("detectron2.data.detection_utils")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = str(tmp_path / "photo.jpg")
    Image.fromarray(COLOURS).resize((40, 24)).save(path, exif=exif.tobytes())
    for image_format in ("RGB", "BGR", "L", "YUV-BT.601"):
        expected = detection_utils.read_image(path, image_format)
        np.testing.assert_array_equal(decode_image(path, image_format), expected)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (4, COLOURS[::-1]),
        (5, COLOURS.transpose(1, 0, 2)),
        (6, np.rot90(COLOURS, -1)),
        (7, np.rot90(COLOURS.transpose(1, 0, 2), 2)),
        (8, np.rot90(COLOURS)),
        (9, COLOURS),  # no such orientation
    ],
)
def test_exif_turns_are_applied_and_said(orientation: int, upright: np.ndarray) -> None:
    content = turned(orientation)
    np.testing.assert_array_equal(decode_image(content), upright)
    header = read_header(content)
    assert header.orientation == (orientation if orientation < 9 else 1)
    assert (header.width, header.height) == (5, 3)
    assert header.shown_size == (upright.shape[1], upright.shape[0])


def test_exif_behind_the_pixels_of_a_png_is_found() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = COLOURS.astype(np.uint16) * 257
    late = chunk(b"tEXt", b"Comment\0" + b"x" * 100) + chunk(b"eXIf", exif.tobytes()[6:])
    assert read_header(png_of(deep, behind=late)).orientation == 6
    np.testing.assert_array_equal(decode_image(png_of(deep, behind=late)), np.rot90(COLOURS, -1))


@pytest.mark.parametrize(
    ("values", "suffix", "bits"),
    [
        (np.array([[0, 65535, 32768, 257]], np.uint16), "PNG", 16),
        (np.array([[0, 65535, 32768, 257]], np.uint16), "TIFF", 16),
        (np.array([[0, 1, 0.5, 1 / 255]], np.float32), "TIFF", 32),
        (np.array([[-(2**31), 2**31 - 1, 0, -(2**31) + 2**24]], np.int32), "TIFF", 32),
    ],
)
def test_deep_pixels_are_scaled_by_the_range_of_their_type(
    values: np.ndarray, suffix: str, bits: int
) -> None:
    content = encoded(Image.fromarray(values), suffix)
    grey = decode_image(content)
    np.testing.assert_array_equal(grey, np.repeat([[[0], [255], [128], [1]]], 3, axis=2))
    assert read_header(content).bits == bits


def test_one_bit_is_black_and_white() -> None:
    content = encoded(Image.fromarray(np.array([[False, True]])))
    assert read_header(content).bits == 1
    np.testing.assert_array_equal(decode_image(content)[..., 0], [[0, 255]])


def test_pixel_range_says_what_becomes_black_and_white() -> None:
    values = np.array([[0, 100, 2147, 4194, 60000]], np.uint16)
    content = encoded(Image.fromarray(values))
    grey = decode_image(content, pixel_range=(100, 4195))[..., 0]
    np.testing.assert_array_equal(grey, [[0, 0, 127, 255, 255]])
    content = encoded(Image.fromarray(np.array([[np.nan, -np.inf, np.inf]], np.float32)), "TIFF")
    np.testing.assert_array_equal(decode_image(content)[..., 0], [[0, 0, 255]])


def test_pixel_range_leaves_8_bit_images_alone() -> None:
    content = encoded(Image.fromarray(COLOURS))
    np.testing.assert_array_equal(decode_image(content, pixel_range=(0, 4095)), COLOURS)


def test_both_bytes_of_16_bit_colours_count() -> None:
    values = np.arange(45, dtype=np.uint16).reshape(3, 5, 3) * 93
    grey = decode_image(png_of(values), pixel_range=(0, 4095))
    np.testing.assert_array_equal(grey, np.rint(values * np.float32(255 / 4095)))
    assert used_range(png_of(values)) == UsedRange(0, 4092, (0, 65535))
    assert read_header(png_of(values)).bits == 16


@pytest.mark.parametrize("num_colours", [1, 3])
def test_16_bit_colours_with_alpha_are_scaled_before_they_are_laid_on_white(
    num_colours: int,
) -> None:
    values = np.arange(15 * num_colours).reshape(3, 5, num_colours) * 273 // num_colours
    alpha = np.array([0, 65535, 65535 // 3, 40_000, 255])[None, :, None].repeat(3, axis=0)
    content = png_of(np.concatenate([values, alpha], axis=2).astype(np.uint16))
    share = alpha / 65535
    expected = np.broadcast_to(share * values * 255 / 4095 + (1 - share) * 255, (3, 5, 3))
    got = decode_image(content, pixel_range=(0, 4095)).astype(int)
    assert np.abs(got - expected).max() <= 0.501
    assert used_range(content) == UsedRange(0, values.max(), (0, 65535))
    assert read_header(content).bits == 16


def test_used_range_is_of_deep_images_only() -> None:
    assert used_range(encoded(Image.fromarray(COLOURS))) is None
    content = encoded(Image.fromarray(np.array([[0.25, np.nan]], np.float32)), "TIFF")
    assert used_range(content) == UsedRange(0.25, 0.25, (0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(mode: str) -> None:
    image = Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8)).convert(mode)
    content = encoded(image, "TIFF" if mode == "PA" else "PNG")
    assert read_header(content).has_transparency
    np.testing.assert_array_equal(decode_image(content)[..., 0], [[255, 9]])


def test_a_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    path = str(tmp_path / "photo.jpg")
    os.mkfifo(path)
    for read in (read_header, decode_image):
        with pytest.raises(OSError, match=r"Cannot read .*photo.jpg: it is no regular file\."):
            read(path)


@pytest.mark.parametrize("side", [12_000, 30_000])  # Pillow warns of the first, refuses the second
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    lines = zlib.compress(bytes(side // 8 + 1) * 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    parts = (b"IHDR", head), (b"IDAT", lines), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    for read in (read_header, decode_image):
        with pytest.raises(OSError, match=f"bomb.png: it has more than {MAX_PIXELS:,} pixels"):
            read(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "none of the formats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of the formats"),
        (turned(1)[:70], "truncated|broken|damaged"),
    ],
)
def test_what_is_no_image_is_one_line_with_its_name(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(OSError, match=rf"^Cannot read {path}: .*({reason})"):
        decode_image(str(path))
    with pytest.raises(FileNotFoundError):
        decode_image(str(tmp_path / "gone.png"))
