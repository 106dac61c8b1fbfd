"""The plain autoencoder: an image, or a point, becomes a few numbers, and these an image again.

What the denoising and the variational autoencoder share with it is here: sizes, training, reconstructions beside
originals, and the table of how good they are. They differ in the loss, and in whether there is a law of latents to
sample from.

Example:
    >>> import torch
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import train
    >>> from flowlib.systems import AutoencoderSystem
    >>> from flowlib.training import Training
    >>> system, training = AutoencoderSystem(latent_channels=4, channels=8), Training(steps=3)
    >>> recipe = Recipe(name="codes", data="digits", system=system, training=training)
    >>> run, x = train(recipe, "runs/codes", pictures=False), torch.zeros(2, 1, 8, 8)
    >>> run.module.encode(x)[0].shape, run.module(x).shape  # 64 pixels, 4 x 2 x 2 numbers, 64 pixels
    (torch.Size([2, 4, 2, 2]), torch.Size([2, 1, 8, 8]))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.data import Data, Spec
from flowlib.metrics.judges import judge_of
from flowlib.nets import Autoencoder, PointAutoencoder
from flowlib.plotting import picture_grid, point_cloud
from flowlib.systems.system import Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.training import Task, Turn


@register("autoencoder")
@dataclass(frozen=True, kw_only=True)
class AutoencoderSystem:
    """An autoencoder trained by squared error alone.

    Attributes:
        latent_channels, channels, factor, depth: those of `Autoencoder`, or for points of `PointAutoencoder`.

    Raises:
        ValueError: for a size that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ()
    certain: ClassVar[bool] = True  # whether a latent is a point

    latent_channels: int = 4
    channels: int = 32
    factor: int = 4
    depth: int = 1
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("latent_channels", "channels", "factor", "depth"):
            check_count(name, getattr(self, name))

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        size, latent = spec.shape[0], self.latent_channels
        if len(spec.shape) == 1:
            return PointAutoencoder(size, latent, self.channels, self.depth, self.certain)
        check_images_of(spec, self.factor)
        return Autoencoder(size, latent, self.channels, self.factor, self.depth, self.certain)

    def loss(self, module: Any, data: Data, turn: Turn) -> Tensor | Mapping[str, Tensor]:
        """What is descended, for this process's part of a batch."""
        x = data.batch(turn.mine)["x"]
        return (module(x).to(x.dtype) - x).square().mean()

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        return [Stage("autoencoder", Task(module, lambda turn: self.loss(module, data, turn), data.count, module))]

    def restore(self, module: Any, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the network is given of images x, and what it makes of it."""
        return x, module(x)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        return report_restored(self, module, data, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Images of the whole set or 1,000 points, what the network is given of them, and what it makes of it."""
        images = len(data.shape) == 3
        whole = data.finite()
        x = whole.images[:: max(1, len(whole) // 10)][:10] if images else whole.images[:1000]
        given, restored = self.restore(module, x, torch.Generator().manual_seed(0))
        rows = {"data": x, "given": given, "made": restored}
        if given is x:
            del rows["given"]
        if not images:
            label = torch.arange(len(rows)).repeat_interleave(len(x))
            return point_cloud(torch.cat(list(rows.values())).cpu(), label, title=f"{title}: {', '.join(rows)}")
        return picture_grid(torch.cat(list(rows.values())).cpu(), columns=len(x), rows=list(rows), title=title)


def check_images_of(spec: Spec, factor: int) -> None:
    """A ValueError unless the data are images whose sides are multiples of `factor`."""
    if len(spec.shape) != 3 or any(size % factor for size in spec.shape[1:]):
        raise ValueError(f"factor {factor} does not divide data of shape {spec.shape}, or these are no images")


@torch.no_grad()
def report_restored(system: Any, module: Any, data: Splits, request: ReportRequest) -> list[Row]:
    """How near test images are to what the network makes of them: "distortion", the squared error summed over pixels,
    and the scores of the data's judge, beside the images themselves and what the network was given of them."""
    judge, test = judge_of(data.train, data.test), data.test
    x = test.images[: request.samples]
    labels = None if test.labels is None else test.labels[: len(x)]
    device, generator = next(module.parameters()).device, torch.Generator().manual_seed(request.seed)
    pairs = [system.restore(module, part.to(device), generator) for part in x.split(request.batch_size)]
    given, made = (torch.cat(part).float().cpu() for part in zip(*pairs, strict=True))
    rows = {"test images": x, "given": given, "restored": made}
    if torch.equal(given, x):
        del rows["given"]
    table: list[Row] = []
    for name, part in rows.items():
        error = float((part - x).square().flatten(1).sum(1).mean())
        table.append({"images": name, "distortion": error, **judge(part, labels)})
    return table
