"""MAE: an image encoder that learns to see by making up the three quarters of an image that are hidden from it.

What makes it a masked autoencoder (He et al. 2022, arXiv:2111.06377): the encoder sees the visible patches only, which
also makes it cheap; a light decoder fills in the rest; the loss is that of the hidden patches alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_number
from flowlib.data import Data, Spec
from flowlib.nets import ViT, patchify, unpatchify
from flowlib.nets.mae import MaskedAutoencoder, visible_patches
from flowlib.plotting import picture_grid
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, no_parts, register
from flowlib.training import Task, Training, Turn
from flowlib.training.order import stream


def normalised_patches(patches: Tensor) -> Tensor:
    """Each patch (..., D) less its mean, over its standard deviation; a patch of one value is 0.

    He et al. 2022 predict these in the place of pixels. Their code adds 1e-6 to the variance; here nothing is added.
    """
    centred = patches - patches.mean(-1, keepdim=True)
    scale = patches.std(-1, keepdim=True)
    return torch.where(scale > 0, centred / torch.where(scale > 0, scale, 1), 0)


def hidden_error(predicted: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """The mean squared error of the patches that were hidden, a scalar.

    Args:
        predicted, target: all patches (B, N, D).
        keep: those that were seen (B, K), K < N, which do not count.

    Raises:
        ValueError: for shapes that do not fit, or where nothing was hidden.

    Example:
        >>> wrong = torch.tensor([[[1.0], [5.0], [2.0]]])
        >>> hidden_error(wrong, torch.zeros(1, 3, 1), torch.tensor([[1]]))  # (1 + 4) / 2
        tensor(2.5000)
    """
    if predicted.shape != target.shape or predicted.ndim != 3:
        raise ValueError(f"predicted must have the shape of target, got {predicted.shape} and {target.shape}")
    batch, patches = predicted.shape[:2]
    if keep.ndim != 2 or len(keep) != batch or keep.shape[1] >= patches:
        raise ValueError(f"keep must be fewer than {patches} patches for each of {batch}, got {tuple(keep.shape)}")
    hidden = torch.ones_like(predicted[..., 0]).scatter(1, keep, 0)
    return (hidden * (predicted - target).square().mean(2)).sum() / hidden.sum()


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Sizes of an image encoder, a `ViT` without a class token.

    Attributes:
        patch: pixels a side of a patch, a divisor of the image's.
        width, depth, heads: of its transformer.
    """

    patch: int = 2
    width: int = 96
    depth: int = 4
    heads: int = 4

    def encoder(self, spec: Spec) -> ViT:
        """The untrained encoder; a ValueError for data of `spec` that are no square images of whole patches."""
        if len(spec.shape) != 3 or spec.shape[1] != spec.shape[2]:
            raise ValueError(f"it reads square images, got data of shape {spec.shape}")
        return ViT(spec.shape[0], spec.shape[1], self.patch, self.width, self.depth, self.heads, pool="mean")

    def check_sizes(self) -> None:
        for name in ("patch", "width", "depth", "heads"):
            check_count(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class MAESettings:
    """What is hidden, and the decoder that fills it in.

    Attributes:
        hidden: the share of patches that is hidden, in (0, 1); 0.75 in the paper.
        normalised: whether the pixels of each patch are predicted as `normalised_patches` has them.
        decoder_width, decoder_depth, decoder_heads: of the decoder.
    """

    hidden: float = 0.75
    normalised: bool = True
    decoder_width: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 4

    def check(self) -> None:
        check_number("hidden", self.hidden, 0, 1, low_open=True, high_open=True)
        check_flag("normalised", self.normalised)
        for name in ("decoder_width", "decoder_depth", "decoder_heads"):
            check_count(name, getattr(self, name))

    def autoencoder(self, encoder: ViT) -> MaskedAutoencoder:
        """The encoder with an untrained decoder."""
        return MaskedAutoencoder(encoder, self.decoder_width, self.decoder_depth, self.decoder_heads)

    def target(self, x: Tensor, patch: int) -> Tensor:
        """What is predicted of images: patches (B, N, C patch^2)."""
        patches = patchify(x, patch)
        return normalised_patches(patches) if self.normalised else patches

    def error(self, mae: Any, x: Tensor, keep: Tensor) -> Tensor:
        """The error of the hidden patches of images (B, C, S, S)."""
        return hidden_error(mae(x, keep).float(), self.target(x, mae.patch), keep)

    def task(self, mae: MaskedAutoencoder, data: Data) -> Task:
        """Learning to fill in; every step hides other patches."""

        def loss(turn: Turn) -> Tensor:
            x = data.batch(turn.mine)["x"]
            keep = visible_patches(len(turn.index), mae.encoder.patches, self.hidden, turn.generator)
            return self.error(mae, x, keep[turn.part].to(x.device))

        return Task(mae, loss, data.count, mae)


@dataclass(frozen=True, kw_only=True)
class MAEStage(MAESettings, Training):
    """The pre-training that a system does first with its image encoder: what is hidden, the decoder, the training."""

    def __post_init__(self) -> None:
        Training.__post_init__(self)
        self.check()

    def stage(self, encoder: ViT, data: Data) -> Stage:
        """The training of an encoder, which ends up with its averaged weights; the decoder's come from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(self.seed, "decoder").initial_seed())
            mae = self.autoencoder(encoder).to(data.device)

        def finish(trained: nn.Module) -> None:
            assert isinstance(trained, MaskedAutoencoder)
            encoder.load_state_dict(trained.encoder.state_dict())

        return Stage("mae", self.task(mae, data), self, finish)


@register("mae")
@dataclass(frozen=True, kw_only=True)
class MAESystem(EncoderSettings, MAESettings):
    """A masked autoencoder by itself, on whose encoder a SAM may stand as its part "mae"."""

    stands_on: ClassVar[tuple[str, ...]] = ()

    parts: Mapping[str, str] = no_parts()

    def __post_init__(self) -> None:
        self.check_sizes()
        self.check()

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        return self.autoencoder(self.encoder(spec))

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, MaskedAutoencoder)
        return [Stage("mae", self.task(module, data))]

    @torch.no_grad()
    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """The error of the hidden patches of test images, and that of guessing the same patch everywhere."""
        assert isinstance(module, MaskedAutoencoder)
        x = data.test.images[: request.samples]
        keep = visible_patches(len(x), module.encoder.patches, self.hidden, stream(request.seed, "hidden"))
        place, total = next(module.parameters()).device, 0.0
        for some, seen in zip(x.split(request.batch_size), keep.split(request.batch_size), strict=True):
            total += len(some) * float(self.error(module, some.to(place), seen.to(place)))
        mean = self.target(data.train.images[:1000], self.patch).mean((0, 1))
        target = self.target(x, self.patch)
        guess = float(hidden_error(mean.expand_as(target), target, keep))
        return [{"patches": "filled in", "error": total / len(x)}, {"patches": "a mean patch", "error": guess}]

    @torch.no_grad()
    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Eight images, what is seen of them, and that with the rest filled in; normalised, by its own mean and scale.

        The mean and the scale of a hidden patch are taken from the image: the network was not asked for them.
        """
        assert isinstance(module, MaskedAutoencoder)
        x, side = data.batch(torch.arange(8))["x"], data.shape[1]
        keep = visible_patches(8, module.encoder.patches, self.hidden, stream(0, "hidden")).to(x.device)
        patches, made = patchify(x, self.patch), module(x, keep).float()
        if self.normalised:
            made = patches.mean(-1, keepdim=True) + patches.std(-1, keepdim=True) * made
        seen = torch.zeros_like(patches[..., :1]).scatter(1, keep[..., None], 1) > 0
        rows = [patches, torch.where(seen, patches, 0), torch.where(seen, patches, made)]
        pictures = torch.cat([unpatchify(row, self.patch, side, side) for row in rows]).clamp(-1, 1)
        return picture_grid(pictures.cpu(), columns=8, rows=["image", "seen", "filled in"], title=title)
