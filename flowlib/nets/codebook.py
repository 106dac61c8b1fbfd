"""Vector quantisation: an autoencoder whose latents are entries of a learned codebook (van den Oord et al. 2017).

In a latent model the quantisation belongs to the decoder, as in Rombach et al. 2022, section 3.1: the flow learns the
encoder's own output, which is continuous, and `decode` moves it to the nearest entries first.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_image_shape, check_number, check_tensor
from flowlib.nets.autoencoder import Autoencoder
from flowlib.precision import double


class Codebook(nn.Module):
    """Each pixel of a latent to the nearest of `size` vectors, with a gradient that goes straight through.

    Args:
        size: vectors in the codebook, 2 or more.
        dim: of a vector: the latent's channels.
        commitment: how much more slowly the latents move to their vectors than the reverse, >= 0.

    Raises:
        ValueError: for a number that does not fit; in calls for latents of another shape or dtype.

    Example:
        >>> import torch
        >>> from flowlib.nets import Codebook
        >>> codes, index = Codebook(size=8, dim=3), torch.tensor([[[5, 0], [7, 2]]])
        >>> e, loss, found = codes(codes.look_up(index))  # of its own vectors
        >>> found.equal(index), loss.item()
        (True, 0.0)
        >>> z = torch.randn(1, 3, 2, 2, requires_grad=True)
        >>> codes(z)[0].sum().backward()
        >>> z.grad.unique()  # the gradient goes straight through
        tensor([1.])
    """

    edges: ClassVar[tuple[str, ...]] = ("codebook",)

    def __init__(self, size: int, dim: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(check_count("size", size, 2), check_count("dim", dim)))
        self.commitment = check_number("commitment", commitment, 0)

    def nearest(self, z: Tensor) -> Tensor:
        """The index of the nearest vector: (B, dim, h, w) -> (B, h, w) in 0 ... size - 1."""
        check_image_shape("z", check_tensor("z", z, finite=False), self.codebook.shape[1], sides="h, w")
        points = z.movedim(1, -1).reshape(-1, z.shape[1])
        # |z - e|^2 without |z|^2, which is the same for all e.
        score = self.codebook.square().sum(1) - 2 * points @ self.codebook.T.to(z)
        return score.argmin(1).reshape(len(z), *z.shape[2:])

    def look_up(self, index: Tensor) -> Tensor:
        """The vectors of indices: (B, h, w) -> (B, dim, h, w)."""
        return self.codebook[index.long()].movedim(-1, 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise latents (B, dim, h, w).

        Returns:
            e, the nearest vectors (B, dim, h, w), whose gradient is handed to z as if e were z;
            the loss |sg(z) - e|^2 + commitment |z - sg(e)|^2, a mean over components, where sg stops the gradient
            (ibid., equation 3): the first term moves the vectors to the latents, the second the latents to the vectors;
            the indices (B, h, w).
        """
        index = self.nearest(z)
        e = self.look_up(index).to(z)
        loss = (z.detach() - e).square().mean() + self.commitment * (z - e.detach()).square().mean()
        return e.detach() + (z - z.detach()), loss, index


def perplexity(index: Tensor, size: int) -> float:
    """exp of the entropy of how often each vector is used: from 1, one for all, to `size`, all alike.

    Args:
        index: integers 0 ... size - 1, any shape.
        size: vectors in the codebook.

    Raises:
        ValueError: for indices outside that range.

    Example:
        >>> import torch
        >>> from flowlib.nets import perplexity
        >>> round(perplexity(torch.tensor([0, 1, 2, 3]), size=8), 4), perplexity(torch.tensor([5, 5, 5, 5]), size=8)
        (4.0, 1.0)
    """
    index = index if index.is_floating_point() else index.long()
    if index.is_floating_point() or int(index.min()) < 0 or int(index.max()) >= check_count("size", size):
        raise ValueError(f"index must hold integers 0 ... {size - 1}, got {index.min()} ... {index.max()}")
    share = double(torch.bincount(index.flatten(), minlength=size)) / index.numel()
    return float(torch.special.entr(share).sum().exp())


class CodebookAutoencoder(Autoencoder):
    """An autoencoder that decodes the nearest entries of a codebook; other arguments as in `Autoencoder`.

    Args:
        size: vectors in the codebook.
        commitment: as in `Codebook`.

    Raises:
        ValueError: for a size that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import CodebookAutoencoder
        >>> autoencoder = CodebookAutoencoder(in_channels=1, channels=8, size=16)
        >>> z, _ = autoencoder.encode(torch.rand(2, 1, 8, 8))
        >>> nearest = autoencoder.codes.look_up(autoencoder.codes.nearest(z))
        >>> autoencoder.decode(z).allclose(autoencoder.decode(nearest), atol=1e-6)
        True
    """

    def __init__(
        self,
        in_channels: int = 1,
        latent_channels: int = 4,
        channels: int = 32,
        factor: int = 4,
        depth: int = 1,
        size: int = 256,
        commitment: float = 0.25,
    ) -> None:
        super().__init__(in_channels, latent_channels, channels, factor, depth)
        self.codes = Codebook(size, latent_channels, commitment)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent before it is quantised, and minus infinity as the logarithm of its variance: it is certain."""
        mean, _ = super().encode(x)
        return mean, torch.full_like(mean, -torch.inf)

    def decode(self, z: Tensor) -> Tensor:
        """Quantise latents (B, latent_channels, h, w), then decode them; errors as in `Autoencoder.decode`."""
        return super().decode(self.codes(z)[0])
