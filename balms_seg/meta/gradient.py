"""The one-step meta gradient of a linear classifier in closed form.

N: training rows, M: meta rows, D: features, C: columns of the classifier.

The training loss is sum_i w_i l_i / Z. One SGD step on it gives virtual parameters, which are
linear in the sample weights w, so that the meta loss L of the virtual parameters has

    dL / dw_i = -q_i / Z,    q_i = <dl_i / dW, r_W dL/dW> + <dl_i / db, r_b dL/db>

with dl_i / dW the outer product of row i's residual (dl_i / dlogits) and features, dL/dW and dL/db
taken at the virtual parameters, and r the distance a parameter moves for each unit of gradient:
its learning rate, adjusted for momentum. Three matrix products replace second-order autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balms_seg.device_copies import sent
from balms_seg.meta.sgd import SGDSettings, sgd_step

Sum = Callable[[Tensor], Tensor]  # adds a tensor up over the ranks; out of place or not


class LinearClassifier(NamedTuple):
    """Weight (C, D) and bias (C,) of a linear layer, or something of their shapes."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) features to (N, C) logits, in the parameters' dtype also under autocast."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return F.linear(features.to(self.weight), self.weight, self.bias)


class MetaGradient(NamedTuple):
    """What one virtual step gives.

    Attributes:
        sample_weights: (N,) derivative of the meta loss by each training row's weight.
        virtual: the classifier after the virtual step.
    """

    sample_weights: Tensor
    virtual: LinearClassifier


def linear_classifier(layer: nn.Module) -> LinearClassifier:
    """The detached parameters of a linear layer, at least in float32.

    Raises:
        TypeError: the layer is not an `nn.Linear` with a bias, or its weight is computed from
            other parameters (weight normalisation).
    """
    if isinstance(layer, nn.Linear):
        weight, bias = layer.weight, layer.bias
        if isinstance(weight, nn.Parameter) and isinstance(bias, nn.Parameter):
            return LinearClassifier(_widen(weight.detach()), _widen(bias.detach()))
    raise TypeError(
        f"Expected the box classifier to be an nn.Linear with a bias, but got {layer}; the meta "
        "step unrolls nothing else. Choose a classifier that is one linear layer, or train without "
        "the meta step."
    )


def classifier_gradient(features: Tensor, logit_gradient: Tensor) -> LinearClassifier:
    """Gradient of a loss by weight and bias: (N, D) features, (N, C) derivative by the logits."""
    with torch.autocast(logit_gradient.device.type, enabled=False):
        weight = logit_gradient.t() @ features.to(logit_gradient)
    return LinearClassifier(weight, logit_gradient.sum(dim=0))


def virtual_step(
    classifier: LinearClassifier,
    gradient: LinearClassifier,
    sgd: Sequence[SGDSettings],
) -> LinearClassifier:
    """The classifier after one SGD step; `sgd` has the settings of the weight, then the bias."""
    weight, bias = (sgd_step(*each) for each in zip(classifier, gradient, sgd, strict=True))
    return LinearClassifier(weight, bias)


@torch.no_grad()
def one_step_meta_gradient(
    classifier: LinearClassifier,
    sgd: Sequence[SGDSettings],
    *,
    features: Tensor,
    residuals: Tensor,
    sample_weights: Tensor,
    normaliser: float | Tensor,
    meta_features: Tensor,
    meta_residuals: Callable[[Tensor], Tensor],
    meta_normaliser: float | Tensor,
    learned: Tensor | None = None,
    sum_over_ranks: Sum | None = None,
) -> MetaGradient:
    """Derivative of a meta loss, one SGD step ahead, by the weight of each training sample.

    The training loss is sum_i sample_weights_i l_i / normaliser, the meta loss
    sum_j l_j / meta_normaliser at the virtual parameters. Nothing is changed, no graph is kept;
    half precision (features of a bank, autocast) is computed in the parameters' dtype.

    Args:
        classifier: current parameters, see `linear_classifier`.
        sgd: settings of the weight, then of the bias, see `sgd_settings`.
        features: (N, D) classifier input of the training rows.
        residuals: (N, C) derivative of each row's unweighted loss by its logits at the current
            parameters; autograd of their sum finds it.
        sample_weights: (N,).
        normaliser: what the weighted losses are divided by, usually the rows on all ranks.
        meta_features: (M, D); M = 0 is legal and gives a gradient of zero.
        meta_residuals: (M, C) logits of the virtual classifier to the derivative of each meta row's
            loss by its logits.
        meta_normaliser: what the meta losses are divided by, usually the meta rows on all ranks.
        learned: (N,) bool, training rows whose derivative is wanted; the others get 0 at no cost.
            On the CPU nobody waits for the device. None: all.
        sum_over_ranks: adds a tensor up over the ranks, for several of them. It is called for
            the virtual gradient (weight, then bias), then for the meta gradient.

    Returns:
        The derivative (N,) for this rank's rows, and the virtual classifier, equal on all ranks.

    Raises:
        ValueError: shapes disagree.

    Source: Ren et al. 2020 (arXiv 2007.10740), the bilevel step of section 3.2 with SGD unrolled
    once; the closed form is ours.
    """
    _check_features(classifier, features)
    _check_residuals(classifier, features, residuals, name="residuals")
    _check_features(classifier, meta_features)
    if sample_weights.shape != features.shape[:1]:
        raise ValueError(
            f"Expected sample_weights of shape ({len(features)},), one for each row of features, "
            f"but got {tuple(sample_weights.shape)}."
        )
    features, residuals, sample_weights, meta_features = (
        tensor.detach().to(classifier.weight)
        for tensor in (features, residuals, sample_weights, meta_features)
    )
    with torch.autocast(features.device.type, enabled=False):
        weighted = residuals * (sample_weights / normaliser)[:, None]
        gradient = _summed(classifier_gradient(features, weighted), sum_over_ranks)
        virtual = virtual_step(classifier, gradient, sgd)

        meta_logit_gradient = meta_residuals(virtual.logits(meta_features)).to(meta_features)
        _check_residuals(classifier, meta_features, meta_logit_gradient, name="meta residuals")
        meta_logit_gradient = meta_logit_gradient / meta_normaliser
        meta = _summed(classifier_gradient(meta_features, meta_logit_gradient), sum_over_ranks)

        # <residual x features, G> = (residual @ G) . features: no (N, C, D) tensor is made.
        rate_weight, rate_bias = (settings.gradient_rate for settings in sgd)
        rows: slice | Tensor = slice(None)
        if learned is not None:
            rows = sent(learned.nonzero().flatten(), features.device)
        residuals = residuals[rows]
        inner = (residuals @ (rate_weight * meta.weight) * features[rows]).sum(dim=1)
        inner = inner + residuals @ (rate_bias * meta.bias)
        derivative = torch.zeros_like(sample_weights)
        derivative[rows] = -inner / normaliser
        return MetaGradient(sample_weights=derivative, virtual=virtual)


def _summed(gradient: LinearClassifier, sum_over_ranks: Sum | None) -> LinearClassifier:
    if sum_over_ranks is None:
        return gradient
    return LinearClassifier(sum_over_ranks(gradient.weight), sum_over_ranks(gradient.bias))


def _widen(parameter: Tensor) -> Tensor:
    return parameter if parameter.dtype == torch.float64 else parameter.float()


def _check_features(classifier: LinearClassifier, features: Tensor) -> None:
    num_features = classifier.weight.shape[1]
    if features.dim() != 2 or features.shape[1] != num_features:
        raise ValueError(
            f"Expected features of shape (N, {num_features}) for a classifier weight of shape "
            f"{tuple(classifier.weight.shape)}, but got {tuple(features.shape)}."
        )


def _check_residuals(
    classifier: LinearClassifier, features: Tensor, residuals: Tensor, *, name: str
) -> None:
    expected = (len(features), len(classifier.bias))
    if residuals.shape != expected:
        raise ValueError(f"Expected {name} of shape {expected}, but got {tuple(residuals.shape)}.")
