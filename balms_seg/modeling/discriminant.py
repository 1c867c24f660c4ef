"""A linear discriminant in closed form: a classifier of features that stay as they are.

K classes, D features. The n_c images of class c have the mean m_c and the unbiased covariance S_c;
S is the mean of S_c over the classes that have two images or more. The classifier is

    w_c = A m_c,   b_c = -m_c A m_c / 2 + tr(A S) / (2 n_c),
    A = inverse of (1 - shrinkage) S + shrinkage (tr S / D) I.

Were the features of class c normal about mu_c with the covariance inverse of A, and all classes
equally frequent, log p(c | x) would be mu_c A x - mu_c A mu_c / 2 and what the classes share. But
m_c scatters about mu_c with the covariance S / n_c, so that for a given A the expectation of
m_c A m_c is mu_c A mu_c + tr(A S) / n_c: the fewer images, the lower a class scores. The last term
of b_c makes the expected score mu_c A x - mu_c A mu_c / 2 again, whatever n_c is.

Sources: Friedman 1989, Regularized Discriminant Analysis, for the covariance that is shrunk towards
a multiple of I; the correction is the classical unbiased estimate of a squared distance between
means. That the classes count alike in S is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from balms_seg.distributed import sum_over_ranks


class FeatureSums:
    """What a discriminant needs of the images, added up batch by batch in float64.

    It keeps D x D and K x D numbers: of 2,048 features 34 MB, and 16 MB more for 1,000 classes.

    Attributes:
        counts: (K,) n_c.
    """

    def __init__(self, counts: Tensor, num_features: int) -> None:
        """Start without an image.

        Args:
            counts: (K,) images of each class, over all ranks, that will be added.
            num_features: D.
        """
        self.counts = counts.double()
        # Sum over the images of a class, times this: its covariance. One image has none.
        self._weights = torch.where(self.counts > 1, 1 / (self.counts - 1), 0.0)
        self._sums = self.counts.new_zeros(len(counts), num_features)
        self._products = self.counts.new_zeros(num_features, num_features)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take images in.

        Args:
            features: (B, D).
            labels: (B,) int64 in [0, K).
        """
        features = features.double()
        self._sums.index_add_(0, labels, features)
        self._products += (features * self._weights[labels, None]).T @ features

    def moments(self) -> tuple[Tensor, Tensor]:
        """(K, D) means, 0 for classes without images, and S (D, D), of the images of all ranks.

        Raises:
            ValueError: no class has two images.
        """
        num_classes = int((self.counts > 1).sum())
        if num_classes == 0:
            raise ValueError(
                "Expected a class with two images or more for MODEL.INIT_CLASSIFIER discriminant, "
                "but got none; set it to reset."
            )
        means = sum_over_ranks(self._sums) / self.counts.clamp(min=1)[:, None]
        of_means = (means * (self._weights * self.counts)[:, None]).T @ means
        return means, (sum_over_ranks(self._products) - of_means) / num_classes


def discriminant(
    means: Tensor, covariance: Tensor, counts: Tensor, *, shrinkage: float
) -> tuple[Tensor, Tensor]:
    """The classifier of the formula above, less the mean over the classes, which no softmax sees.

    A class without images gets weights and a bias of 0, the mean of what the others have: it is
    never the first.

    Args:
        means: (K, D).
        covariance: (D, D), S.
        counts: (K,) n_c.
        shrinkage: above 0, so that fewer images than features will do, up to 1.

    Returns:
        (K, D) weights and (K,) biases.

    Raises:
        ValueError: `shrinkage` is out of range, the features of a class are all the same, or
            some are not finite.
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(
            f"Expected a shrinkage above 0 and at most 1, but got {shrinkage}; set "
            "MODEL.INIT_CLASSIFIER_SHRINKAGE."
        )
    if not torch.isfinite(covariance).all():
        raise ValueError(
            "Expected finite features, but some are NaN or infinite; compute them anew, or look "
            "for what is wrong with the trunk's weights."
        )
    spread = covariance.diagonal().mean()
    rounding = torch.finfo(torch.float32).eps * means.square().mean().sqrt()  # of features
    if not spread > rounding**2:
        raise ValueError(
            "Expected features that differ within a class, but their variance there is 0; compute "
            "them anew, or set MODEL.INIT_CLASSIFIER to reset."
        )
    identity = torch.eye(len(covariance)).to(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * spread * identity
    factor = torch.linalg.cholesky(shrunk)
    weights = torch.cholesky_solve(means.T, factor).T
    noise = torch.cholesky_solve(covariance, factor).trace()
    biases = (noise / counts.clamp(min=1) - (weights * means).sum(dim=1)) / 2
    present = counts > 0
    centred = [each - each[present].mean(dim=0) for each in (weights, biases)]
    return torch.where(present[:, None], centred[0], 0.0), torch.where(present, centred[1], 0.0)
