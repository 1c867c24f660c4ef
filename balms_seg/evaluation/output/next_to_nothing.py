"""Whether a model finds enough for its results to say anything, and what is said where it does not.

Thresholds, calibrations and predictions of such a model are of no use, so that commands name no
next step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from balms_seg.evaluation.lvis.lvis_ap import IOU_TYPES, TELLING_AP
from balms_seg.evaluation.output.results_file import read_results

FINDS_NOTHING = (
    f"The model finds next to nothing yet (AP below {100 * TELLING_AP:g}): train longer "
    "(SOLVER.MAX_ITER), or from weights (MODEL.WEIGHTS)."
)


def is_next_to_nothing(aps: Iterable[float]) -> bool:
    """Whether the best AP is so low that a model's mistakes tell nothing; not where none is known.

    Args:
        aps: of one model or of several, in percent; nan where there is no ground truth.
    """
    known = [ap for ap in aps if not math.isnan(ap)]
    return bool(known) and max(known) < 100 * TELLING_AP


def finds_next_to_nothing(results: Path) -> bool:
    """Whether a detector does by its results.json; not where there is none, or one of accuracies.

    Args:
        results: the file.
    """
    try:
        metrics = read_results(results)["metrics"]
        return is_next_to_nothing(
            float(own[task]["AP"])
            for own in metrics.values()
            for task in IOU_TYPES
            if "AP" in own.get(task, {})
        )
    except (AttributeError, OSError, TypeError, ValueError):  # report says what is wrong with it
        return False
