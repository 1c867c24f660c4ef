"""One way from an image file to pixels: for training, evaluation, demo and pictures alike.

A model sees in use what it was trained on: EXIF turns are applied, transparency is laid on
`BACKDROP`, and 1-bit, 16-bit and float images are scaled to 8 bits instead of being clipped. What
is no regular file, or has more than `MAX_PIXELS`, is refused before a pixel is decoded, so that
decoding takes at most 3 GiB.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

MAX_PIXELS = 1 << 27  # a phone's 108 million fit; below the 179 million that Pillow refuses itself
#: Formats that are read. Pillow knows more, some of which start other programs.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000"),
    *("PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
#: RGB of what lies behind transparent pixels.
BACKDROP = (255, 255, 255)
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FLOAT_BOUNDS = (0.0, 1.0)
# Low instead of high bytes of 16-bit colours; Pillow hands out one byte of the two.
_OTHER_BYTE = {
    f"{name};{order}": f"{name};{other}"
    for name in ("RGB", "RGBA")
    for order, other in (("16B", "16L"), ("16L", "16B"), ("16N", "16B"))
}
# Of grey with alpha there is no such mode: all four bytes of a pixel are taken for channels.
_GREY_WITH_ALPHA = "LA;16B"
_OTHER_BYTE[_GREY_WITH_ALPHA] = "RGBA"
_LOW_BYTES_OF_GREY = [1, 1, 1, 3]


@dataclass(frozen=True)
class ImageHeader:
    """What the head of an image file says.

    Attributes:
        width: in pixels, as stored.
        height: likewise.
        orientation: EXIF's; 1 where the picture is stored upright.
        mode: Pillow's name of the kind of pixels.
        bits: of a channel, as stored.
        has_transparency: whether pixels may be transparent.
    """

    width: int
    height: int
    orientation: int
    mode: str
    bits: int
    has_transparency: bool

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the upright picture."""
        is_lying = self.orientation >= 5
        return (self.height, self.width) if is_lying else (self.width, self.height)


def read_header(source: str | bytes) -> ImageHeader:
    """The header of an image, without decoding it.

    Args:
        source: path of the file, or its content.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is no regular file, no image of `FORMATS`, or has more than `MAX_PIXELS`.
    """
    with _opened(source) as image:
        return ImageHeader(
            *image.size,
            mode=image.mode,
            bits=_bits(image),
            has_transparency=image.has_transparency_data,
            orientation=_orientation(image),  # last, as it may decode the image
        )


def decode_image(
    source: str | bytes, image_format: str = "RGB", *, pixel_range: Sequence[float] = ()
) -> np.ndarray:
    """Decode an image, upright.

    Args:
        source: path of the file, or its content.
        image_format: as detectron2's INPUT.FORMAT: "RGB", "BGR", "L" or "YUV-BT.601".
        pixel_range: values of 16-bit and float images that become 0 and 255, with those beyond
            taken as these; empty takes the range of the type (0 to 1 for floats).

    Returns:
        (H, W, C) uint8; float for "YUV-BT.601".

    Raises:
        FileNotFoundError: there is no such file.
        OSError: as for `read_header`, or the image is damaged.
    """
    with _opened(source) as image:
        pixels = _in_8_bits(source, image, pixel_range)
        turn = _TURNS.get(_orientation(image))
    return _in_format(pixels if turn is None else pixels.transpose(turn), image_format)


@dataclass(frozen=True)
class UsedRange:
    """Values in an image of more than 8 bits.

    Attributes:
        lowest: in the image.
        highest: in the image.
        bounds: lowest and highest value that its type can have; 0 and 1 for floats.
    """

    lowest: float
    highest: float
    bounds: tuple[float, float]


def used_range(source: str | bytes) -> UsedRange | None:
    """Which values occur in a 16-bit or float image; None for one of at most 8 bits."""
    with _opened(source) as image:
        if not _is_deep(image):
            return None
        stored, bounds = _deep_pixels(source, image)
    values = _without_alpha(stored)
    finite = values[np.isfinite(values)]
    lowest, highest = (finite.min(), finite.max()) if finite.size else bounds
    return UsedRange(float(lowest), float(highest), bounds)


@contextmanager
def _opened(source: str | bytes) -> Iterator[ImageFile.ImageFile]:
    """The image, not yet decoded; whatever goes wrong with it becomes an OSError of its name."""
    try:
        if isinstance(source, str) and not stat.S_ISREG(os.stat(source).st_mode):
            raise OSError("it is no regular file")  # opening a pipe would wait for ever
        file = source if isinstance(source, str) else io.BytesIO(source)
        with Image.open(file, formats=_formats()) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # Pillow raises a dozen kinds
        name = source if isinstance(source, str) else "the image"
        raise OSError(f"Cannot read {name}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or in none of the formats {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS:,} pixels; cut it into tiles or make it smaller"
    return str(error).rstrip(".") or type(error).__name__


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF is optional


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "PNG" and image.tile and not _png_has_exif(image):
        return 1  # to be sure of it, Pillow would decode the image
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises a dozen kinds, and the picture can be read without it
        return 1
    return value if value in _TURNS else 1


def _png_has_exif(image: ImageFile.ImageFile) -> bool:
    """Whether any chunk, also behind the pixels, may say how a PNG is turned."""
    file = image.fp
    assert file is not None  # open until the image is decoded
    place = file.tell()
    file.seek(8)
    has_exif = False
    while not has_exif and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        start = file.read(min(length, 32)) if kind in (b"iTXt", b"tEXt", b"zTXt") else b""
        has_exif = kind == b"eXIf" or start.startswith((b"Raw profile type ", b"XML:com.adobe.xmp"))
        file.seek(length - len(start) + 4, os.SEEK_CUR)
    file.seek(place)
    return has_exif


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How pixels lie in the file, such as "RGB;16B"; known until they are loaded."""
    arguments = image.tile[0][3] if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _bits(image: ImageFile.ImageFile) -> int:
    raw_mode = _raw_mode(image)
    if image.mode == "1":
        return 1
    if ";16" in raw_mode:
        return 16
    if image.mode[0] not in "IF":
        return 8
    return 32 if "32" in raw_mode else 16


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would clip it, or keep one byte of two."""
    return image.mode[0] in "IF" or _raw_mode(image) in _OTHER_BYTE


def _in_8_bits(
    source: str | bytes, image: ImageFile.ImageFile, pixel_range: Sequence[float]
) -> Image.Image:
    """As "L" or "RGB"."""
    if _is_deep(image):
        values, bounds = _deep_pixels(source, image)
        low, high = pixel_range or bounds
        colours = _without_alpha(values).astype(np.float32)
        colours = np.nan_to_num(colours, nan=low, posinf=high, neginf=low)
        scaled = (np.clip(colours, low, high) - low) * (255 / (high - low))
        if _has_alpha(values):
            opacity = values[..., 3:] / bounds[1]
            scaled = opacity * scaled + (1 - opacity) * np.array(BACKDROP)
        return Image.fromarray(np.rint(scaled).astype(np.uint8))
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (*BACKDROP, 255))
        return Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _deep_pixels(
    source: str | bytes, image: ImageFile.ImageFile
) -> tuple[np.ndarray, tuple[float, float]]:
    """Values as stored, (H, W), (H, W, 3) or with alpha (H, W, 4), and the bounds of their type."""
    if image.mode == "F":
        return np.asarray(image), _FLOAT_BOUNDS
    is_signed = _raw_mode(image).endswith("S")
    bounds = np.iinfo(f"{'int' if is_signed else 'uint'}{_bits(image)}")
    values = np.asarray(image)
    if values.ndim == 3:
        values = values * np.uint16(256) + _low_bytes(source)
    return values, (float(bounds.min), float(bounds.max))


def _has_alpha(values: np.ndarray) -> bool:
    return values.ndim == 3 and values.shape[2] == 4


def _without_alpha(values: np.ndarray) -> np.ndarray:
    return values[..., :3] if _has_alpha(values) else values


def _low_bytes(source: str | bytes) -> np.ndarray:
    """(H, W, 3) or (H, W, 4) uint8 of 16-bit colours."""
    with _opened(source) as image:
        is_grey = _raw_mode(image) == _GREY_WITH_ALPHA
        other = _OTHER_BYTE[_raw_mode(image)]
        image.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in image.tile
        ]
        low = np.asarray(image)
        return low[..., _LOW_BYTES_OF_GREY] if is_grey else low


def _in_format(image: Image.Image, image_format: str) -> np.ndarray:
    if image_format in ("RGB", "BGR"):
        pixels = np.asarray(image.convert("RGB"))
        return pixels if image_format == "RGB" else pixels[:, :, ::-1]
    from detectron2.data.detection_utils import convert_PIL_to_numpy

    return convert_PIL_to_numpy(image, image_format)
