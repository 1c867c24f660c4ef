"""What becomes of a checkpoint's classifier: `MODEL.INIT_CLASSIFIER`.

C: columns of the classifier, K of them foreground classes and, for softmax methods, background
last; D: features. Cascade heads have several classifiers, and each is treated alike;
an image classifier has one, without background.

Source: Kang et al. 2020 (arXiv 1910.09217), classifier re-training, learnable weight scaling and
tau-normalisation; what background gets is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from balms_seg.methods import Method

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.modeling.box_predictor import LongTailedBoxPredictor

logger = logging.getLogger(__name__)

INIT_CLASSIFIERS = ("keep", "reset", "lws", "tau_norm", "discriminant")
INITIAL_BIASES = ("method", "prior")
# Ends of the names of the classifiers' weights.
CLASSIFIER_WEIGHTS = ("cls_score.weight", "classifier.weight")


def tau_normalised(
    weight: Tensor, bias: Tensor, *, tau: float, foreground: slice
) -> tuple[Tensor, Tensor]:
    """Divide each class's weight vector by its norm to the power tau, and even out the biases.

    Norms are taken relative to their geometric mean over the foreground classes, and the foreground
    biases are replaced by their mean. A common factor and a common bias change no ranking among
    the classes, so that for a softmax without background this decides as w / ||w||^tau without
    bias; but they place foreground against background and sigmoid scores against 0, where they stay
    as trained. Columns that are of no class, such as background's, are left alone.

    Args:
        weight: (C, D).
        bias: (C,).
        tau: 0 leaves the weights as they are; 1 gives all foreground classes the same norm.
        foreground: columns of the classes.

    Returns:
        New weight and bias.
    """
    vectors = weight[foreground]
    norms = vectors.norm(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    relative = (norms.log() - norms.log().mean()).exp()
    weight, bias = weight.clone(), bias.clone()
    weight[foreground] = vectors / relative**tau
    bias[foreground] = bias[foreground].mean()
    return weight, bias


def box_predictors(model: nn.Module) -> list[LongTailedBoxPredictor]:
    """The box predictors of a detector: one, or with cascade heads several."""
    heads: Any = model.roi_heads
    if isinstance(heads.box_predictor, nn.ModuleList):
        return [*heads.box_predictor]  # type: ignore[list-item]  # of its own kind
    return [heads.box_predictor]


def classifiers_of(model: nn.Module) -> list[tuple[Any, Method]]:
    """The classifiers of a model of either job, each with its method."""
    if hasattr(model, "roi_heads"):
        return [(each.cls_score, each.method) for each in box_predictors(model)]
    assert isinstance(model.method, Method)
    return [(model.classifier, model.method)]


def reset_classifiers(model: nn.Module, *, seed: int) -> None:
    """Initialise the classifiers anew, in place: the same on every rank, a function of `seed`.

    As at construction, by the method's `init_classifier`.
    """
    generator = torch.Generator().manual_seed(seed)
    for classifier, method in classifiers_of(model):
        method.init_classifier(classifier, generator)
    logger.info("The classifier starts from initialisation (MODEL.INIT_CLASSIFIER: reset).")


@torch.no_grad()
def tau_normalise_classifiers(model: nn.Module, *, tau: float) -> None:
    """Apply `tau_normalised` to linear classifiers, in place.

    Raises:
        TypeError: a classifier has no bias: cosines are of normalised weights already.
    """
    for classifier, method in classifiers_of(model):
        if classifier.bias is None:
            raise TypeError(
                f"Expected a linear classifier for MODEL.INIT_CLASSIFIER tau_norm, but got "
                f"{type(classifier).__name__}, whose weights are normalised already; set it to "
                "keep."
            )
        weight, bias = tau_normalised(
            classifier.weight, classifier.bias, tau=tau, foreground=method.foreground_columns
        )
        classifier.weight.copy_(weight)
        classifier.bias.copy_(bias)
    logger.info("The classifier is normalised with tau = %g.", tau)


@torch.no_grad()
def start_at_the_prior(
    model: nn.Module, statistics: ClassStatistics, *, positive_fraction: float
) -> None:
    """Set the biases of linear classifiers so that scores start at how often classes occur.

    Args:
        model: of either job, prepared.
        statistics: of the training set, whose instances are counted.
        positive_fraction: share of objects among the proposals of detectors.
    """
    counts = torch.as_tensor(statistics.prior_counts("instance"))
    for classifier, method in classifiers_of(model):
        foreground = positive_fraction if method.has_background else 1.0
        bias = method.prior_bias(counts / counts.sum(), foreground)
        classifier.bias.copy_(bias.to(classifier.bias))
    logger.info("The classifier's bias starts at the prior (MODEL.INITIAL_BIAS).")


def starts_anew(how: str, absent_parameters: Collection[str]) -> bool:
    """Whether a run's classifiers are not those of its checkpoint.

    Args:
        how: `MODEL.INIT_CLASSIFIER`.
        absent_parameters: names of parameters that the checkpoint did not fill.
    """
    is_absent = any(name.endswith(CLASSIFIER_WEIGHTS) for name in absent_parameters)
    return how in ("reset", "discriminant") or is_absent


def start_classifiers(
    model: nn.Module,
    how: str,
    *,
    seed: int,
    absent_parameters: Collection[str],
) -> None:
    """Prepare the classifiers for training, once the checkpoint is loaded; not on resuming.

    Args:
        model: an image classifier, or a detector with this package's heads.
        how: `MODEL.INIT_CLASSIFIER`.
        seed: the run's.
        absent_parameters: names of parameters that the checkpoint did not fill.

    Raises:
        RuntimeError: "lws" would scale a classifier that was never trained.
    """
    if how == "reset":
        reset_classifiers(model, seed=seed)
    absent = [name for name in absent_parameters if name.endswith(CLASSIFIER_WEIGHTS)]
    if how == "lws" and absent:
        raise RuntimeError(
            "MODEL.INIT_CLASSIFIER is lws, which learns one scale for each class of a trained "
            f"classifier, but MODEL.WEIGHTS did not fill {', '.join(absent)}; name the checkpoint "
            "of a feature stage with the same classes and the same kind of CLASSIFIER."
        )
