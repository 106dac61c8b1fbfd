"""Vectors as a short row of whole numbers: principal components, the largest first, each cut into buckets.

So the autoregressive prior of unCLIP writes an embedding like a text (Ramesh et al. 2022, arXiv:2204.06125).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_tensor
from flowlib.precision import double


class PrincipalCodes(nn.Module):
    """Vectors (B, dim) <-> codes (B, components) in 0 ... buckets - 1, once it has `learn`ed from data.

    A component's buckets are equally wide, from the least to the largest value in the data; what lies beyond goes to
    the first or the last. `decode` gives the middles of the buckets, so that within the range a component is at most
    half a bucket off.

    Args:
        dim: size of a vector.
        components: how many are kept, those of the largest variance.
        buckets: of a component.

    Attributes:
        lost: the share of the data's mean square that is not in the components kept, nor in the mean.

    Raises:
        ValueError: for sizes that do not fit; in `learn` for fewer vectors than components.

    Example:
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 0.1])
        >>> codes = PrincipalCodes(dim=3, components=2, buckets=64)
        >>> codes.learn(x)
        >>> bool((codes.decode(codes.encode(x)) - x).square().mean() < 0.01)
        True
    """

    edges: ClassVar[tuple[str, ...]] = ()
    mean: Tensor
    axes: Tensor
    least: Tensor
    width: Tensor
    lost: Tensor

    def __init__(self, dim: int, components: int, buckets: int) -> None:
        super().__init__()
        if check_count("components", components) > check_count("dim", dim):
            raise ValueError(f"components must be at most {dim}, the size of a vector, got {components}")
        self.dim, self.components, self.buckets = dim, components, check_count("buckets", buckets, 2)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.eye(components, dim))  # of unit length, a row each
        self.register_buffer("least", -torch.ones(components))
        self.register_buffer("width", torch.full((components,), 2 / buckets))
        self.register_buffer("lost", torch.zeros(()))

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take mean, axes and ranges from data (N, dim). An axis points to where its largest entry is positive."""
        check_tensor("x", x)
        if x.shape[1:] != (self.dim,) or len(x) <= self.components:
            raise ValueError(f"x must be more than {self.components} vectors (N, {self.dim}), got {tuple(x.shape)}")
        z = double(x)
        mean = z.mean(0)
        _, values, axes = torch.linalg.svd(z - mean, full_matrices=False)
        axes = axes[: self.components]
        axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        places = (z - mean) @ axes.T
        least, most = places.aminmax(dim=0)
        width = (most - least).clamp(min=torch.finfo(torch.float32).tiny) / self.buckets
        lost = values[self.components :].square().sum() / z.square().sum()
        for name, value in (("mean", mean), ("axes", axes), ("least", least), ("width", width), ("lost", lost)):
            getattr(self, name).copy_(value)

    def encode(self, x: Tensor) -> Tensor:
        """Vectors (B, dim) -> codes (B, components), int64."""
        places = (x - self.mean) @ self.axes.T
        return ((places - self.least) / self.width).floor().long().clamp(0, self.buckets - 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, components) -> vectors (B, dim), of the mean and the components that are kept."""
        return self.mean + (self.least + (codes + 0.5) * self.width) @ self.axes
