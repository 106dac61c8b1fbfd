"""What people would use in the place of flowlib to learn MNIST's digits by label, each with its own settings.

A rival is trained for so many seconds from nothing, by its own loop, and then sampled by labels. The network of MIT's
course 6.S184, lab 3 (2025), and its loop are written anew from the course's description; the others are called as their
users call them. Images come in as (N, 1, 28, 28) in [-1, 1], and go out so.
"""

import importlib.util
import math
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _common import clock
from torch import Tensor, nn

CLASSES = 10


class Rival(ABC):
    """A network, its loss, its optimiser and its sampler.

    Attributes:
        batch: images in a step.
        evaluations: network calls for a sample.
    """

    batch: int
    evaluations: int
    net: nn.Module

    def __init__(self, seconds: float, evaluations: int | None = None) -> None:
        """Make it, to be trained for so many seconds, and to sample with so many calls, by default its own number."""
        self.evaluations = evaluations or self.evaluations

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> None:
        """Learn from a batch."""

    @abstractmethod
    def sample(self, y: Tensor) -> Tensor:
        """A sample of each label."""


def train_for(rival: Rival, images: Tensor, labels: Tensor, seconds: float, generator: torch.Generator) -> int:
    """Train on batches drawn anew each time until the time is up; how many images were seen."""
    start, seen = clock(), 0
    rival.net.train()
    while clock() - start < seconds:
        chosen = torch.randint(len(images), (rival.batch,), generator=generator)
        rival.step(images[chosen], labels[chosen])
        seen += rival.batch
    rival.net.eval()
    return seen


def alone(package: str, name: str) -> Any:
    """A module of a package without the package, which would import torchvision, of which not every torch has a build.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    spec = importlib.util.spec_from_file_location(f"{package}_{name}", Path(found.origin).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ResidualLayer(nn.Module):
    """Two convolutions, between which the embeddings of time and label are added."""

    def __init__(self, channels: int, embedded: int) -> None:
        super().__init__()
        self.before, self.after = (
            nn.Sequential(nn.SiLU(), nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1))
            for _ in range(2)
        )
        self.time, self.label = (
            nn.Sequential(nn.Linear(embedded, embedded), nn.SiLU(), nn.Linear(embedded, channels)) for _ in range(2)
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h = self.before(x) + self.time(t)[:, :, None, None] + self.label(y)[:, :, None, None]
        return x + self.after(h)


class LabUNet(nn.Module):
    """The U-Net of lab 3: three widths, skips that are added, learned Fourier features of time, batch norms."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128), layers: int = 2, embedded: int = 40) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, channels[0], 3, padding=1), nn.BatchNorm2d(channels[0]), nn.SiLU())
        self.frequencies = nn.Parameter(torch.randn(embedded // 2))
        self.label = nn.Embedding(CLASSES + 1, embedded)

        def stack(width: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualLayer(width, embedded) for _ in range(layers))

        pairs = list(pairwise(channels))
        self.encoders = nn.ModuleList(stack(width) for width, _ in pairs)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.middle = stack(channels[-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(b, a, 3, padding=1))
            for a, b in reversed(pairs)
        )
        self.decoders = nn.ModuleList(stack(width) for width, _ in reversed(pairs))
        self.last = nn.Conv2d(channels[0], 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        angles = 2 * math.pi * t[:, None] * self.frequencies
        at = torch.cat([angles.sin(), angles.cos()], 1) * math.sqrt(2)
        label, kept = self.label(y), []
        h = self.first(x)
        for stack, down in zip(self.encoders, self.down, strict=True):
            for layer in stack:  # type: ignore[union-attr]
                h = layer(h, at, label)
            kept.append(h := down(h))
        for layer in self.middle:
            h = layer(h, at, label)
        for stack, up in zip(self.decoders, self.up, strict=True):
            h = up(h + kept.pop())
            for layer in stack:  # type: ignore[union-attr]
                h = layer(h, at, label)
        return self.last(h)


class Lab3(Rival):
    """Flow matching on the linear path: Adam at 1e-3, batches of 250, a tenth of the labels dropped, Euler 100.

    The lab scales MNIST to 32 x 32; here its margin is widened to that, so that no sample is blurred by scaling back.
    """

    batch, evaluations = 250, 100

    def __init__(self, seconds: float, evaluations: int | None = None) -> None:
        super().__init__(seconds, evaluations)
        self.net = LabUNet()
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def step(self, x: Tensor, y: Tensor) -> None:
        z = F.pad(x, (2, 2, 2, 2), value=-1.0)
        y = y.masked_fill(torch.rand(len(y)) < 0.1, CLASSES)
        t, noise = torch.rand(len(z)), torch.randn_like(z)
        at = t.view(-1, 1, 1, 1)
        loss = (self.net(at * z + (1 - at) * noise, t, y) - (z - noise)).square().sum((1, 2, 3)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def sample(self, y: Tensor) -> Tensor:
        x = torch.randn(len(y), 1, 32, 32)
        for i in range(self.evaluations):
            x = x + self.net(x, torch.full((len(y),), i / self.evaluations), y) / self.evaluations
        return x[:, :, 2:-2, 2:-2]


class DenoisingDiffusion(Rival):
    """denoising-diffusion-pytorch's network with labels, and its trainer's settings: cosine chain, Adam at 8e-5,
    batches of 32, of which two make a step, an average of the weights. Widths 32, 64, 128: half of those of its README,
    whose fourth level 28 pixels cannot have. Half of the labels are dropped, as it does by default.
    """

    batch, evaluations = 64, 50

    def __init__(self, seconds: float, evaluations: int | None = None) -> None:
        from ema_pytorch import EMA

        super().__init__(seconds, evaluations)
        theirs = alone("denoising_diffusion_pytorch", "classifier_free_guidance")
        self.net: Any = theirs.Unet(dim=32, dim_mults=(1, 2, 4), num_classes=CLASSES, channels=1)
        self.chain = theirs.GaussianDiffusion(
            self.net, image_size=28, timesteps=1000, sampling_timesteps=self.evaluations
        )
        self.optimiser = torch.optim.Adam(self.chain.parameters(), lr=8e-5, betas=(0.9, 0.99))
        self.average = EMA(self.chain, beta=0.995, update_every=10)

    def step(self, x: Tensor, y: Tensor) -> None:
        for images, labels in zip(x.chunk(2), y.chunk(2), strict=True):
            (self.chain((images + 1) / 2, classes=labels) / 2).backward()
        nn.utils.clip_grad_norm_(self.chain.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.update()

    def sample(self, y: Tensor) -> Tensor:
        chain = self.average.ema_model

        def plain(x: Tensor, t: Tensor, classes: Tensor, **_: object) -> tuple[Tensor, Tensor]:
            h = chain.model(x, t, classes, cond_drop_prob=0.0)
            return h, h

        chain.model.forward_with_cond_scale = plain  # its own fails at a scale of 1, where it returns one of the two
        return chain.sample(classes=y) * 2 - 1


class Diffusers(Rival):
    """diffusers' UNet2DModel, of the widths of its course's MNIST example, by the settings of its training example:
    AdamW at 1e-4, batches of 16, 500 steps of warm-up and a cosine, a linear chain, an average of the weights.
    """

    batch, evaluations = 16, 50

    def __init__(self, seconds: float, evaluations: int | None = None) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        super().__init__(seconds, evaluations)
        self.net: Any = UNet2DModel(
            sample_size=28, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), num_class_embeds=CLASSES,
        )  # fmt: skip
        self.chain: Any = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self.sampler: Any = DDIMScheduler.from_config(self.chain.config)
        self.sampler.set_timesteps(self.evaluations)
        weights = list(self.net.parameters())
        self.optimiser = torch.optim.AdamW(weights, lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        self.average: Any = EMAModel(weights, decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.start, self.seconds, self.steps = clock(), seconds, 0

    def step(self, x: Tensor, y: Tensor) -> None:
        noise, times = torch.randn_like(x), torch.randint(1000, (len(x),))
        F.mse_loss(self.net(self.chain.add_noise(x, noise, times), times, class_labels=y).sample, noise).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        gone = min(1.0, (clock() - self.start) / self.seconds)
        self.steps += 1
        for group in self.optimiser.param_groups:
            group["lr"] = 1e-4 * min(1.0, self.steps / 500) * (1 + math.cos(math.pi * gone)) / 2
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.step(self.net.parameters())

    def sample(self, y: Tensor) -> Tensor:
        self.average.copy_to(self.net.parameters())
        x = torch.randn(len(y), 1, 28, 28)
        for t in self.sampler.timesteps:
            x = self.sampler.step(self.net(x, t, class_labels=y).sample, t, x).prev_sample
        return x


RIVALS: dict[str, type[Rival]] = {
    "6.S184-lab-3": Lab3,
    "denoising-diffusion-pytorch": DenoisingDiffusion,
    "diffusers": Diffusers,
}
