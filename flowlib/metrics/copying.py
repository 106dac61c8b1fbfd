"""Whether samples lie closer to the training data than new data do (Meehan, Chaudhuri & Dasgupta 2020).

A model that repeats its training data has perfect samples by every distance between distributions. What gives it away
is a third set: data that were held out. The distance of a sample to its nearest training datum should be distributed as
that of held-out data. Whether it is smaller is a question for the rank test of Mann and Whitney.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from flowlib.checks import check_labels, check_tensor


class Copying(NamedTuple):
    """What `data_copying` finds.

    Attributes:
        score: C_T of the paper: the standardised rank statistic, averaged over labels by their share of the held-out
            data. Standard normal, or narrower, for samples of the data's law; far below 0 they copy, far above 0 they
            lie farther from the training data than new data do.
        nearest: median distance of the samples to their nearest training data.
        held_out: that of held-out data.
        closer: share of samples nearer than the held-out median; 1/2 is neither copying nor straying.
    """

    score: float
    nearest: float
    held_out: float
    closer: float


def nearest_distance(x: Tensor, data: Tensor) -> Tensor:
    """Euclidean distance of each of x (B, ...) to the nearest of data (N, ...), (B,).

    Example:
        >>> import torch
        >>> from flowlib.metrics import nearest_distance
        >>> nearest_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [6.0, 8.0]]))
        tensor([5.], dtype=torch.float64)
    """
    from sklearn.neighbors import NearestNeighbors

    check_tensor("x", x)
    if check_tensor("data", data).shape[1:] != x.shape[1:]:
        raise ValueError(f"data must have shape (N, *{tuple(x.shape[1:])}), got {tuple(data.shape)}")
    found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(data.flatten(1).numpy())
    return torch.from_numpy(found.kneighbors(x.flatten(1).numpy())[0][:, 0])


def data_copying(
    samples: Tensor, held_out: Tensor, train: Tensor, labels: tuple[Tensor, Tensor, Tensor] | None = None
) -> Copying:
    """The data-copying test, over all data, or within labels.

    Args:
        samples: (M, ...); held_out: (N, ...), data that the model has not seen; train: (T, ...), those that it has.
        labels: of the samples, of the held-out data and of the training data, each (their count,), 0 ...: distances
            are to training data of the same label, and ranks among samples and held-out data of it. Labels of which
            one of the three sets has nothing are left out.

    Raises:
        ValueError: for shapes that do not fit, or if no label has data in all three sets.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> train, held_out, fresh = torch.randn(3, 500, 4, generator=g).unbind()
        >>> abs(data_copying(fresh, held_out, train).score) < 3, data_copying(train + 1e-3, held_out, train).score < -20
        (True, True)
    """
    sets = (samples, held_out, train)
    if labels is None:
        labels = tuple(torch.zeros(len(one), dtype=torch.long) for one in sets)  # type: ignore[assignment]
    assert labels is not None
    for name, one, y in zip(("samples", "held_out", "train"), sets, labels, strict=True):
        check_labels(f"the labels of {name}", y, len(one), torch.iinfo(torch.int32).max, one.device)
    score, weight, own, new = 0.0, 0, [], []
    for label in torch.cat(labels).unique().tolist():
        cell = [one[y == label] for one, y in zip(sets, labels, strict=True)]
        if not all(map(len, cell)):
            continue
        near, usual = nearest_distance(cell[0], cell[2]), nearest_distance(cell[1], cell[2])
        score += len(usual) * _standardised(near, usual)
        weight += len(usual)
        own.append(near)
        new.append(usual)
    if not weight:
        raise ValueError("no label has samples, held-out data and training data")
    near, usual = torch.cat(own), torch.cat(new)
    return Copying(
        score / weight, float(near.median()), float(usual.median()), float((near < usual.median()).double().mean())
    )


def _standardised(near: Tensor, usual: Tensor) -> float:
    """Mann and Whitney's U of the first distances, less its mean and over its deviation under one law."""
    from scipy.stats import mannwhitneyu

    m, n = len(near), len(usual)
    u = float(mannwhitneyu(near.numpy(), usual.numpy()).statistic)  # pairs in which the first is larger
    return (u - m * n / 2) / (m * n * (m + n + 1) / 12) ** 0.5
