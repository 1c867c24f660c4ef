"""Choosing the post-hoc calibration of an image classifier on held-out images.

n: held-out images, K: classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from balms_seg.annotations import shortened
from balms_seg.engine.tuning.held_out_images import EVEN, HeldOutImages
from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
)
from balms_seg.evaluation.images.paired_accuracy import compare_accuracy
from balms_seg.evaluation.images.paired_calibration import compare_losses, label_losses
from balms_seg.evaluation.uncertainty.reliability import reliability
from balms_seg.modeling.image_calibration import ImageCalibration
from balms_seg.wording import agreeing, counted

TAUS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_FEW_IMAGES = 100  # below which a temperature is rough
_LARGE_DISTANCE = 0.2  # of class shares from even ones, in total variation
_TEMPERATURES = np.geomspace(0.1, 10, 201)


@dataclass(frozen=True)
class ImageTrial:
    """A calibration and what it gives on the held-out images.

    Attributes:
        tau: of post-hoc logit adjustment.
        temperature: 1, unless the one that fits best is better by more than chance.
        metrics: top1, balanced, ece in percent, and nll in nats; the last two for the class mix.
        gain: of the balanced accuracy over tau 0, with the ends of its interval, in percent.
        fitted: the temperature that fits best.
        nll_gain: how much lower it makes nll, with the ends of the interval.
    """

    tau: float
    temperature: float
    metrics: dict[str, float]
    gain: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fitted: float = 1.0
    nll_gain: tuple[float, float, float] = (0.0, 0.0, 0.0)


def tune_image_calibration(
    held_out: HeldOutImages, taus: Sequence[float] = TAUS, *, class_mix: str = EVEN
) -> tuple[list[ImageTrial], ImageTrial]:
    """Try calibrations: logit adjustment by each tau, and for each the temperature that fits best.

    The scores stay as they are (tau 0, temperature 1) unless a gain is larger than chance: in
    balanced accuracy for a tau, in the likelihood of the labels for its temperature. Larger than
    chance is one whose paired interval over images, at 95 % for all trials together, is above 0.

    Probabilities can be right for one mix of classes only: those of a model for an even mix are
    too low on frequent classes of a long-tailed set, and a temperature that makes up for it there
    makes the model too sure on an even test set.

    Args:
        held_out: to choose on.
        taus: to try besides 0.
        class_mix: for which images the temperature holds: those of an "even" mix of classes, for
            which held-out images count by 1 over the size of their class, or as they are,
            "held-out".

    Returns:
        The trials, and the one that is chosen.
    """
    tried = [0.0, *(tau for tau in taus if tau != 0)]
    weights = held_out.weights(class_mix)
    trials = [_try(held_out, tau, weights, level=1 - 0.05 / len(tried)) for tau in tried]
    better = [trial for trial in trials[1:] if trial.gain[1] > 0]
    return trials, max(better, key=lambda trial: trial.gain[0], default=trials[0])


def _try(held_out: HeldOutImages, tau: float, weights: np.ndarray, *, level: float) -> ImageTrial:
    offsets = adjustment_offsets(held_out.image_counts, tau)
    fitted = _fitted_temperature(held_out, offsets, weights)
    before = _stored(held_out, held_out.probabilities)
    adjusted, scaled = (_calibrated(held_out, offsets, each) for each in (1.0, fitted))
    stored = _stored(held_out, adjusted)
    change = compare_accuracy(before, stored, level=level)["balanced"]
    losses = (_losses(each, held_out.labels) for each in (scaled, adjusted))
    taken = compare_losses(*losses, weights=weights, level=level)
    nll_gain = (taken.value, taken.low, taken.high)
    # Where all images are right no resample has a wrong one, and the surer scores are the better.
    is_right = stored.predictions.is_right
    is_better = nll_gain[1] > 0 and is_right.any() and not is_right.all()
    return ImageTrial(
        tau,
        fitted if is_better else 1.0,
        _measure(held_out, scaled if is_better else adjusted, weights),
        (100 * change.value, 100 * change.low, 100 * change.high),
        fitted,
        nll_gain,
    )


def describe_temperature(trial: ImageTrial) -> str:
    """How the temperature of a trial was decided."""
    gain, low, high = trial.nll_gain
    shown = f"lowers nll by {gain:.3f} ({low:+.3f} to {high:+.3f})"
    if trial.temperature == trial.fitted:
        return f"Temperature {trial.temperature:.3f} {shown}."
    return (
        f"The temperature that fits best, {trial.fitted:.3f}, {shown}, which these images do not "
        "tell from chance: it stays 1."
    )


def describe_class_mix(held_out: HeldOutImages, class_mix: str) -> tuple[str, list[str]]:
    """For which images the constants hold, and what speaks against relying on them.

    Returns:
        A sentence, and warnings.
    """
    sizes = held_out.class_sizes
    present = sizes[sizes > 0]
    shares = present / present.sum()
    distance = 0.5 * float(np.abs(shares - 1 / len(present)).sum())
    largest = (
        f"the largest class has {100 * shares.max():.0f} % of the {counted(present.sum(), 'image')}"
    )
    warnings = []
    absent = [held_out.class_names[label] for label in np.flatnonzero(sizes == 0)]
    if absent:
        warnings.append(
            f"{len(absent)} of {counted(len(sizes), 'class')} "
            f"{agreeing(len(absent), 'has', 'have')} no held-out image, and so no say: "
            f"{shortened(absent)}."
        )
    if class_mix == EVEN:
        number = _effective_number(held_out.weights(EVEN))
        text = (
            "The constants hold where all classes are equally frequent: each class counts alike "
            f"({largest}, an even mix {100 / len(present):.0f} %)."
        )
        if number < _FEW_IMAGES:
            warnings.append(
                f"With every class counted alike, the {present.sum()} held-out images tell as much "
                f"as {number:.0f} of an even mix: the temperature is rough. Hold out more."
            )
    else:
        text = f"The constants hold for classes in the shares of the held-out images: {largest}."
        if distance > _LARGE_DISTANCE:
            warnings.append(
                f"These shares are far from even ones ({100 * distance:.0f} % of the images would "
                "have to be of other classes). Where classes are equally frequent, as in most test "
                f"sets, take --class-mix {EVEN}."
            )
    return text, warnings


def adjustment_offsets(image_counts: np.ndarray, tau: float) -> np.ndarray:
    """(K,) offsets -tau log n of the log-probabilities, with mean 0."""
    logs = np.log(image_counts)
    return -tau * (logs - logs.mean())


def format_trials(trials: Sequence[ImageTrial]) -> str:
    """One line a trial."""
    lines = ["  tau  temperature    top1  balanced  gain, with its interval     nll    ece"]
    for trial in trials:
        values, (gain, low, high) = trial.metrics, trial.gain
        lines.append(
            f"{trial.tau:5.2f}  {trial.temperature:11.3f}  {values['top1']:6.2f}  "
            f"{values['balanced']:8.2f}  {gain:+6.2f} ({low:+6.2f} to {high:+6.2f})  "
            f"{values['nll']:6.3f}  {values['ece']:5.2f}"
        )
    return "\n".join(lines)


def _fitted_temperature(held_out: HeldOutImages, offsets: np.ndarray, weights: np.ndarray) -> float:
    """The temperature of a fine grid that gives the held-out labels the largest likelihood."""
    losses = [
        np.average(
            _losses(_calibrated(held_out, offsets, temperature), held_out.labels), weights=weights
        )
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _calibrated(held_out: HeldOutImages, offsets: np.ndarray, temperature: float) -> np.ndarray:
    calibration = ImageCalibration(offsets.tolist(), temperature)
    return calibration(torch.from_numpy(held_out.probabilities)).numpy()


def _effective_number(weights: np.ndarray) -> float:
    """How many images that count alike tell as much as these."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) negative log-likelihood of each label."""
    return label_losses(probabilities[np.arange(len(labels)), labels])


def _measure(
    held_out: HeldOutImages, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    labels = held_out.labels
    predicted = probabilities.argmax(axis=1)
    is_right = predicted == labels
    images = held_out.class_sizes
    right = np.bincount(labels[is_right], minlength=len(images))
    known = images > 0
    scores = probabilities[np.arange(len(labels)), predicted]
    return {
        "top1": 100 * float(is_right.mean()),
        "balanced": 100 * float((right[known] / images[known]).mean()),
        "nll": float(np.average(_losses(probabilities, labels), weights=weights)),
        "ece": 100 * reliability(scores, is_right, weights=weights).expected_calibration_error,
    }


def _stored(held_out: HeldOutImages, probabilities: np.ndarray) -> StoredPredictions:
    places = np.arange(len(held_out.labels))
    judged = ClassifierPredictions.from_probabilities(
        probabilities, held_out.labels, places, [str(place) for place in places]
    )
    return StoredPredictions(judged, held_out.class_names, ("",) * len(held_out.class_names))
