"""Painting in a hole: which holes to learn from, and two ways to make a sampler keep what is known.

Inpainting asks for p(z_hole | z_known). A network that was given the known pixels in training answers that
(`flowlib.systems.inpainter`); what is left of its error in them is taken away by `KnownPixels`. A network that never
was can only be shown noised known pixels in each step, `ReplacedPixels`: that is another law, because D at time t then
knows the known pixels through their noise only (Lugmayr et al. 2022, section 4.2, repair some of it).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flowlib.checks import check_count, check_tensor
from flowlib.field import Field, FieldOf, check_field
from flowlib.paths import expand_time

Known = Callable[[Tensor | None], tuple[Tensor, Tensor]]  # guides -> images, and 1 where they are known


class KnownPixels(Field):
    """A field whose D is what is known, where something is known: of a guide, or always the same.

    It predicts D, which at t = 1 is the sample: the known part of a result is exact.

    Args:
        field: any field.
        known: guides -> images, and masks that are 1 where they are known and 0 elsewhere, which broadcast to samples.
    """

    predicts = "data"

    def __init__(self, field: Field, known: Known) -> None:
        self.field, self.known = check_field(field), known
        self.path, self.null = field.path, field.null

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        return self.field.check_guide(y, x)

    def null_like(self, y: Tensor) -> Tensor:
        return self.field.null_like(y)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        image, mask = self.known(y)
        return torch.where(mask > 0, image.to(x), self.field.data(x, t, y))


class ReplacedPixels(FieldOf):
    """A field that is shown, in the place of the known part of x, a sample of the path to it (Song et al. 2021, I.2).

    What is drawn has the known part exactly, but not the law of the rest given that part.

    Args:
        field: any field, which need not have learned anything about holes.
        image: the known data (..., as a sample).
        mask: 1 where they are known, 0 elsewhere.
        noise: (B, ...), standard normal: the known part starts from it.

    Raises:
        ValueError: for shapes that do not fit; in calls for another number of samples than that of the noise.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField, sample_ode
        >>> field = MixtureField(torch.tensor([[-1.0, 2.0], [1.0, -2.0]]), 0.1)
        >>> noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
        >>> known = torch.tensor([1.0, 0.0])
        >>> filled = ReplacedPixels(field, torch.tensor([1.0, 0.0]), known, noise)
        >>> sample_ode(filled, noise, steps=20)[:, 0].round(decimals=4).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    predicts = "v"

    def __init__(self, field: Field, image: Tensor, mask: Tensor, noise: Tensor) -> None:
        super().__init__(field)
        check_tensor("noise", noise)
        for name, value in (("image", image), ("mask", mask)):
            check_tensor(name, value, batch=False)
            try:
                torch.broadcast_to(value, noise.shape)
            except RuntimeError:
                raise ValueError(
                    f"{name} must have the shape of a sample, {tuple(noise.shape[1:])}, got {tuple(value.shape)}"
                ) from None
        self.image, self.mask, self.start = image, mask, noise

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        if len(x) != len(self.start):
            raise ValueError(f"x must have {len(self.start)} samples, as the noise has, got {len(x)}")
        image, known = self.image.to(x), self.mask.to(x) > 0
        alpha, beta = self.path.levels(expand_time(t, x))
        seen = torch.where(known, alpha * image + beta * self.start.to(x), x)
        data, noise = self.field.pair(seen, t, y)
        return alpha * torch.where(known, self.start.to(x), noise) - beta * torch.where(known, image, data)


def random_regions(count: int, size: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Masks (count, 1, H, W) to learn from, 0 in a hole and 1 elsewhere.

    A hole is a rectangle or an ellipse of an eighth of the image to all of it on each axis, or two of them; in a fifth
    of the masks it is what lies outside of these, and in a tenth it is everything, so that the network still paints
    without a picture.
    """
    draw = torch.rand(check_count("count", count), 13, generator=generator)
    height, width = size
    row = ((torch.arange(height) + 0.5) / height)[None, :, None]
    column = ((torch.arange(width) + 0.5) / width)[None, None, :]
    hole = torch.zeros(count, height, width, dtype=torch.bool)
    for first in (0, 5):
        y, x, tall, wide, kind = draw[:, first : first + 5, None, None].unbind(1)
        down, across = (row - y) / (tall * 0.4375 + 0.0625), (column - x) / (wide * 0.4375 + 0.0625)
        box = (down.abs() <= 1) & (across.abs() <= 1)
        shape = torch.where(kind < 0.5, box, down.square() + across.square() <= 1)
        hole |= shape & (draw[:, 10, None, None] < 0.5) if first else shape
    hole ^= draw[:, 11, None, None] < 0.2
    hole |= draw[:, 12, None, None] < 0.1
    return 1 - hole[:, None].float()
