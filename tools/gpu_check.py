#!/usr/bin/env python
r"""See on a machine with a GPU, in minutes and without a network, what this project does there.

python tools/gpu_check.py --minutes 10 --output output/gpu_check
python tools/gpu_check.py --minutes 10 --cpu

The parts run in order of worth, each in a process and with a limit of its own, so that a run cut
off has left the first ones. Called again with the same folder it runs what is left: of the tests
those that have not passed, of the trainings from their last checkpoint. Each part leaves its json,
csv and log, and page.md holds all of them. With --cpu every part runs in small, and no time and no
memory is told.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_check_page import write_page
from gpu_check_part import Part
from gpu_check_parts import list_parts
from gpu_check_place import ROOT, Place

from balms_seg.stop_signals import RESUME_EXIT_CODE

_SECONDS_TO_END = 20


def main(arguments: Sequence[str] | None = None, place: Place | None = None) -> int:
    """Run what is not done yet, write the page.

    Args:
        arguments: of the command line.
        place: where the parts run; None: what the command line says.

    Returns:
        1 if a part failed, else 0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True, help="for all parts together")
    parser.add_argument("--output", type=Path, default=Path("output/gpu_check"))
    parser.add_argument("--cpu", action="store_true", help="every part in small, without a GPU")
    args = parser.parse_args(arguments)
    place = place or Place.found(cpu=args.cpu)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    records = []
    for part in list_parts(place, output, minutes=args.minutes):
        record, seconds = _read_earlier(part, output), deadline - time.monotonic()
        is_over = record is not None and (record["outcome"] == "done" or seconds <= 0)
        if record is None or not is_over:
            record = _run(part, place, output, seconds)
            _write(record, part, output)
        print(f"{part.name}: {record['outcome']}", flush=True)
        records.append(record)
        write_page(records, place, output)
    print(f"see {output / 'page.md'}")
    return int(any(record["outcome"].startswith("failed") for record in records))


def _read_earlier(part: Part, output: Path) -> dict[str, Any] | None:
    """What an earlier call wrote of the same command."""
    path = output / f"{part.name}.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    return record if record.get("command") == shlex.join(part.command) else None


def _run(part: Part, place: Place, output: Path, remaining_seconds: float) -> dict[str, Any]:
    record: dict[str, Any] = {
        "part": part.name,
        "title": part.title,
        "command": shlex.join(part.command),
        **place.describe(),
        "rows": [],
    }
    if part.missing:
        return {**record, "outcome": f"skipped: {part.missing}"}
    if remaining_seconds <= 0:
        return {**record, "outcome": "not started: the time was over"}
    if part.prepare is not None:
        part.prepare()
    if not part.goes_on:
        part.result.unlink(missing_ok=True)  # of an earlier attempt
    start = time.monotonic()
    log = output / f"{part.name}.log"
    code = _run_within(part.command, log, min(part.limit_seconds, remaining_seconds))
    if place.is_measured:
        record["wall_seconds"] = round(time.monotonic() - start, 1)
    if part.result.exists():
        kept = None if place.is_measured else part.settings
        record["rows"] = [
            {key: value for key, value in row.items() if kept is None or key in kept}
            for row in part.read(part.result)
        ]
    record["outcome"] = _outcome(code, len(record["rows"]), part, log)
    if record["outcome"] == "done" and not place.is_measured:
        log.unlink()  # they tell times
        part.result.unlink()
    return record


def _outcome(code: int | None, num_rows: int, part: Part, log: Path) -> str:
    if code is None:
        return "cut off: its time was over"
    if code == 0 and num_rows >= part.num_rows:
        return "done"
    if code in (0, RESUME_EXIT_CODE) and part.goes_on:
        return f"to go on: {num_rows} of {part.num_rows} are done"
    return f"failed ({code}), see {log.name}"


def _run_within(command: Sequence[str], log: Path, limit_seconds: float) -> int | None:
    """The exit status; None where the limit ended the command and all that it had started."""
    places = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit_seconds)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """First kindly, so that a training may leave a checkpoint."""
    with suppress(subprocess.TimeoutExpired, ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what did not hear, and what it left behind
    process.wait()


def _write(record: dict[str, Any], part: Part, output: Path) -> None:
    (output / f"{part.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    if not record["rows"]:
        return
    columns = list(dict.fromkeys(key for row in record["rows"] for key in row))
    with (output / f"{part.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(record["rows"])


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that no part is left behind
    sys.exit(main())
