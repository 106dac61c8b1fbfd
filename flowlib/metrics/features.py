"""Comparing two sets of features: the Fréchet distance, and improved precision and recall.

The Fréchet distance sees means and covariances, and mixes the fidelity of samples with their variety.
Precision and recall tell the two apart. Both are computed in float64.
"""

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.metrics.distances import BLOCK_ENTRIES, check_pair, check_points


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The squared 2-Wasserstein distance between Gaussians fitted to two sets of features, as in the FID.

    Biased upwards for finite samples, so compare only values from equal counts.

    Args:
        features_a: (N, D); features_b: (M, D); N and M both above D, or a covariance would be singular.

    Returns:
        The distance, >= 0; 0 for identical sets up to rounding.

    Raises:
        ValueError: for features of another shape or dtype, not finite, of different dimension or on different
            devices; for too few samples.

    Source: Heusel et al., "GANs trained by a two time-scale update rule" (2017, arXiv:1706.08500), eq. 6.

    Example:
        >>> import torch
        >>> from flowlib.metrics import frechet_distance
        >>> features = torch.randn(100, 3)
        >>> round(frechet_distance(features, features + 2.0), 3)  # the same shape, moved by 2 in each of 3 directions
        12.0
    """
    dimension = check_points("features_a", features_a).shape[1]
    a, b = check_pair("features_a", features_a, "features_b", features_b, minimum=dimension + 1)
    covariance_a, covariance_b = torch.cov(a.T).reshape(dimension, -1), torch.cov(b.T).reshape(dimension, -1)
    return frechet_distance_of_moments(a.mean(0), covariance_a, b.mean(0), covariance_b)


def frechet_distance_of_moments(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """`|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^½)` from means (D,) and covariances (D, D), in float64.

    Raises:
        ValueError: for means or covariances of another shape or dtype, not finite, on different devices, or a
            covariance that is not symmetric and positive semi-definite (up to 1e-5 of its largest entry).

    Source: Dowson, Landau, "The Fréchet distance between multivariate normal distributions" (1982), eq. 4.

    Example:
        >>> import torch
        >>> from flowlib.metrics import frechet_distance_of_moments
        >>> one = torch.eye(2)
        >>> round(frechet_distance_of_moments(torch.zeros(2), one, torch.ones(2), 4 * one), 6)  # 2 + 2 (2 - 1)^2
        4.0
    """
    for name, mean in (("mean_a", mean_a), ("mean_b", mean_b)):
        if check_tensor(name, mean, batch=False).ndim != 1:
            raise ValueError(f"{name} must have shape (dimension,), got {tuple(mean.shape)}")
    rows_a, rows_b = check_pair("mean_a", mean_a[None], "mean_b", mean_b[None])
    cov_a, cov_b = check_pair("cov_a", cov_a, "cov_b", cov_b)
    root_a = _symmetric_root("cov_a", cov_a, len(mean_a))
    root_b = _symmetric_root("cov_b", cov_b, len(mean_b))
    # C_a C_b is similar to R Rᵀ with R = C_a^½ C_b^½, so the trace of its root is the sum of R's singular
    # values. The roots of the eigenvalues of a product would turn a rounding error of 1e-16 into 1e-8.
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    traces = root_a.square().sum() + root_b.square().sum()
    distance = (rows_a - rows_b).square().sum() + traces - 2 * overlap
    return max(float(distance), 0.0)  # rounding can leave -1e-14 for identical sets


def _symmetric_root(name: str, matrix: Tensor, dimension: int) -> Tensor:
    if tuple(matrix.shape) != (dimension, dimension):
        raise ValueError(f"{name} must have shape {(dimension, dimension)}, got {tuple(matrix.shape)}")
    tolerance = 1e-5 * float(matrix.abs().max())
    values, vectors = torch.linalg.eigh(matrix)
    if float((matrix - matrix.T).abs().max()) > tolerance or float(values.min()) < -tolerance:
        raise ValueError(f"{name} must be symmetric and positive semi-definite")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision (share of fakes that look real) and recall (share of reals that the fakes cover).

    A set's manifold is the union of balls around its points, each reaching to the point's k-th neighbour in
    the set. Precision is the share of fakes in the manifold of the reals, recall that of reals in the
    manifold of the fakes.

    Args:
        real: features (N, D); fake: features (M, D). The paper takes N = M: balls shrink as a set grows.
        k: the neighbour that sets a ball's radius; below N and M.

    Returns:
        (precision, recall), both in [0, 1].

    Raises:
        ValueError: for features of another shape or dtype, not finite, of different dimension or on different
            devices; for k < 1 or too few samples for it.

    Source: Kynkäänniemi et al., "Improved precision and recall metric" (2019, arXiv:1904.06991), eqs. 1, 2.

    Example:
        >>> import torch
        >>> from flowlib.metrics import precision_recall
        >>> real = torch.randn(50, 2)
        >>> precision_recall(real, real), precision_recall(real, real + 100)
        ((1.0, 1.0), (0.0, 0.0))
    """
    check_count("k", k)
    real, fake = check_pair("real", real, "fake", fake, minimum=k + 1)
    center = real.mean(dim=0)  # distances do not change, their rounding errors shrink
    real, fake = real - center, fake - center
    # The rounding error of |a|² + |b|² - 2ab: without this slack, copies of one point would miss each other.
    largest = max(float(real.square().sum(1).max()), float(fake.square().sum(1).max()))
    slack = 8 * real.shape[1] * torch.finfo(real.dtype).eps * largest
    return _covered(fake, real, k, slack), _covered(real, fake, k, slack)


def _covered(points: Tensor, centers: Tensor, k: int, slack: float) -> float:
    """The share of `points` that lie in a ball around one of `centers` reaching to its k-th neighbour."""
    rows = max(1, BLOCK_ENTRIES // len(centers))
    nearest = [_squared_distances(block, centers).topk(k + 1, largest=False) for block in centers.split(rows)]
    # The nearest of all is the point itself, so the k-th neighbour has index k.
    reach = torch.cat([best.values[:, k] for best in nearest]) + slack
    inside = [(_squared_distances(block, centers) <= reach).any(dim=1) for block in points.split(rows)]
    return float(torch.cat(inside).double().mean())


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return torch.addmm(squares, a, b.T, alpha=-2)
