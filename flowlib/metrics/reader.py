"""The network that reads scenes, which comes trained with the package: `read_scenes` and the judge of scenes use it."""

from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.text.captions import BACKGROUNDS, NAMES, PLACES
from flowlib.weights import read_weights

FEATURES = 192
WEIGHTS = {16: "judge", 32: "judge-32"}
ATTRIBUTES = {name: len(values) for name, values in NAMES.items() if name != "place"}


class SceneReader(nn.Module):
    """A detector of digits in scenes: (B, 3, size, size) in [-1, 1] -> logits by name.

    For each of nine places whether there is a digit, which, of what colour and size; and the background. The 32-pixel
    reader halves its image first; from there on both are the same.

    Args:
        size: of the images, 16 or 32.

    Raises:
        ValueError: for another size.

    Example:
        >>> import torch
        >>> from flowlib.metrics import SceneReader
        >>> {name: tuple(logits.shape) for name, logits in SceneReader(16)(torch.rand(2, 3, 16, 16)).items()}
        {'there': (2, 9), 'digit': (2, 9, 10), 'colour': (2, 9, 8), 'size': (2, 9, 2), 'background': (2, 3)}
    """

    edges: ClassVar[tuple[str, ...]] = ("stem", "heads")

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        if size not in WEIGHTS:
            raise ValueError(f"size must be 16 or 32, got {size!r}")
        self.size = size
        self.stem = nn.Conv2d(3, 48, 3, padding=1) if size == 16 else nn.Conv2d(3, 48, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList([_Block(48), _Block(96), _Block(128)])
        self.downs = nn.ModuleList([nn.Conv2d(48, 96, 3, 2, 1), nn.Conv2d(96, 128, 3, 2, 1)])
        self.last = nn.Linear(128 * 4 * 4, FEATURES)
        self.heads = nn.Linear(FEATURES, len(PLACES) * (1 + sum(ATTRIBUTES.values())) + len(BACKGROUNDS))

    def features(self, x: Tensor) -> Tensor:
        """What the heads read, (B, 192): in it, sets of images are compared (`frechet_distance`)."""
        shape = (3, self.size, self.size)
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"images must have shape (batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
        h = self.blocks[0](self.stem(x))  # (B, 48, 16, 16)
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            h = block(down(F.gelu(h)))  # (B, 96, 8, 8), (B, 128, 4, 4)
        return F.gelu(self.last(F.gelu(h).flatten(1)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits: "there" (B, 9), "digit" (B, 9, 10), "colour" (B, 9, 8), "size" (B, 9, 2), "background" (B, 3)."""
        out = self.heads(self.features(x)).float()
        places, background = out[:, : -len(BACKGROUNDS)].unflatten(1, (len(PLACES), -1)), out[:, -len(BACKGROUNDS) :]
        there, *rest = places.split([1, *ATTRIBUTES.values()], dim=2)
        return {"there": there[..., 0], **dict(zip(ATTRIBUTES, rest, strict=True)), "background": background}


class _Block(nn.Module):
    """x + conv(gelu(norm(conv(gelu(norm(x)))))), at one size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.gelu(self.norm1(x)))
        return x + self.conv2(F.gelu(self.norm2(h)))


@torch.no_grad()
def read_features(images: Tensor, reader: SceneReader, *, batch_size: int = 500) -> Tensor:
    """The reader's features of many images: (N, 3, H, W) -> (N, 192), on the CPU."""
    weight = reader.heads.weight
    return torch.cat([reader.features(part.to(weight)).cpu() for part in images.split(batch_size)])


@cache
def load_reader(size: int = 16) -> SceneReader:
    """The reader that comes with the package, on the CPU, frozen.

    Raises:
        ValueError: for a size that there is none for; FileNotFoundError, ValueError: as `flowlib.weights.read_weights`.
    """
    reader = SceneReader(size)
    reader.load_state_dict({name: value.float() for name, value in read_weights(WEIGHTS[size]).items()})
    return reader.eval().requires_grad_(False)
