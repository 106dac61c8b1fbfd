"""An autoencoder whose latent is a grid of tokens: the network of the discrete VAE (Ramesh et al. 2021, sec. 2.1)."""

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_image_shape, check_tensor
from flowlib.nets.autoencoder import Autoencoder
from flowlib.nets.centres import Centres
from flowlib.nets.embeddings import zero_init

EPSILON = 0.1  # what is left free of (0, 1) on both sides by images that are mapped into it


def into_odds(x: Tensor) -> Tensor:
    """Images in [-1, 1] -> [0.1, 0.9], where the logarithm of the odds is finite (Ramesh et al. 2021, appendix A.3)."""
    return (1 - 2 * EPSILON) * (x + 1) / 2 + EPSILON


def from_odds(v: Tensor) -> Tensor:
    """The inverse of `into_odds`; what is outside of [0.1, 0.9] comes out outside of [-1, 1]."""
    return 2 * (v - EPSILON) / (1 - 2 * EPSILON) - 1


class DiscreteAutoencoder(nn.Module):
    """Images (B, in_channels, H, W) to logits of tokens (B, tokens, H / factor, W / factor), and back from tokens.

    Args:
        tokens: K, the size of the codebook.
        code_channels: the length of its vectors.
        in_channels, channels, factor, depth: those of `Autoencoder`, whose encoder and decoder these are.
        law: whether the decoder gives a distribution of each pixel, the location and the logarithm of the scale of its
            log odds (`law`), and an image is that of the locations; or else the image itself.
        centred: whether each token has a patch of its own (`Centres`), to whose logits and to what is made of it the
            convolutions, which see more than one patch, add: at first nothing.

    Raises:
        ValueError: for a size that does not fit, naming it.

    Example:
        >>> import torch
        >>> from flowlib.nets import DiscreteAutoencoder
        >>> autoencoder, x = DiscreteAutoencoder(tokens=16, channels=8), torch.rand(2, 1, 8, 8)
        >>> tokens = autoencoder.encode(x).argmax(1)
        >>> tokens.shape, autoencoder(x).equal(autoencoder.decode_tokens(tokens))  # 2 x 2 tokens say all of an image
        (torch.Size([2, 2, 2]), True)
    """

    edges: ClassVar[tuple[str, ...]] = ("codebook",)

    def __init__(
        self,
        tokens: int = 64,
        code_channels: int = 16,
        in_channels: int = 1,
        channels: int = 32,
        factor: int = 4,
        depth: int = 1,
        law: bool = False,
        centred: bool = False,
    ) -> None:
        super().__init__()
        check_count("tokens", tokens, 2)
        check_count("code_channels", code_channels)
        self.tokens, self.in_channels, self.factor = tokens, in_channels, factor
        self.layers = Autoencoder(in_channels, code_channels, channels, factor, depth)
        self.layers.encoder[-1] = nn.Conv2d(channels, tokens, 1)  # logits where the VAE has means and variances
        self.codebook = nn.Parameter(torch.randn(tokens, code_channels))
        self.has_law = check_flag("law", law)
        if law:
            folded = 2 * in_channels * self.layers.patch**2
            self.layers.decoder[-1] = nn.Conv2d(channels, folded, 3, padding=1)
        size = in_channels * factor**2
        self.centres = Centres(tokens, size, (1 + law) * size) if check_flag("centred", centred) else None
        if centred:
            for last in (self.layers.encoder[-1], self.layers.decoder[-1]):
                zero_init(cast(nn.Conv2d, last))

    def encode(self, x: Tensor) -> Tensor:
        """The logits of q(token | x) at each place: (B, tokens, h, w).

        Raises:
            ValueError: for images (B, in_channels, H, W) of another shape or dtype; H and W are multiples of factor.
        """
        check_image_shape("x", check_tensor("x", x, finite=False), self.in_channels, self.factor)
        logits = self.layers.encoder(F.pixel_unshuffle(x, self.layers.patch))
        return logits if self.centres is None else logits + self.centres.logits(F.pixel_unshuffle(x, self.factor))

    def decode(self, code: Tensor) -> Tensor:
        """Weights over the codebook (B, tokens, h, w), one-hot or relaxed -> images, not clipped to [-1, 1].

        Raises:
            ValueError: for weights of another shape or dtype.
        """
        made = self._decoder(code)
        return from_odds(made.chunk(2, dim=1)[0].float().sigmoid()) if self.has_law else made

    def law(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Weights over the codebook -> location and logarithm of the scale of each pixel's log odds, images both.

        Raises:
            ValueError: for a network without a `law`, or weights of another shape or dtype.
        """
        if not self.has_law:
            raise ValueError("law must be true of a network whose pixels have a distribution")
        location, log_scale = self._decoder(code).float().chunk(2, dim=1)
        return location, log_scale

    def _decoder(self, code: Tensor) -> Tensor:
        check_image_shape("code", check_tensor("code", code, finite=False), self.tokens, sides="h, w")
        made = self.layers.decode(torch.einsum("bkhw,kc->bchw", code, self.codebook.to(code.dtype)))
        return made if self.centres is None else made + F.pixel_shuffle(self.centres.decode(code), self.factor)

    def one_hot(self, index: Tensor) -> Tensor:
        """Tokens (B, h, w), integers 0 ... tokens - 1 -> weights over the codebook (B, tokens, h, w).

        Raises:
            ValueError: for tokens of another shape, dtype or range.
        """
        check_tokens("index", index, self.tokens)
        if index.ndim != 3:
            raise ValueError(f"index must have shape (batch, h, w), got {tuple(index.shape)}")
        return F.one_hot(index.long(), self.tokens).movedim(-1, 1).to(self.codebook.dtype)

    def decode_tokens(self, index: Tensor) -> Tensor:
        """Tokens (B, h, w) -> images; errors as in `one_hot`."""
        return self.decode(self.one_hot(index))

    def forward(self, x: Tensor) -> Tensor:
        """Images -> their reconstructions from the most probable tokens."""
        return self.decode_tokens(self.encode(x).argmax(1))


def check_tokens(name: str, index: object, tokens: int) -> None:
    if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"{name} must be a tensor of integers, got {getattr(index, 'dtype', type(index).__name__)}")
    if not index.numel() or int(index.long().min()) < 0 or int(index.long().max()) >= tokens:
        raise ValueError(f"{name} must hold tokens 0 ... {tokens - 1}, got shape {tuple(index.shape)} with others")
