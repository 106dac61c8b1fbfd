"""Cut-outs: what a CLIP is shown of a picture, many views at random, so that no single view can be deceived.

A picture can be changed a little so that a network reads in it what nobody sees. What pleases the network in one crop,
slightly turned and noised, rarely pleases it in the next, so the mean over many is about what there is in the picture.
The views are those of Disco Diffusion 5 (`MakeCutoutsDango` in its code) but for what is said below.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_count, check_tensor

LUMINANCE = (0.299, 0.587, 0.114)


def cutouts(
    x: Tensor,
    overview: int,
    inner: int,
    size: int,
    generator: torch.Generator,
    *,
    power: float = 1.0,
    smallest: float = 0.5,
    grey: float = 0.0,
    flip: bool = False,
) -> Tensor:
    """Views of pictures, at places and of sizes that are drawn once for the whole batch.

    Up to four overviews are the picture, the same in grey, mirrored, and mirrored in grey; without `flip` the last two
    are not mirrored. More than four are all the picture. A picture that is no square is made one by black borders.

    Args:
        x: (B, C, H, W) in [-1, 1].
        overview, inner: how many of each.
        size: side of the views, to which all are resized, bilinearly.
        generator: on the CPU.
        power: an inner view's side is the largest for u^power = 1, u uniform: more than 1 makes small ones likelier.
        smallest: the smallest side of an inner view, as a share of the picture's shorter side.
        flip: whether there are mirrored overviews.
        grey: share of the inner views in grey, the first ones.

    Returns:
        (overview + inner, B, C, size, size).

    Raises:
        ValueError: for pictures or numbers that do not fit, or no view at all.
    """
    check_tensor("x", x, finite=False)
    if x.ndim != 4 or check_count("overview", overview, 0) + check_count("inner", inner, 0) == 0:
        raise ValueError(f"x must be (B, C, H, W) and views at least one, got {tuple(x.shape)}, {overview}, {inner}")
    height, width = x.shape[2:]
    shorter = min(height, width)
    views = []
    if overview:
        missing = [max(height, width) - side for side in (width, height)]
        pad = [part for gap in missing for part in (gap // 2, gap - gap // 2)]
        whole = _resize(F.pad(x, pad, value=-1.0), size)
        mirrored = whole.flip(3) if flip else whole
        kinds = [whole, to_grey(whole), mirrored, to_grey(mirrored)]
        views += kinds[:overview] if overview <= 4 else [whole] * overview
    least = max(1, round(smallest * shorter))
    for i in range(inner):
        side = int(least + float(torch.rand((), generator=generator)) ** power * (shorter - least + 1))
        side = min(side, shorter)
        top = int(torch.randint(height - side + 1, (), generator=generator))
        left = int(torch.randint(width - side + 1, (), generator=generator))
        part = _resize(x[:, :, top : top + side, left : left + side], size)
        views.append(to_grey(part) if i < grey * inner else part)  # at a share of 0 none, where Disco has one
    return torch.stack(views)


def augment(views: Tensor, generator: torch.Generator, flip: bool = False) -> Tensor:
    """Views, each slightly other than it was.

    Turned by up to 10 degrees and moved by up to 5 % of the side; one in ten in grey; brightness, contrast and
    saturation changed by up to 10 %; noise of a standard deviation of 0.01 of the range before, between and after.

    As in Disco Diffusion, but for three things. It also turns the hue by up to 0.3 of the circle, which makes red
    green: colours are asked for here, so it is left alone. It mirrors 4 times in 10: only with `flip`. And it draws all
    but the noise once for all views together; here each view has its own. What comes from outside is the nearest pixel.

    Args:
        views: (N, B, C, S, S) in [-1, 1]; differentiable.
        generator: on the CPU.
        flip: whether 4 in 10 views are mirrored.
    """
    shape, x = views.shape, views.flatten(0, 1)
    count = len(x)

    def chance(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).to(x)

    def noised(x: Tensor) -> Tensor:
        return x + 0.02 * torch.randn(x.shape, generator=generator).to(x)

    angle, right, down = chance(-torch.pi / 18, torch.pi / 18), chance(-0.1, 0.1), chance(-0.1, 0.1)
    mirror = torch.where(chance(0, 1) < 0.4, -1.0, 1.0) if flip else torch.ones_like(angle)
    cos, sin = angle.cos(), angle.sin()
    rows = (torch.stack([mirror * cos, -sin, right], dim=1), torch.stack([mirror * sin, cos, down], dim=1))
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    x = noised(F.grid_sample(noised(x), grid, padding_mode="border", align_corners=False))
    x = noised(torch.where((chance(0, 1) < 0.1)[:, None, None, None], to_grey(x), x))
    brightness, contrast, saturation = (chance(0.9, 1.1)[:, None, None, None] for _ in range(3))
    x = (x + 1) * brightness - 1
    mean = to_grey(x).mean((1, 2, 3), keepdim=True)
    x = mean + contrast * (x - mean)
    grey = to_grey(x)
    return (grey + saturation * (x - grey)).reshape(shape)


def to_grey(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) by their luminance, in as many channels; of other than three channels as they are."""
    if x.shape[1] != 3:
        return x
    return torch.einsum("bchw,c->bhw", x, x.new_tensor(LUMINANCE))[:, None].expand_as(x)


def _resize(x: Tensor, size: int) -> Tensor:
    if x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
