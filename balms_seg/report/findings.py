"""Which classes fail, and why, in plain words computed from the numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING, is_next_to_nothing
from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.difference import MIN_CLASSES
from balms_seg.report.object_fates import FATES, ObjectFates
from balms_seg.report.run_files import TASK_NAMES, Run
from balms_seg.wording import agreeing, counted

GROUPS = tuple(FREQUENCY_GROUPS.values())
METRIC_OF_GROUP = {name: f"AP{letter}" for letter, name in FREQUENCY_GROUPS.items()}
NUM_WORST = 5
FATE_WORDS = {
    "confused": "taken for another class",
    "misplaced": "found in the wrong place or size",
    "not found": "not found",
}
OUTSCORE_GLOSS = (
    "Wrong detections match no object of their class. Those that outscore half of the right ones "
    "have a higher score than the median right one: a threshold that keeps half of what is found "
    "keeps them, too."
)
_MAX_REASONS = 3
_SECOND_REASON = 0.6  # of the first one's weight: another cause is told too
_NOTABLE_LOOSENESS = 0.05
_NOTABLE_ALARMS = 0.1  # of the detections down to the median right one


@dataclass(frozen=True)
class ClassFinding:
    """One class of one run; counts are of objects in the evaluation set.

    Attributes:
        row: as per_class_{task}.json has it.
        fates: objects per name of `FATES`; empty where detections or ground truth are missing.
        taken_for: the class most predicted on its objects by mistake, with how many of them; None
            where there is none or it is not known.
        false_alarms: wrong detections that outscore the median right one; None where unknown, and
            where none is right.
        right_above: right detections up to the median, None likewise.
        usual_loss: median over the run's classes of AP50 - AP, in percent; a class that loses more
            is outlined loosely.
    """

    row: dict[str, Any]
    fates: dict[str, int]
    taken_for: tuple[str, int | None] | None
    false_alarms: int | None
    right_above: int | None
    usual_loss: float

    @property
    def ap(self) -> float:
        """AP in percent, nan without ground truth."""
        return self.row["AP"]

    def reasons(self) -> list[str]:
        """What costs most AP, largest first; empty where nothing is known or nothing is wrong."""
        weighted = sorted(self._weighted_reasons(), key=lambda entry: -entry[0])
        return [
            text
            for weight, text in weighted[:_MAX_REASONS]
            if weight > 0 and weight >= _SECOND_REASON * weighted[0][0]
        ]

    def _weighted_reasons(self) -> list[tuple[float, str]]:
        found = []
        total = sum(self.fates.values())
        if total:
            mostly = f", mostly {self.taken_for[0]}" if self.taken_for else ""
            for fate, words in FATE_WORDS.items():
                text = f"{self.fates[fate]} of {total} are {words}"
                found.append((self.fates[fate] / total, text + mostly * (fate == "confused")))
        if self.false_alarms:
            share = self.false_alarms / (self.false_alarms + (self.right_above or 0))
            alarms = counted(self.false_alarms, "wrong detection", ",")
            if share > _NOTABLE_ALARMS:
                outscore = agreeing(self.false_alarms, "outscores", "outscore")
                found.append((share, f"{alarms} {outscore} half of its right ones"))
        looseness = (self.row["AP50"] - self.ap - self.usual_loss) / 100
        if looseness > _NOTABLE_LOOSENESS:
            text = f"loosely outlined: AP50 is {self.row['AP50']:.0f}, AP {self.ap:.0f}"
            found.append((looseness, text))
        return found


def find_classes(run: Run, task: str, fates: ObjectFates | None) -> list[ClassFinding]:
    """What is known of each class of a run, in the order of its rows; empty without rows."""
    rows = run.tasks[task].classes or []
    counts = fates.counts(len(rows)) if fates is not None else None
    confusion = fates.confusion(len(rows)) if fates is not None else None
    alarms = _false_alarms(run.tasks[task].matches, len(rows))
    losses = [row["AP50"] - row["AP"] for row in rows if not math.isnan(row["AP"])]
    usual_loss = float(np.median(losses)) if losses else 0.0
    findings = []
    for i, row in enumerate(rows):
        other = row.get("most_confused_with")
        taken_for: tuple[str, int | None] | None = (str(other), None) if other else None
        if confusion is not None:
            wrong = np.where(np.arange(len(rows)) == i, 0, confusion[i])
            best = int(wrong.argmax())
            taken_for = (str(rows[best]["name"]), int(wrong[best])) if wrong[best] else None
        false_alarms, alarm_score = alarms[i] if alarms is not None else (None, None)
        own = {} if counts is None else dict(zip(FATES, counts[i].tolist(), strict=True))
        findings.append(ClassFinding(row, own, taken_for, false_alarms, alarm_score, usual_loss))
    return findings


def _false_alarms(
    matches: StoredMatches | None, num_classes: int
) -> list[tuple[int | None, int]] | None:
    """Per class: wrong detections above the median right one (IoU 0.5), and right ones up to it."""
    if matches is None or len(matches.class_names) != num_classes:
        return None
    is_right = np.zeros(len(matches.classes), dtype=bool)
    is_right[matches.rows] = (matches.is_matched & ~matches.is_ignored)[:, 0]
    is_wrong = matches.counts_unmatched.copy()
    is_wrong[matches.rows[matches.is_matched[:, 0]]] = False
    bounds = np.searchsorted(matches.classes, np.arange(num_classes + 1))
    found: list[tuple[int | None, int]] = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        right = np.flatnonzero(is_right[start:stop])
        if len(right) == 0:
            found.append((None, 0))
            continue
        middle = (len(right) - 1) // 2
        found.append((int(is_wrong[start : start + right[middle]].sum()), middle + 1))
    return found


def worst_classes(findings: Sequence[ClassFinding], number: int = NUM_WORST) -> list[ClassFinding]:
    """Those of lowest AP; of equal ones the one with more objects comes first."""
    known = [finding for finding in findings if not math.isnan(finding.ap)]
    return sorted(known, key=lambda f: (f.ap, -f.row["val_instances"]))[:number]


def group_fates(findings: Sequence[ClassFinding]) -> dict[str, dict[str, int]]:
    """Objects per frequency group and fate, of the groups with objects; also of "all"."""
    groups: dict[str, dict[str, int]] = {}
    for finding in findings:
        if not finding.fates:
            continue
        for name in filter(None, ("all", finding.row["group"])):
            sums = groups.setdefault(name, dict.fromkeys(FATES, 0))
            for fate, count in finding.fates.items():
                sums[fate] += count
    return {name: sums for name, sums in groups.items() if sum(sums.values())}


def summarise_run(run: Run, findings: Sequence[ClassFinding]) -> list[str]:
    """The verdict on a run: its AP, where the groups differ, and what happens to rare objects."""
    task = run.main_task
    metrics = run.metrics[task]
    by_group = {g: metrics.get(METRIC_OF_GROUP[g], math.nan) for g in GROUPS}
    known = {g: value for g, value in by_group.items() if not math.isnan(value)}
    shown = ", ".join(f"{group} {value:.1f}" for group, value in known.items())
    sentences = [
        f"AP of {TASK_NAMES[task]} is {metrics['AP']:.1f}" + (f" ({shown})." if shown else ".")
    ]
    if is_next_to_nothing([metrics["AP"]]):
        return [*sentences, FINDS_NOTHING]
    sizes = Counter(f.row["group"] for f in findings if not math.isnan(f.ap))
    judged = {group: value for group, value in known.items() if sizes[group] >= MIN_CLASSES}
    if len(judged) > 1:
        low, high = min(judged, key=judged.__getitem__), max(judged, key=judged.__getitem__)
        gap = judged[high] - judged[low]
        sentences.append(f"{low.capitalize()} classes trail {high} ones by {gap:.1f} points.")
    fates = group_fates(findings)
    tail = next((group for group in GROUPS if group in fates), None)
    if tail is not None:
        sentences.append(_tail_sentence(tail, fates))
    return sentences


def _tail_sentence(tail: str, fates: dict[str, dict[str, int]]) -> str:
    total = sum(fates[tail].values())
    share = {fate: count / total for fate, count in fates[tail].items()}
    failures = sorted(FATE_WORDS, key=lambda fate: -share[fate])
    parts = [
        f"{_percent(share[fate])} {FATE_WORDS[fate]}" for fate in failures if fates[tail][fate]
    ]
    of_them = (
        f"Of {counted(total, 'object', ',')} of {tail} classes {_percent(share['right'])} are right"
    )
    if not parts:
        return f"{of_them}."
    sentence = f"{of_them}, {', '.join(parts)}"
    head = GROUPS[-1]
    if head != tail and head in fates:
        worst = failures[0]
        other = fates[head][worst] / sum(fates[head].values())
        sentence += f" ({head} classes: {_percent(other)} {FATE_WORDS[worst]})"
    return f"{sentence}."


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
