"""Image sets as list files: a path and a label in each line."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from balms_seg.annotations import shortened
from balms_seg.annotations.class_limits import check_class_names, check_num_classes
from balms_seg.data.images.image_files import decode_text, read_bytes
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.wording import agreeing, counted

_CLASSES = "# classes:"
_NUMBER = re.compile(r"-?\d+")


class _Entry(NamedTuple):
    line: int
    path: str
    label: str
    by_name: bool  # whether the form allows names of classes as labels


def read_list(list_file: str, root: str) -> ImageRecords:
    """Read lines "path label", with numbers from 0 as labels; or "path<TAB>class", with names.

    A file `.csv` has the columns path and class (or number), with or without a head. A line
    `# classes: ["red fox", "cat"]` names the classes in their order; names without spaces may
    stand there without brackets and quotes.

    Args:
        list_file: address of the list; UTF-8 or, with a byte order mark, UTF-16.
        root: the folder or zip that the paths are relative to; "" for the list's own folder.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line cannot be read, no image is listed, a label is no class, or an image has
            two labels.
    """
    text = decode_text(read_bytes(list_file), list_file)
    class_names = _named_classes(text, list_file)
    entries, wrong = _parse(text, is_csv=list_file.lower().endswith(".csv"))
    if wrong:
        raise ValueError(
            f"Expected 'path label' in each line of {list_file}, a number from 0 as label (or a "
            f"tab and the class's name), but {counted(len(wrong), 'line')} "
            f"{agreeing(len(wrong), 'differs', 'differ')}: {shortened(wrong, 3)}."
        )
    if not entries:
        raise ValueError(f"{list_file} lists no image.")
    labels, names = _labels(entries, class_names, list_file)
    root = root or os.path.dirname(list_file)
    records: dict[str, dict] = {}
    disputed, num_repeated = [], 0
    for entry, label in zip(entries, labels, strict=True):
        first = records.get(entry.path)
        if first is None:
            address = entry.path if os.path.isabs(entry.path) else f"{root}/{entry.path}"
            records[entry.path] = {"file_name": address, "key": entry.path, "label": label}
        elif first["label"] == label:
            num_repeated += 1
        else:
            disputed.append(f"{entry.path} ({names[first['label']]} and {names[label]})")
    if disputed:
        raise ValueError(
            f"{counted(len(disputed), 'image')} of {list_file} "
            f"{agreeing(len(disputed), 'has', 'have')} two labels: {shortened(disputed, 3)}; leave "
            "one line for each."
        )
    repeat = agreeing(num_repeated, "repeats an image and is", "repeat an image and are")
    notes = (f"{counted(num_repeated, 'line')} {repeat} left out.",) if num_repeated else ()
    is_named = class_names is not None or _names_its_labels(entries)
    return ImageRecords(list(records.values()), names, is_named, notes)


def format_classes(class_names: Sequence[str]) -> str:
    """The line of a list file that names the classes."""
    return f"{_CLASSES} {json.dumps(list(class_names), ensure_ascii=False)}"


def _named_classes(text: str, list_file: str) -> tuple[str, ...] | None:
    line = next((one for one in text.splitlines() if one.strip().startswith(_CLASSES)), None)
    if line is None:
        return None
    names = line.strip().removeprefix(_CLASSES).strip()
    if not names.startswith("["):
        return tuple(names.split())
    try:
        read = json.loads(names)
    except ValueError as error:
        raise ValueError(
            f'Expected a list of names, {_CLASSES} ["red fox", "cat"], in {list_file}, but it '
            f"cannot be read ({error})."
        ) from error
    return tuple(map(str, read))


def _parse(text: str, *, is_csv: bool) -> tuple[list[_Entry], list[str]]:
    entries: list[_Entry] = []
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        path, label, by_name = _split(stripped, is_csv)
        if is_csv and not entries and not wrong and not os.path.splitext(path)[1]:
            continue  # the head
        if path and label and (by_name or _NUMBER.fullmatch(label)):
            entries.append(_Entry(number, _with_slashes(path), label, by_name))
        else:
            wrong.append(f"line {number}: {stripped[:60]!r}")
    return entries, wrong


def _split(line: str, is_csv: bool) -> tuple[str, str, bool]:
    """Path, label, and whether the label may be a name."""
    if is_csv:
        cells = next(csv.reader([line]))
        return (cells[0].strip(), cells[1].strip(), True) if len(cells) > 1 else (line, "", True)
    separator = "\t" if "\t" in line else " "
    path, _, label = line.rpartition(separator)
    return path.strip(), label.strip(), separator == "\t"


def _with_slashes(path: str) -> str:
    if "\\" in path and "/" not in path:  # written on Windows
        path = path.replace("\\", "/")
    return path.removeprefix("./")


def _labels(
    entries: Sequence[_Entry], class_names: tuple[str, ...] | None, list_file: str
) -> tuple[list[int], tuple[str, ...]]:
    """Label of each entry, and the classes."""
    if not _names_its_labels(entries):
        numbers = [int(entry.label) for entry in entries]
        check_num_classes(max(numbers) + 1, list_file)
        names = class_names or tuple(map(str, range(max(numbers) + 1)))
        for number, entry in zip(numbers, entries, strict=True):
            if not 0 <= number < len(names):
                raise ValueError(
                    f"Expected labels from 0 to {len(names) - 1} in {list_file}, but got label "
                    f"{number} of {entry.path} in line {entry.line}; labels count the "
                    f"{len(names)} classes from 0."
                )
        return numbers, names
    used = tuple(sorted({entry.label for entry in entries}))
    check_class_names(used, list_file)
    names = class_names or used
    number_of = {name: number for number, name in enumerate(names)}
    unknown = [entry for entry in entries if entry.label not in number_of]
    if unknown:
        raise ValueError(
            f"{list_file} names classes that its line '{_CLASSES}' lacks: "
            f"{shortened(sorted({entry.label for entry in unknown}))}."
        )
    return [number_of[entry.label] for entry in entries], names


def _names_its_labels(entries: Sequence[_Entry]) -> bool:
    """Whether labels are names of classes, not numbers."""
    return any(entry.by_name and not _NUMBER.fullmatch(entry.label) for entry in entries)
