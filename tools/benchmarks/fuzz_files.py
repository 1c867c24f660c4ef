#!/usr/bin/env python3
"""Damages valid annotation and result files, and sees what becomes of reading them.

tools/benchmarks/fuzz_files.py --minutes 30 --output faults

Each mutant is read by every reader of this project, in a process of its own, with 10 s of the
processor and memory in proportion to its size. Each reader has to end in one line that says what is
wrong, or in a value. AP has to be that of the file as it was, or that of lvis-api (of pycocotools
for a file without LVIS's lists) on the same mutant, which runs in a process of its own as well.
Everything else is a fault: a traceback, a signal, no end, too much memory, another AP.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from file_mutants import SIDE_PX, Mutant, base_set, mutants
from file_readers import READERS, Files, meant, read_by_reference
from limited_process import Outcome, in_own_process

#: What reading may take: so many times the files, and so much besides. docs/own_data.md says it.
MEMORY_OVER_FILES = 50
BESIDES_BYTES = 1 << 26
_TOLERANCE = 1e-10


class Fuzzer:
    """Reads mutants of one set of files.

    Attributes:
        content: of the valid annotations.
        detections: of the valid results.
        states: how many mutants ended how, by kind of file and reader.
        slowest: seconds of the mutant that took longest.
        largest: bytes of memory that a mutant added at most.
    """

    def __init__(self, folder: Path, *, with_lists: bool) -> None:
        self.content, self.detections = base_set(with_lists=with_lists)
        self.files = Files(folder / "annotations.json", folder / "results.json", folder / "images")
        self.states: Counter[str] = Counter()
        self.slowest, self.largest = 0.0, 0
        self.files.images.mkdir()
        for image in self.content["images"]:
            pixels = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
            Image.fromarray(pixels).save(self.files.images / image["file_name"])
        self._good = {
            "annotations": json.dumps(self.content).encode(),
            "results": json.dumps(self.detections).encode(),
        }
        for kind, text in self._good.items():
            self._path(kind).write_bytes(text)
        for reader in READERS.values():
            reader(self.files)  # imports what the children would each import
        read_by_reference(self.content, self.detections, ("bbox", "segm"))
        first = self._read(BESIDES_BYTES)
        assert {outcome.state for outcome in first.values()} == {"value"}, first
        self.expected = first["evaluation"].value
        self.expected_boxes = first["boxes"].value

    def check(self, mutant: Mutant) -> str | None:
        """Read a mutant; what is wrong with what became of it, else None."""
        path = self._path(mutant.kind)
        path.write_bytes(mutant.text)
        size = sum(self._path(kind).stat().st_size for kind in self._good)
        outcomes = self._read(BESIDES_BYTES + MEMORY_OVER_FILES * size)
        path.write_bytes(self._good[mutant.kind])
        faults = []
        for reader, outcome in outcomes.items():
            fault, state = self._judge(reader, outcome, mutant)
            self.states[f"{mutant.kind}, {reader}: {'FAULT' if fault else state}"] += 1
            if fault:
                faults.append(f"{reader}: {fault}")
            self.slowest = max(self.slowest, outcome.seconds)
            self.largest = max(self.largest, outcome.added_bytes)
        return "; ".join(faults) or None

    def _judge(self, reader: str, outcome: Outcome, mutant: Mutant) -> tuple[str | None, str]:
        """What is wrong, if anything, and how it ended."""
        if outcome.state not in ("value", "error"):
            return f"{outcome.state}: {outcome.value}", ""
        if outcome.state == "error" or outcome.value is None:
            return None, outcome.state
        tasks: tuple[str, ...] = ("bbox", "segm") if reader == "evaluation" else ("bbox",)
        got = outcome.value if reader == "evaluation" else {"bbox": outcome.value}
        # What is damaged may matter for one task alone, and stand for what it was in the other.
        tasks = tuple(t for t in tasks if not _are_equal({t: got[t]}, self.expected))
        if not tasks:
            return None, "value"
        reference = Outcome("unknown")
        if mutant.content is not None:
            files = {"annotations": self.content, "results": self.detections}
            files[mutant.kind] = mutant.content
            reference = in_own_process(
                {
                    "reference": lambda: read_by_reference(
                        meant(files["annotations"]), meant(files["results"]), tasks
                    )
                },
            )["reference"]
        if reference.state != "value":
            return None, "value, the reference fails"
        if not _are_equal({task: got[task] for task in tasks}, reference.value):
            return f"AP {got}, reference {reference.value}", ""
        return None, "value of the reference"

    def _read(self, memory_bytes: int) -> dict[str, Outcome]:
        work = {name: lambda reader=reader: reader(self.files) for name, reader in READERS.items()}
        return in_own_process(work, memory_bytes=memory_bytes)

    def _path(self, kind: str) -> Path:
        return self.files.annotations if kind == "annotations" else self.files.results


def _are_equal(first: dict[str, float], second: dict[str, float]) -> bool:
    return all(
        abs(first[task] - second[task]) <= _TOLERANCE
        or (math.isnan(first[task]) and math.isnan(second[task]))
        for task in first
    )


def run(minutes: float, output: Path, seed: int) -> dict[str, Any]:
    """Read mutants for a time; write each fault's file and reason, and return what became of all.

    A signal ends it after the mutant in hand.

    Args:
        minutes: of processor time, that of the processes that read included.
        output: folder for the files that faults came with.
        seed: of the mutants.
    """
    output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    num_mutants, faults = 0, []
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
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: stopped.append(number))
        while _processor_minutes() < minutes and not stopped:
            fuzzer, stream = streams[num_mutants % len(streams)]
            mutant = next(stream)
            fault = fuzzer.check(mutant)
            num_mutants += 1
            if fault:
                faults.append(f"{num_mutants:06d} {mutant.kind}: {fault}")
                (output / f"{num_mutants:06d}_{mutant.kind}.json").write_bytes(mutant.text)
                print(faults[-1], flush=True)
    states: Counter[str] = Counter()
    for fuzzer in fuzzers:
        states += fuzzer.states
    return {
        "seed": seed,
        "mutants": num_mutants,
        "faults": faults,
        "processor_minutes": round(_processor_minutes(), 1),
        "slowest_seconds": round(max(fuzzer.slowest for fuzzer in fuzzers), 2),
        "most_memory_mib": max(fuzzer.largest for fuzzer in fuzzers) >> 20,
        "outcomes": dict(sorted(states.items())),
    }


def _processor_minutes() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used) / 60


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Run, print what became of the mutants, and end with 1 if there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="of processor time")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for faults")
    parser.add_argument("--record", type=Path, metavar="JSON", help="write the counts here")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    record = run(args.minutes, args.output, args.seed)
    text = json.dumps(record, indent=2)
    print(text)
    if args.record:
        args.record.write_text(text + "\n")
    sys.exit(bool(record["faults"]))


if __name__ == "__main__":
    main()
