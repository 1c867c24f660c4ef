"""What the headers of all images, and the pixels of a few, say against using a set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.data.images.image_files import is_cifar, read_bytes, read_image, split_archive
from balms_seg.data.images.image_records import warn_once
from balms_seg.data.preflight.image_file_checks import is_remote
from balms_seg.data.preflight.image_headers import read_headers
from balms_seg.decoding import ImageHeader, used_range
from balms_seg.wording import agreeing, counted

# Images decoded per data set: about a second, and enough to meet a wrong folder or format.
NUM_DECODED = 32
_NUM_NAMED = 3
_SMALL_SHARE = 0.25  # of the range, below which use of it is worth a warning


def image_problems(
    addresses: Sequence[str],
    *,
    name: str,
    pixel_range: Sequence[float] = (),
    sizes: Sequence[tuple[int | None, int | None]] | None = None,
) -> Iterator[str]:
    """Sentences on images that cannot be used; what is unusual about others is a warning.

    The header of every image is read, and a sample spread over the set is decoded.

    Args:
        addresses: of n images that exist, see `image_files`.
        name: of the data set, for warnings.
        pixel_range: INPUT.PIXEL_RANGE.
        sizes: n pairs (width, height) in pixels, as the annotations say; None, or a None in a pair,
            where nothing does.
    """
    found = _headers(addresses)
    headers = {a: header for a, header in found.items() if isinstance(header, ImageHeader)}
    yield from _unreadable([str(e) for e in found.values() if isinstance(e, OSError)], len(found))
    if sizes is not None:
        yield from _of_another_size(headers, dict(zip(addresses, sizes, strict=True)))
        _warn_of_turns(headers, name)
    _warn_of_transparency(headers, name)
    yield from _undecodable(_spread(list(headers)), pixel_range)
    _warn_of_small_ranges(_spread([a for a in headers if headers[a].bits > 8]), name, pixel_range)


def without_unreadable(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records whose images have a header that can be read; others are named in a warning.

    Images that are not there stay, as these stop a run.

    Args:
        records: of images, with "file_name", an address.

    Raises:
        ValueError: none is left.
    """
    found = _headers([record["file_name"] for record in records])
    broken = {
        address: str(header).rstrip(".")
        for address, header in found.items()
        if isinstance(header, OSError) and not isinstance(header, FileNotFoundError)
    }
    if not broken:
        return list(records)
    named = shortened(list(broken.values()), _NUM_NAMED)
    warn_once(
        f"{len(broken)} of {counted(len(records), 'image')} cannot be read, and "
        f"{agreeing(len(broken), 'is', 'are')} neither trained on nor counted "
        f"(INPUT.IMAGES.UNREADABLE: skip): {named}."
    )
    kept = [record for record in records if record["file_name"] not in broken]
    if not kept:
        raise ValueError(
            f"None of the {counted(len(records), 'training image')} can be read; replace them."
        )
    return kept


def _headers(addresses: Sequence[str]) -> dict[str, ImageHeader | OSError]:
    """Of those that are files or members of archives."""
    in_files = [address for address in addresses if not (is_cifar(address) or is_remote(address))]
    return dict(zip(in_files, read_headers(in_files), strict=True))


def _spread(addresses: list[str]) -> list[str]:
    """At most `NUM_DECODED` of them, from all over the list."""
    step = max(1, len(addresses) / NUM_DECODED)
    return [addresses[int(i * step)] for i in range(min(NUM_DECODED, len(addresses)))]


def _unreadable(reasons: Sequence[str], number: int) -> Iterator[str]:
    if reasons:
        named = shortened([reason.rstrip(".") for reason in reasons], _NUM_NAMED)
        yield f"{len(reasons)} of {counted(number, 'image')} cannot be used: {named}."


def _of_another_size(
    headers: Mapping[str, ImageHeader], expected: Mapping[str, tuple[int | None, int | None]]
) -> Iterator[str]:
    for is_turned, advice in (
        (False, "correct width and height in the json, or put the images there that it is of."),
        (
            True,
            "their pixels are stored lying and EXIF has them turned, as every program shows them. "
            "If the annotations are of the stored pixels, remove the EXIF orientation; if they "
            "are of the upright picture, correct width and height in the json.",
        ),
    ):
        wrong = [
            f"{address} has {_size(header.shown_size)} pixels{_turn(header)}, the json says "
            f"{_size(expected[address])}"
            for address, header in headers.items()
            if (header.orientation >= 5) == is_turned
            and None not in expected[address]
            and header.shown_size != expected[address]
        ]
        if wrong:
            yield (
                f"{len(wrong)} of {counted(len(headers), 'image')} "
                f"{agreeing(len(wrong), 'has', 'have')} another size than the json says: "
                f"{shortened(wrong, _NUM_NAMED)}; {advice}"
            )


def _size(size: tuple[int | None, int | None]) -> str:
    return f"{size[0]} x {size[1]}"


def _turn(header: ImageHeader) -> str:
    return f" (turned by EXIF orientation {header.orientation})" if header.orientation > 1 else ""


def _warn_of_turns(headers: Mapping[str, ImageHeader], name: str) -> None:
    """Of those whose size does not tell whether the annotations are of the upright picture."""
    turned = [
        address
        for address, header in headers.items()
        if header.orientation > 1 and (header.orientation < 5 or header.width == header.height)
    ]
    if turned:
        warn_once(
            f"Data set {name!r}: {len(turned)} of {counted(len(headers), 'image')} "
            f"{agreeing(len(turned), 'is', 'are')} turned by EXIF, and read upright; annotations "
            f"have to be of the upright pictures: {shortened(turned, _NUM_NAMED)}."
        )


def _warn_of_transparency(headers: Mapping[str, ImageHeader], name: str) -> None:
    clear = [address for address, header in headers.items() if header.has_transparency]
    if clear:
        warn_once(
            f"Data set {name!r}: {len(clear)} of {counted(len(headers), 'image')} may have "
            f"transparent pixels, which are laid on white: {shortened(clear, _NUM_NAMED)}."
        )


def _undecodable(sample: Sequence[str], pixel_range: Sequence[float]) -> Iterator[str]:
    for address in sample:
        try:
            read_image(address, pixel_range=pixel_range)
        except (OSError, ValueError) as error:
            yield str(error)


def _warn_of_small_ranges(sample: Sequence[str], name: str, pixel_range: Sequence[float]) -> None:
    """Say which range the images of more than 8 bits use, where it is a small part of theirs."""
    seen = [
        used_range(address if split_archive(address) is None else read_bytes(address))
        for address in sample
    ]
    for bounds in dict.fromkeys(one.bounds for one in seen if one is not None):
        of_type = [one for one in seen if one is not None and one.bounds == bounds]
        lowest = min(one.lowest for one in of_type)
        highest = max(one.highest for one in of_type)
        low, high = pixel_range or bounds
        if min(highest, high) - max(lowest, low) < _SMALL_SHARE * (high - low):
            warn_once(
                f"Data set {name!r}: values of {counted(len(of_type), 'image')} of more than 8 "
                f"bits lie from {lowest:g} to {highest:g}, less than a quarter of {low:g} to "
                f"{high:g}, by which they are scaled, so that they are nearly uniform; if that is "
                f"all they use, set INPUT.PIXEL_RANGE to [{lowest:g}, {highest:g}]."
            )
