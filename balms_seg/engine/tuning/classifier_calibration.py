"""Choosing the post-hoc calibration of an image classifier on held-out images.

n: held-out images, K: classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from balms_seg.annotations import shortened
from balms_seg.data import load_dataset_dicts, register_from_config
from balms_seg.data.instances.registration import require_registered
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.mixed_precision import autocast, half_precision
from balms_seg.engine.run import load_model
from balms_seg.engine.tuning.calibration_search import is_validation_set
from balms_seg.engine.tuning.search_space import CLASS_MIXES
from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
)
from balms_seg.evaluation.images.paired_accuracy import compare_accuracy
from balms_seg.evaluation.uncertainty.reliability import reliability
from balms_seg.modeling.image_calibration import ImageCalibration

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.data.training_set import TrainingSet

TAUS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
EVEN, AS_HELD_OUT = CLASS_MIXES
_FEW_IMAGES = 100  # below which a temperature is rough
_LARGE_DISTANCE = 0.2  # of class shares from even ones, in total variation
_TEMPERATURES = np.geomspace(0.1, 10, 201)


@dataclass(frozen=True, eq=False)
class HeldOutImages:
    """What a classifier says of images that it was not trained on.

    Attributes:
        probabilities: (n, K) float64.
        labels: (n,) int64.
        class_names: K names.
        image_counts: (K,) training images, positive.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_counts: np.ndarray

    @property
    def class_sizes(self) -> np.ndarray:
        """(K,) held-out images of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def weights(self, class_mix: str) -> np.ndarray:
        """(n,) how much each image counts: all the same, or each class the same."""
        if class_mix == AS_HELD_OUT:
            return np.ones(len(self.labels))
        return 1 / self.class_sizes[self.labels]


@dataclass(frozen=True)
class ImageTrial:
    """A calibration and what it gives on the held-out images.

    Attributes:
        tau: of post-hoc logit adjustment.
        temperature: likewise.
        metrics: top1, balanced, ece in percent, and nll in nats; the last two for the class mix.
        gain: of the balanced accuracy over tau 0, with the ends of its interval, in percent.
    """

    tau: float
    temperature: float
    metrics: dict[str, float]
    gain: tuple[float, float, float] = (0.0, 0.0, 0.0)


def record_held_out(cfg: CfgNode, dataset: str, *, allow_validation: bool) -> HeldOutImages:
    """Run the classifier in MODEL.WEIGHTS on a held-out set.

    Raises:
        KeyError: the set is not registered.
        ValueError: the model was trained on images of the set, or results are reported on it.
    """
    if dataset in cfg.DATASETS.TRAIN:
        raise ValueError(
            f"The model was trained on '{dataset}' and is surer there than elsewhere; hold images "
            "out before training, with balms-seg split."
        )
    if not allow_validation and (dataset in cfg.DATASETS.TEST or is_validation_set(dataset)):
        is_named = "is in DATASETS.TEST," if dataset in cfg.DATASETS.TEST else "looks like a set"
        raise ValueError(
            f"'{dataset}' {is_named} on which results are reported: constants tuned there make "
            "them too good. Register other held-out images, or say --allow-validation."
        )
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("Expected MODEL.WEIGHTS PATH after the flags, but got none.")
    register_from_config(cfg)
    require_registered(dataset)
    training_set = build_job(cfg).load_training_set()
    _require_unseen(dataset, training_set)
    statistics = training_set.statistics
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.CLASSES = list(statistics.class_names)
    cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = statistics.num_classes
    cfg.MODEL.IMAGE_CLASSIFIER.CALIBRATION.OFFSETS = []
    cfg.MODEL.IMAGE_CLASSIFIER.CALIBRATION.TEMPERATURE = 1.0
    loader = build_job(cfg).build_test_loader(dataset)
    model = load_model(cfg).eval()
    outputs, labels = [], []
    device_type = torch.device(cfg.MODEL.DEVICE).type
    with torch.no_grad(), autocast(device_type, half_precision(cfg)):
        for batch in loader:
            outputs.append(model(batch).double().cpu().numpy())
            labels.append(batch.labels.numpy())
    return HeldOutImages(
        np.concatenate(outputs),
        np.concatenate(labels),
        statistics.class_names,
        statistics.prior_counts("image"),
    )


def _require_unseen(dataset: str, training_set: TrainingSet) -> None:
    """Stop where a set of another name holds images that were trained on."""
    seen = {record["file_name"] for record in training_set.dicts}
    own = [record["file_name"] for record in load_dataset_dicts(dataset)]
    known = [address for address in own if address in seen]
    if known:
        raise ValueError(
            f"The model was trained on {len(known)} of the {len(own)} images of '{dataset}', such "
            f"as {known[0]}, and is surer there than elsewhere; hold images out before training, "
            "with balms-seg split."
        )


def tune_image_calibration(
    held_out: HeldOutImages, taus: Sequence[float] = TAUS, *, class_mix: str = EVEN
) -> tuple[list[ImageTrial], ImageTrial]:
    """Try calibrations: logit adjustment by each tau, and for each the temperature that fits best.

    The scores keep their order (tau 0) unless a tau's gain in balanced accuracy is larger than
    chance: its interval over images, at a level of 95 % for all of them together, is above 0.

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
    level = 1 - 0.05 / max(len(tried) - 1, 1)
    weights = held_out.weights(class_mix)
    before = _stored(held_out, held_out.probabilities)
    trials = []
    for tau in tried:
        offsets = adjustment_offsets(held_out.image_counts, tau)
        temperature = _fitted_temperature(held_out, offsets, weights)
        after = _calibrated(held_out, offsets, temperature)
        metrics = _measure(held_out, after, weights)
        change = compare_accuracy(before, _stored(held_out, after), level=level)["balanced"]
        gain = (100 * change.value, 100 * change.low, 100 * change.high)
        trials.append(ImageTrial(tau, temperature, metrics, gain))
    better = [trial for trial in trials[1:] if trial.gain[1] > 0]
    return trials, max(better, key=lambda trial: trial.gain[0], default=trials[0])


def describe_class_mix(held_out: HeldOutImages, class_mix: str) -> tuple[str, list[str]]:
    """For which images the constants hold, and what speaks against relying on them.

    Returns:
        A sentence, and warnings.
    """
    sizes = held_out.class_sizes
    present = sizes[sizes > 0]
    shares = present / present.sum()
    distance = 0.5 * float(np.abs(shares - 1 / len(present)).sum())
    largest = f"the largest class has {100 * shares.max():.0f} % of the {present.sum()} images"
    warnings = []
    absent = [held_out.class_names[label] for label in np.flatnonzero(sizes == 0)]
    if absent:
        warnings.append(
            f"{len(absent)} of {len(sizes)} classes have no held-out image, and so no say: "
            f"{shortened(absent)}."
        )
    if class_mix == EVEN:
        number = len(present) ** 2 / (1 / present).sum()
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
        _nll(_calibrated(held_out, offsets, temperature), held_out.labels, weights)
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _calibrated(held_out: HeldOutImages, offsets: np.ndarray, temperature: float) -> np.ndarray:
    calibration = ImageCalibration(offsets.tolist(), temperature)
    return calibration(torch.from_numpy(held_out.probabilities)).numpy()


def _nll(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    of_labels = probabilities[np.arange(len(labels)), labels]
    losses = -np.log(np.maximum(of_labels, np.finfo(np.float64).tiny))
    return float(np.average(losses, weights=weights))


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
        "nll": _nll(probabilities, labels, weights),
        "ece": 100 * reliability(scores, is_right, weights=weights).expected_calibration_error,
    }


def _stored(held_out: HeldOutImages, probabilities: np.ndarray) -> StoredPredictions:
    places = np.arange(len(held_out.labels))
    judged = ClassifierPredictions.from_probabilities(
        probabilities, held_out.labels, places, [str(place) for place in places]
    )
    return StoredPredictions(judged, held_out.class_names, ("",) * len(held_out.class_names))
