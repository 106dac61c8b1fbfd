"""A time-conditioned classifier of noised data, whose gradient guides a field (Dhariwal & Nichol 2021, section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_labels, check_tensor
from flowlib.nets import TimeClassifier
from flowlib.paths import GaussianPath
from flowlib.times import TimeSampler, uniform_time


def classifier_loss(
    classifier: TimeClassifier,
    path: GaussianPath,
    x: Tensor,
    y: Tensor,
    *,
    time: TimeSampler = uniform_time,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross-entropy of the labels of images noised to random times, in nats, a scalar; its minimiser is log p_t(y|x).

    Args:
        classifier: the network.
        path: how images are noised; that of the field to be guided.
        x: clean images (B, C, H, W) in [-1, 1].
        y: their labels (B,), 0 ... classes - 1.
        time: draws B times in (0, 1) from a generator; `uniform_time` by default.
        generator: the source of times and noise, on the CPU.

    Raises:
        ValueError: for images or labels that do not fit, naming them.
    """
    check_tensor("x", x, finite=False)
    check_labels("y", y, len(x), classifier.classes, x.device)
    if bool((y == classifier.classes).any()):
        raise ValueError(f"y must lie in 0 ... {classifier.classes - 1}: the null guide is no label to learn")
    t = time(len(x), generator).to(x)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return F.cross_entropy(classifier(path.sample(x, t, noise), t).to(x.dtype), y.long())
