#!/usr/bin/env python3
"""Damages valid annotation and result files, and sees what becomes of reading them.

tools/benchmarks/fuzz_files.py --minutes 30 --output faults

Each mutant is read in a process of its own, with 10 s and 1 GiB. It has to end in one line that
says what is wrong, or in the AP of the file as it was, or in that of lvis-api (of pycocotools for a
file without LVIS's lists) on the same mutant, which runs in a process of its own as well.
Everything else is a fault: a traceback, a signal, no end, too much memory, another AP.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SECONDS = 10
MEMORY_BYTES = 1 << 30
_TOLERANCE = 1e-10
_SIDE = 64
_NASTY: tuple[Any, ...] = (
    *(None, True, False, [], {}, "", "abc", "7", "1.5", "é", [None], [[]], [[[]]], {"a": 1}),
    *(0, -1, 1, 3, 0.5, 1e9, -1e9, 1e308, 2**31, 2**63, 2**70, math.nan, math.inf, -math.inf),
)


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        kind: "annotations" or "results".
        text: of the file.
        content: what it holds; None where the text itself was damaged.
    """

    kind: str
    text: bytes
    content: Any


@dataclass(frozen=True)
class Outcome:
    """What became of reading a file.

    Attributes:
        state: "value", "error" (in one line), or a fault: "traceback", "signal", "hang", "memory".
        value: AP of each task, or what the error says.
    """

    state: str
    value: Any = None


def base_set(*, with_lists: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Four images, three classes, polygons and RLE, and detections that find some of it."""
    import pycocotools.mask as mask_utils

    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    detections = []
    for image_id in range(1, 5):
        for class_id in (1, 2, 3)[: 2 + image_id % 2]:
            x, y, width, height = map(float, [*rng.integers(0, 30, 2), *rng.integers(10, 30, 2)])
            ring = [x, y, x + width, y, x + width, y + height, x, y + height]
            mask = mask_utils.frPyObjects([ring], _SIDE, _SIDE)[0]
            mask = {"size": [_SIDE, _SIDE], "counts": mask["counts"].decode()}
            common = {"image_id": image_id, "category_id": class_id}
            shape = {"bbox": [x, y, width, height], "segmentation": [ring]}
            number = len(annotations) + 1
            if number % 4 == 0:
                shape["segmentation"] = mask
            area = width * height
            annotations.append({"id": number, **common, **shape, "area": area, "iscrowd": 0})
            moved = {"bbox": [x + 1, y, width, height], "segmentation": mask}
            detections.append({**common, **moved, "score": round(float(rng.random()), 3)})
            if number % 3 == 0:
                wrong = {"image_id": image_id, "category_id": 1 + class_id % 2}
                detections.append({**wrong, **moved, "score": 0.4})
    images: list[dict[str, Any]] = [
        {"id": i, "file_name": f"{i}.png", "height": _SIDE, "width": _SIDE} for i in range(1, 5)
    ]
    categories = [{"id": k, "name": f"class {k}", "frequency": "rcf"[k - 1]} for k in (1, 2, 3)]
    if with_lists:
        for image in images:
            image["neg_category_ids"] = [3] if image["id"] % 2 == 0 else []
            image["not_exhaustive_category_ids"] = [1] if image["id"] == 2 else []
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def mutants(kind: str, content: Any, rng: np.random.Generator) -> Iterator[Mutant]:
    """Endlessly many damaged copies."""
    while True:
        changed = copy.deepcopy(content)
        for _ in range(rng.integers(1, 4)):
            _change_value(changed, rng)
        if rng.random() < 0.8:
            yield Mutant(kind, json.dumps(changed).encode("utf-8", "surrogatepass"), changed)
        else:
            yield Mutant(kind, _change_text(json.dumps(content), rng), None)


def _change_value(content: Any, rng: np.random.Generator) -> None:
    """Damage one place of a json, in place."""
    node, steps = content, int(rng.integers(1, 7))
    parent, key = None, None
    for _ in range(steps):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        parent, key = node, keys[rng.integers(len(keys))]
        if not isinstance(parent[key], dict | list):
            break
        node = parent[key]
    if parent is None:
        return
    change = _CHANGES[rng.integers(len(_CHANGES))]
    change(parent, key, rng)


def _delete(parent: Any, key: Any, rng: np.random.Generator) -> None:
    del parent[key]


def _wrap(parent: Any, key: Any, rng: np.random.Generator) -> None:
    parent[key] = [parent[key]]


def _take_from_list(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, list) and value:
        parent[key] = value[rng.integers(len(value))]


def _make_text(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent[key], int | float):
        parent[key] = str(parent[key])


def _change_character(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, str) and value:
        place = int(rng.integers(len(value)))
        parent[key] = value[:place] + chr(int(rng.integers(32, 127))) + value[place + 1 :]


def _cut(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, list | str):
        parent[key] = value[: rng.integers(len(value) + 1)]


def _repeat(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))


def _scale(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent[key], int | float):
        parent[key] = float(parent[key]) * float(rng.choice([-1, 0.001, 2, 1e6]))


def _replace(parent: Any, key: Any, rng: np.random.Generator) -> None:
    parent[key] = copy.deepcopy(_NASTY[rng.integers(len(_NASTY))])


_CHANGES = (
    *(_delete, _wrap, _take_from_list, _make_text, _change_character, _cut, _repeat, _scale),
    *(_replace, _replace),
)


def _change_text(text: str, rng: np.random.Generator) -> bytes:
    """Damage the text of a json."""
    choice = rng.integers(5)
    place = int(rng.integers(len(text)))
    if choice == 0:
        return text[:place].encode()
    if choice == 1:
        return text.encode(rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
    if choice == 2:
        raw = bytearray(text.encode())
        raw[place] = int(rng.integers(256))
        return bytes(raw)
    if choice == 3:
        return (
            text[:place] + rng.choice(["{", "]", ",", '"', "NaN", "\\ud800", "\0"]) + text[place:]
        ).encode()
    return (text + text[place:]).encode()


def in_own_process(work: Callable[[], Any]) -> Outcome:
    """What a function gives, with limits on time and memory."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
        signal.alarm(SECONDS)
        os.write(write_end, json.dumps(_tried(work)).encode()[:60_000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number == signal.SIGALRM else "signal", number)
    return Outcome(*json.loads(answer)) if answer else Outcome("signal", "no answer")


def _tried(work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "value", work()
    except MemoryError as error:
        return "memory", repr(error)
    except (ValueError, OSError) as error:
        is_line = str(error) and type(error) is not UnicodeDecodeError
        return ("error" if is_line else "traceback"), f"{type(error).__name__}: {error}"[:500]
    except BaseException as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{error!r} at {where.filename}:{where.lineno}"[:500]


def read_by_project(annotations: Path, results: Path) -> dict[str, float]:
    """AP of boxes and masks by this project, through all of its readers of these files."""
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.evaluation import evaluate_lvis, load_ground_truth
    from balms_seg.evaluation.predictions.stored_detections import read_stored_detections

    ClassStatistics.from_json(annotations)
    truth = load_ground_truth(annotations)
    stored = read_stored_detections(results, truth)
    return {
        task: evaluate_lvis(truth, stored.of_task(task), task).metrics["AP"]
        for task in ("bbox", "segm")
    }


def read_by_reference(content: dict[str, Any], detections: list[Any]) -> dict[str, float]:
    """The same by lvis-api, or by pycocotools for a file without LVIS's lists.

    Detections without the shape of a task are left out: these two would take the box of the mask,
    if the first detection of the file has none.
    """
    import contextlib
    import io

    if any("neg_category_ids" in image for image in content["images"]):
        from balms_seg.evaluation.lvis.lvis_backend import run_lvis_api

        values = {}
        for task, key in (("bbox", "bbox"), ("segm", "segmentation")):
            fields = ("image_id", "category_id", "score", key)
            found = [{name: one[name] for name in fields} for one in detections if one.get(key)]
            precision, _ = run_lvis_api(copy.deepcopy(content), found, task)
            values[task] = float(np.nanmean(precision[:, :, :, 0]))
        return values
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    values = {}
    for task in ("bbox", "segm"):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(content)
            truth.createIndex()
            key = {"bbox": "bbox", "segm": "segmentation"}[task]
            found = [copy.deepcopy(one) for one in detections if one.get(key)]
            if task == "segm":
                found = [{k: v for k, v in one.items() if k != "bbox"} for one in found]
            evaluation = COCOeval(truth, truth.loadRes(found), task)
            evaluation.params.maxDets = [1, 10, 300]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        values[task] = float(precision[precision > -1].mean())
    return values


class Fuzzer:
    """Reads mutants of one set of files and keeps the faults."""

    def __init__(self, folder: Path, *, with_lists: bool) -> None:
        self.folder = folder
        self.content, self.detections = base_set(with_lists=with_lists)
        self.paths = {
            "annotations": folder / "annotations.json",
            "results": folder / "results.json",
        }
        self._write("annotations", json.dumps(self.content).encode())
        self._write("results", json.dumps(self.detections).encode())
        self._read()  # imports what the children would each import
        first = in_own_process(self._read)
        assert first.state == "value", first
        self.expected = first.value
        self.states: Counter[str] = Counter()

    def check(self, mutant: Mutant) -> str | None:
        """Read a mutant; what is wrong with what became of it, else None."""
        good = {"annotations": self.content, "results": self.detections}
        self._write(mutant.kind, mutant.text)
        outcome = in_own_process(self._read)
        self._write(mutant.kind, json.dumps(good[mutant.kind]).encode())
        fault = None
        if outcome.state == "value" and not _are_equal(outcome.value, self.expected):
            files = {**good, mutant.kind: mutant.content}
            reference = Outcome("unknown")
            if mutant.content is not None:
                reference = in_own_process(
                    lambda: read_by_reference(
                        _meant(files["annotations"]), _meant(files["results"])
                    )
                )
            if reference.state != "value":
                self.states[f"{mutant.kind}: value, the reference fails"] += 1
            elif not _are_equal(outcome.value, reference.value):
                fault = f"AP {outcome.value}, reference {reference.value}"
            else:
                self.states[f"{mutant.kind}: value of the reference"] += 1
        elif outcome.state not in ("value", "error"):
            fault = f"{outcome.state}: {outcome.value}"
        else:
            self.states[f"{mutant.kind}: {outcome.state}"] += 1
        if fault:
            self.states[f"{mutant.kind}: FAULT"] += 1
        return fault

    def _read(self) -> dict[str, float]:
        return read_by_project(self.paths["annotations"], self.paths["results"])

    def _write(self, kind: str, text: bytes) -> None:
        self.paths[kind].write_bytes(text)


def _meant(content: Any) -> Any:
    """The file as it should have been written: ids that are text or floats as integers."""
    if isinstance(content, dict):
        return {
            key: _integer(value) if key in ("id", "image_id", "category_id") else _meant(value)
            for key, value in content.items()
        }
    return [_meant(entry) for entry in content] if isinstance(content, list) else content


def _integer(value: Any) -> Any:
    try:
        return int(float(value)) if float(value).is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return value


def _are_equal(first: dict[str, float], second: dict[str, float]) -> bool:
    return all(
        abs(first[task] - second[task]) <= _TOLERANCE
        or (math.isnan(first[task]) and math.isnan(second[task]))
        for task in first
    )


def run(minutes: float, output: Path, seed: int) -> int:
    """Read mutants for a time; write each fault's file and reason, and return their number."""
    output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    end = time.monotonic() + 60 * minutes
    number = num_faults = 0
    states: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        fuzzers = [
            Fuzzer(_made(Path(folder) / str(lists)), with_lists=lists) for lists in (True, False)
        ]
        streams = [
            (fuzzer, mutants(kind, content, rng))
            for fuzzer in fuzzers
            for kind, content in (
                ("annotations", fuzzer.content),
                ("results", fuzzer.detections),
            )
        ]
        while time.monotonic() < end:
            fuzzer, stream = streams[number % len(streams)]
            mutant = next(stream)
            fault = fuzzer.check(mutant)
            number += 1
            if fault:
                num_faults += 1
                (output / f"{number:06d}_{mutant.kind}.json").write_bytes(mutant.text)
                print(f"{number:06d} {mutant.kind}: {fault}", flush=True)
        for fuzzer in fuzzers:
            states += fuzzer.states
    print(
        f"{number} mutants, {num_faults} faults; "
        + ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
    )
    used = sum(
        resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{used / 60:.1f} minutes of processor time")
    return num_faults


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Run, and end with 1 if there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.exit(min(1, run(args.minutes, args.output, args.seed)))


if __name__ == "__main__":
    main()
