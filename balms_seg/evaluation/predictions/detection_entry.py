"""One detection of a json list, typed where its values allow it."""

from __future__ import annotations

from typing import Any

import msgspec


class DetectionEntry(msgspec.Struct, gc=False):
    """A detection whose values have the types that they should have, as nearly all have."""

    image_id: int | str
    category_id: int | str
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        """A field, as of a dict."""
        return getattr(self, key, default)

    def __repr__(self) -> str:
        """What the file says, for messages."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return repr({name: value for name, value in given.items() if value is not None})


_TYPED = msgspec.json.Decoder(list[DetectionEntry])
_UNTYPED = msgspec.json.Decoder(list)


def decode_detections(text: bytes) -> list[Any]:
    """Entries of a json list: `DetectionEntry` where all can be such, else what they are."""
    try:
        return _TYPED.decode(text)
    except msgspec.ValidationError:
        return _UNTYPED.decode(text)
