"""`flowlib segment`: cut out of a picture what points, a box, a rough mask or a text mean, or everything there is.

Points and boxes are in pixels of the picture file, x to the right and y downwards, from 0. A box goes from edge to
edge: that of a whole picture of 16 x 16 pixels is 0,0,16,16. Of a picture that is no square its middle is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.data.pixels import decode, open_image, read_mask, read_picture
from flowlib.files import write_all, write_whole
from flowlib.nets.prompts import corners_of
from flowlib.plotting import png_of
from flowlib.systems.automatic_masks import automatic_masks, stability_score
from flowlib.systems.clicks import ROUGH


@dataclass(frozen=True, kw_only=True)
class SegmentRequest:
    """What `flowlib segment` is asked for."""

    picture: Path = field(metadata={"help": "An image file.", "argument": True})
    point: list[str] = field(default_factory=list, metadata={"help": "X,Y of a pixel inside; may be said again."})
    outside: list[str] = field(
        default_factory=list, metadata={"help": "X,Y of a pixel that is not; may be said again.", "option": "--not"}
    )
    box: str = field(default="", metadata={"help": "X0,Y0,X1,Y1: the edges of a box around it."})
    mask: Path | None = field(default=None, metadata={"help": "A rough mask, bright inside, of the picture's size."})
    text: str = field(default="", metadata={"help": "What to cut out, such as 'the red seven'."})
    three: bool = field(
        default=False,
        metadata={"help": "Also write what else one prompt may mean: OUT-2, OUT-3.", "without": "everything"},
    )
    grow: int = field(
        default=0, metadata={"help": "Pixels to widen a mask by, as a hole to paint in wants.", "without": "everything"}
    )
    everything: bool = field(default=False, metadata={"help": "Find all masks, and write a picture of each."})
    side: int = field(
        default=16, metadata={"help": "Of --everything: points a side of the grid.", "with": "everything"}
    )
    least_iou: float = field(
        default=0.7, metadata={"help": "Of --everything: the IoU that must be predicted.", "with": "everything"}
    )
    least_stability: float = field(
        default=0.9, metadata={"help": "Of --everything: the stability of a mask.", "with": "everything"}
    )
    out: Path = field(default=Path("mask.png"), metadata={"help": "The picture to write."})

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must be a picture, such as mask.png, got {str(self.out)!r}")
        prompts = bool(self.point or self.outside or self.box or self.mask or self.text.strip())
        if prompts and self.everything:
            raise ValueError("--everything goes without --point, --not, --box, --mask and --text")
        if not prompts and not self.everything:
            raise ValueError("say what to cut out: --point, --not, --box, --mask or --text; or else --everything")
        for option, texts in (("--point", self.point), ("--not", self.outside)):
            for text in texts:
                _numbers(option, text, "X,Y")
        if self.box:
            x0, y0, x1, y1 = _numbers("--box", self.box, "X0,Y0,X1,Y1")
            if x0 >= x1 or y0 >= y1:
                raise ValueError(f"--box must have X0 < X1 and Y0 < Y1, got {self.box}: it is empty")
        check_count("side", self.side)
        check_count("grow", self.grow, 0)
        check_number("least_iou", self.least_iou, 0, 1)
        check_number("least_stability", self.least_stability, 0, 1)


def _numbers(option: str, text: str, form: str) -> list[float]:
    try:
        numbers = [check_number(option, float(word)) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != form.count(",") + 1:
        raise ValueError(f"{option} must be {form}, got {text!r}")
    return numbers


class Frame(NamedTuple):
    """Which part of a picture file is read: a square of `side` pixels, `left` and `top` from its corner."""

    width: int
    height: int
    size: int  # of the image that a network is given

    @property
    def side(self) -> int:
        return min(self.width, self.height)

    @property
    def corner(self) -> tuple[float, float]:
        return (self.width - self.side) / 2, (self.height - self.side) / 2

    def inside(self, option: str, text: str) -> Tensor:
        """A point of the file (2,) in pixels of the image, whose centres are 0, 1, ...; a ValueError if it is none."""
        point = _numbers(option, text, "X,Y")
        if not (0 <= point[0] < self.width - 0.5 and 0 <= point[1] < self.height - 0.5):
            last = f"{self.width - 1},{self.height - 1}"
            raise ValueError(f"{option} must lie in the picture, whose pixels are 0,0 to {last}, got {text}")
        found = self.scaled([value + 0.5 for value in point]) - 0.5
        if bool(((found <= -0.5) | (found >= self.size - 0.5)).any()):
            raise ValueError(f"{option} must lie in the middle {self.side} x {self.side} pixels, got {text}")
        return found

    def box(self, text: str) -> Tensor:
        """A box of the file (4,) as a prompt encoder has it; a ValueError if it is not in the picture."""
        x0, y0, x1, y1 = _numbers("--box", text, "X0,Y0,X1,Y1")
        if x0 < 0 or y0 < 0 or x1 > self.width or y1 > self.height:
            raise ValueError(f"--box must lie in the picture of {self.width} x {self.height} pixels, got {text}")
        edges = self.scaled([x0, y0, x1, y1]).clamp(0, self.size)
        if bool((edges[:2] >= edges[2:]).any()):
            raise ValueError(f"--box must reach into the middle {self.side} x {self.side} pixels, got {text}")
        corners = corners_of(edges)
        return torch.cat([corners[:2], corners[2:].maximum(corners[:2])])

    def scaled(self, numbers: Sequence[float]) -> Tensor:
        """Lengths from the file's corner, x and y by turns, as lengths from the image's corner."""
        corner = torch.tensor(self.corner).repeat(len(numbers) // 2)
        return (torch.tensor(numbers) - corner) * self.size / self.side

    def enlarged(self, mask: Tensor) -> bytes:
        """A mask (H, W) of the image as a PNG file of the picture's size, white inside."""
        whole = torch.full((1, 1, self.height, self.width), -1.0)
        left, top = (int(value) for value in self.corner)
        large = F.interpolate(mask[None, None].float(), size=(self.side, self.side), mode="nearest")
        whole[:, :, top : top + self.side, left : left + self.side] = 2 * large - 1
        return png_of(whole, side=1)


def segment(run: Any, request: SegmentRequest) -> list[str]:
    """Write the mask that a prompt means, or pictures of all masks."""
    with open_image(request.picture) as file:
        height, width = decode(file).shape[:2]
    frame, image = Frame(width, height, run.shape[1]), read_picture(request.picture, run.shape).to(run.device)
    if request.everything:
        return _everything(run, request, image)
    prompts = {name: value[None].to(run.device) for name, value in _prompts(run, request, frame).items()}
    certain = len(request.point) + len(request.outside) + sum(name not in ("points", "labels") for name in prompts) > 1
    if certain and request.three:
        raise ValueError("--three goes with one prompt: what several mean together is one mask")
    with torch.no_grad():
        logits, iou = run.module(image[None], **prompts, several=not certain)
    order = iou[0].argsort(descending=True)[: None if request.three else 1].tolist()
    names = [request.out, *(request.out.with_stem(f"{request.out.stem}-{i}") for i in range(2, len(order) + 1))]
    lines, pictures = [], {}
    for name, which in zip(names, order, strict=True):
        mask = widened((logits[0, which] > 0).cpu(), request.grow)
        pictures[name] = frame.enlarged(mask)
        stable, share = float(stability_score(logits[0, which])), float(mask.float().mean())
        lines.append(
            f"{name}: predicted IoU {float(iou[0, which]):.2f}, stability {stable:.2f}, {share:.1%} of the picture"
        )
    write_all(pictures)
    return lines


def widened(mask: Tensor, grow: int) -> Tensor:
    """A mask (H, W), or several (B, H, W), with all pixels that are at most `grow` rows and columns away from it.

    Example:
        >>> widened(torch.tensor([[False, False, False, True]]), 1)
        tensor([[False, False,  True,  True]])
    """
    grow = min(grow, max(mask.shape[-2:]))
    return F.max_pool2d(mask[None].float(), 2 * grow + 1, stride=1, padding=grow)[0] > 0


def _prompts(run: Any, request: SegmentRequest, frame: Frame) -> dict[str, Tensor]:
    """The prompts, each without its batch: a ValueError for what does not fit the picture or the run."""
    prompts = {}
    points = [frame.inside("--point", text) for text in request.point]
    points += [frame.inside("--not", text) for text in request.outside]
    if points:
        prompts["points"] = torch.stack(points)
        prompts["labels"] = torch.tensor([1] * len(request.point) + [0] * len(request.outside))
    if request.box:
        prompts["boxes"] = frame.box(request.box)
    if request.mask is not None:
        prompts["masks"] = ROUGH * (2 * read_mask(request.mask, request.picture, run.shape) - 1)
    if request.text.strip():
        if "clip" not in run.parts:
            raise ValueError(f"--text must not be given: {run.folder} was trained without a CLIP")
        prompts["text"] = run.parts["clip"].text_features([request.text.strip().lower()])[0]
    return prompts


def _everything(run: Any, request: SegmentRequest, image: Tensor) -> list[str]:
    """The picture, and beside it each mask with all else dimmed."""
    found = automatic_masks(
        run.module, image, side=request.side, least_iou=request.least_iou, least_stability=request.least_stability
    )
    if not len(found.masks):
        raise ValueError("no mask is good enough: lower --least-iou or --least-stability")
    dimmed = torch.where(found.masks[:, None], image, 0.25 * image - 0.75)
    write_whole(request.out, png_of(torch.cat([image[None], dimmed])))
    pairs = zip(found.iou.tolist(), found.stability.tolist(), strict=True)
    return [
        f"{request.out}: {len(found.masks)} masks",
        *(f"{i}: predicted IoU {iou:.2f}, stability {score:.2f}" for i, (iou, score) in enumerate(pairs, 1)),
    ]
