"""A multilayer perceptron for points: enough to learn a flow in the plane in seconds."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.nets.embeddings import Condition, zero_init


class MLPBlock(nn.Module):
    """x + linear(silu(modulated norm(x))): (B, width), (B, dim) -> (B, width). At first x passes unchanged."""

    edges: ClassVar[tuple[str, ...]] = ("modulation",)

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_init(nn.Linear(dim, 2 * width))
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), zero_init(nn.Linear(width, width)))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, dim=1)  # (B, width)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


class MLP(nn.Module):
    """The network net(x, t, y) of points: (B, dim_in), (B,), (B,) -> (B, dim_in).

    Args:
        dim_in: coordinates of a point.
        width: size of the hidden layers.
        depth: residual blocks, of two layers each.
        classes: number of labels, or None for a network without a guide.
        dim: size of the condition vector.

    Raises:
        ValueError: for a size that is not a positive integer, or points of another size, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import MLP
        >>> net = MLP(dim_in=2, width=32, classes=3)
        >>> made = net(torch.randn(5, 2), torch.rand(5), torch.tensor([0, 1, 2, 3, 3]))
        >>> made.shape, made.count_nonzero(), net.null  # it starts at 0
        (torch.Size([5, 2]), tensor(0), 3)
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "head", "carry")

    def __init__(
        self, dim_in: int = 2, width: int = 128, depth: int = 3, classes: int | None = None, dim: int = 64
    ) -> None:
        super().__init__()
        for name, value in (("dim_in", dim_in), ("width", width), ("depth", depth), ("dim", dim)):
            check_count(name, value)
        self.dim_in = dim_in
        self.condition = Condition(dim, classes)
        self.stem = nn.Linear(dim_in, width)
        self.blocks = nn.ModuleList(MLPBlock(width, dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = zero_init(nn.Linear(width, dim_in))
        self.carry = zero_init(nn.Linear(dim, dim_in))

    @property
    def null(self) -> int | None:
        """The null label, or None."""
        return self.condition.null

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim_in:
            raise ValueError(f"x must have shape (batch, {self.dim_in}), got {tuple(x.shape)}")
        condition = F.silu(self.condition(t, y))  # (B, dim)
        h = self.stem(x)  # (B, width)
        for block in self.blocks:
            h = block(h, condition)
        # Points may lie far from 0, where a normalised h forgets how far: a gate on x itself does not.
        return self.head(self.norm(h)) + self.carry(condition) * x
