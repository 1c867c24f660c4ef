"""Post-hoc calibration: scores of a trained classifier, corrected for how often classes occur.

Legend: R proposals, K foreground classes, n_c training samples of class c. Probabilities are
(R, K + 1) with background last. `independent` says that each class has a sigmoid of its own: then
the others do not change with it, and the background column means nothing and stays.

A correction that multiplies e^z_c by a weight is written as the weight's logarithm: for a softmax
it is added to log p before normalising anew, for sigmoids to the log-odds. Background keeps
weight 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

CALIBRATIONS = ("none", "norcal", "logit_adjustment", "fracal", "group_temperature")


def reweigh(probabilities: Tensor, log_weights: Tensor, *, independent: bool = False) -> Tensor:
    """Multiply e^z_c by a weight per class.

    Args:
        probabilities: (R, K + 1).
        log_weights: (K,) of the foreground classes.
        independent: sigmoids instead of a softmax.

    Returns:
        (R, K + 1) new probabilities; for a softmax rows sum to 1.
    """
    foreground, background = probabilities[:, :-1].float(), probabilities[:, -1:].float()
    log_weights = log_weights.to(foreground)
    if independent:
        return torch.cat([reweigh_scores(foreground, log_weights), background], dim=1)
    shifted = torch.cat([foreground.log() + log_weights, background.log()], dim=1)
    return shifted.softmax(dim=1)


def reweigh_scores(scores: Tensor, log_weights: Tensor) -> Tensor:
    """Add to the log-odds of single scores.

    Exact for sigmoids. For a score of a softmax, of which the other entries are not at hand, it is
    what `reweigh` gives where all of the rest is background.

    Args:
        scores: in [0, 1], any shape.
        log_weights: broadcast to it.
    """
    return torch.sigmoid(torch.logit(scores) + log_weights)


def norcal_log_weights(counts: Tensor, *, gamma: float) -> Tensor:
    """NorCal: e^z_c / n_c^gamma, background untouched; gamma 0 changes nothing.

    Args:
        counts: (K,) positive training images.
        gamma: strength.

    Source: Pan et al. 2021 (arXiv 2107.02170).
    """
    return -gamma * counts.log()


def logit_adjustment_log_weights(counts: Tensor, *, tau: float) -> Tensor:
    """Logit adjustment: z_c - tau log pi_c with pi = n / sum n; tau 0 changes nothing.

    Among the classes it equals NorCal with gamma = tau. Against background it raises every class,
    by tau log sum n more than NorCal does. The source has no background; leaving it alone is ours.

    Args:
        counts: (K,) positive training samples.
        tau: strength.

    Source: Menon et al. 2021 (arXiv 2007.07314).
    """
    return -tau * (counts / counts.sum()).log()


def fracal_log_weights(
    counts: Tensor, dimensions: Tensor, *, power: float, total: float | None = None
) -> Tensor:
    """FRACAL on a softmax: z_c - log10(n_c / N) + log10(1 / K), then divided by D_c^power.

    The release's default, `base10`, takes images of the class and N all images of the training set;
    its `base10_obj` instances, and N their sum.

    Args:
        counts: (K,) positive training samples.
        dimensions: (K,) fractal dimensions, from 1 to 2.
        power: lambda; 2 in the source.
        total: N; None: the sum of the counts.

    Source: Alexandridis et al. 2025 (arXiv 2410.11774); kostas1515/FRACAL: fracal_bbox_head.py.
    """
    return _fracal_shift(counts, total) - power * dimensions.log()


def fracal_independent(
    probabilities: Tensor,
    counts: Tensor,
    dimensions: Tensor,
    *,
    power: float,
    total: float | None = None,
) -> Tensor:
    """FRACAL on sigmoids: sigma(z) sigma(z + shift), dimensions as shares in the shift.

    Args:
        probabilities: (R, K + 1), the last column left alone.
        counts: (K,) positive training samples.
        dimensions: (K,) fractal dimensions.
        power: lambda.
        total: N; None: the sum of the counts.

    Source: as `fracal_log_weights`; with shares d_c = D_c^power / sum D^power the shift is
    -log10(n_c / N) - log10(d_c) + 2 log10(1 / K).
    """
    shares = dimensions**power / (dimensions**power).sum()
    shift = _fracal_shift(counts, total) - shares.log10() - math.log10(len(counts))
    foreground = probabilities[:, :-1].float()
    adjusted = foreground * reweigh_scores(foreground, shift.to(foreground))
    return torch.cat([adjusted, probabilities[:, -1:].float()], dim=1)


def _fracal_shift(counts: Tensor, total: float | None) -> Tensor:
    shares = counts / (counts.sum() if total is None else total)
    return -shares.log10() - math.log10(len(counts))


def divide_by_temperature(probabilities: Tensor, temperatures: Tensor) -> Tensor:
    """Divide the log-odds of each class's score by its group's temperature; 1 changes nothing.

    For sigmoids this is temperature scaling. For a softmax too each score is taken by itself, so
    that a group's temperature makes its scores right and leaves those of the others: the order of
    detections within a class stays, rows no longer sum to 1, and background stays.

    Args:
        probabilities: (R, K + 1).
        temperatures: (K,) positive.

    Source: Guo et al. 2017 (arXiv 1706.04599); one temperature a frequency group is ours.
    """
    foreground, background = probabilities[:, :-1].float(), probabilities[:, -1:].float()
    scaled = torch.sigmoid(torch.logit(foreground) / temperatures.to(foreground))
    return torch.cat([scaled, background], dim=1)


class ScoreCalibration(nn.Module):
    """A calibration with its constants, as the box predictor applies it.

    Its vectors follow the model's device and stay out of checkpoints.
    """

    log_weights: Tensor
    counts: Tensor
    dimensions: Tensor
    temperatures: Tensor

    def __init__(
        self,
        name: str,
        *,
        counts: Tensor,
        group_ids: Tensor,
        total: float | None = None,
        strength: float = 1.0,
        temperatures: tuple[float, ...] = (1.0, 1.0, 1.0),
        dimensions: Tensor | None = None,
        independent: bool = False,
    ) -> None:
        """Choose a calibration.

        Args:
            name: of `CALIBRATIONS`, apart from "none".
            counts: (K,) positive training samples.
            group_ids: (K,) int64 frequency group, rarest 0.
            total: what fracal's counts are shares of; None: their sum.
            strength: gamma of norcal, tau of logit_adjustment, lambda of fracal.
            temperatures: one a group, for group_temperature.
            dimensions: (K,) fractal dimensions, for fracal.
            independent: whether the classifier is made of sigmoids.

        Raises:
            ValueError: the name is unknown, or fracal has no dimensions of the right number.
        """
        super().__init__()
        if name not in CALIBRATIONS[1:]:
            raise ValueError(
                f"Expected a calibration out of {', '.join(CALIBRATIONS[1:])}, but got {name!r}."
            )
        counts = torch.as_tensor(counts, dtype=torch.float64)
        if name == "fracal" and (dimensions is None or len(dimensions) != len(counts)):
            found = 0 if dimensions is None else len(dimensions)
            raise ValueError(
                f"Expected the fractal dimensions of {len(counts)} classes, but got {found}; "
                "balms-seg calibrate --methods fracal computes and writes them."
            )
        self.name, self.independent = name, independent
        self.strength, self.total = strength, total
        log_weights = torch.zeros_like(counts)
        if name == "norcal":
            log_weights = norcal_log_weights(counts, gamma=strength)
        elif name == "logit_adjustment":
            log_weights = logit_adjustment_log_weights(counts, tau=strength)
        elif name == "fracal":
            dimensions = torch.as_tensor(dimensions, dtype=torch.float64)
            log_weights = fracal_log_weights(counts, dimensions, power=strength, total=total)
        self._keep("log_weights", log_weights)
        self._keep("counts", counts)
        self._keep("dimensions", torch.ones_like(counts) if dimensions is None else dimensions)
        by_group = torch.as_tensor(temperatures, dtype=torch.float64)
        self._keep("temperatures", by_group[torch.as_tensor(group_ids, dtype=torch.int64)])

    @classmethod
    def of_training_set(
        cls, name: str, statistics: ClassStatistics, *, counts: str, **constants: Any
    ) -> ScoreCalibration:
        """A calibration with the counts of a training set, without what is pasted.

        Args:
            name: of `CALIBRATIONS`, apart from "none".
            statistics: of the training set.
            counts: kind of the counts, "image" or "instance".
            constants: of `__init__`.
        """
        return cls(
            name,
            counts=torch.tensor(replace(statistics, pasted=None).prior_counts(counts)),
            group_ids=torch.tensor(statistics.group_ids),
            total=float(statistics.num_images) if counts == "image" else None,
            **constants,
        )

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float(), persistent=False)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(R, K + 1) to (R, K + 1)."""
        if self.name == "group_temperature":
            return divide_by_temperature(probabilities, self.temperatures)
        if self.name == "fracal" and self.independent:
            return fracal_independent(
                probabilities,
                self.counts,
                self.dimensions,
                power=self.strength,
                total=self.total,
            )
        return reweigh(probabilities, self.log_weights, independent=self.independent)
