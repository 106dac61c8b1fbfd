"""GLIDE's upsampler: a flow of images that is given the caption and the small image (Nichol et al. 2022).

What makes it that: the small image, scaled up bilinearly, is laid beside the noised one as further channels; the
caption is read as in `glide`, and is dropped now and then, while the small image never is. It learns from large images
and their means over blocks, rounded to the 256 values of a file, and is given a smaller flow's samples.

Example:
    >>> import torch
    >>> from torch.nn.functional import avg_pool2d
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.upsampler import UpsamplerSystem
    >>> run, scenes = load_pretrained("scenes-upsampler"), load("scenes-32", "test").batch(torch.arange(2))
    >>> isinstance(run.recipe.system, UpsamplerSystem), run.shape
    (True, (3, 32, 32))
    >>> net, small = run.module.net, avg_pool2d(scenes["x"], 2)
    >>> run.sample(net.guide(net.tokenizer(scenes["caption"]), small), steps=2).shape
    torch.Size([2, 3, 32, 32])
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.metrics.scenes import score_captions
from flowlib.systems.glide import GlideSystem
from flowlib.systems.repairs import psnr
from flowlib.systems.sampling import FlowRequest, in_bytes
from flowlib.systems.system import Parts, Row, Splits, register
from flowlib.training.order import stream


@register("upsampler")
@dataclass(frozen=True, kw_only=True)
class UpsamplerSystem(GlideSystem):
    """A flow of large images from small ones and captions: `run.sample(net.guide(net.tokenizer(texts), small))`.

    Attributes:
        factor: how many times the side of the small image goes into that of the large one.

    The others are those of GLIDE.

    Raises:
        ValueError: for a value that does not fit, or images whose sides are no multiple of the factor.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("factor", self.factor, 2)

    def beside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if any(side % self.factor for side in shape[1:]):
            raise ValueError(f"factor must divide the sides of the images, {shape[1:]}, got {self.factor}")
        return shape[0], *(side // self.factor for side in shape[1:])

    def laid(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return in_bytes(F.avg_pool2d(x, self.factor))

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        """Rows of test images: scaled up bilinearly, and drawn at each scale of guidance by the caption.

        "psnr" is against the truth, in dB; "kept" the same of the means over blocks against the small image; "detail"
        the size of what is beyond the bilinear image, over that of the truth: 1 is as sharp as the truth, and 0 says
        that nothing was added. The sharper of two guesses has the lower "psnr" where both are guesses. Of scenes "all"
        is the share in which the judge reads all that the caption asks for.
        """
        index = torch.arange(min(request.samples, len(data.test)))
        batch = data.test.batch(index)
        texts, truth = batch[self.captions[0]], batch["x"]
        small = self.laid(truth, stream(0, "beside"))
        net = module.net
        wish = FlowRequest(
            spec=request.spec, y=net.guide(net.tokenizer(texts), small.to(next(module.parameters()).device)),  # type: ignore[operator, union-attr]
            count=len(index), steps=request.steps, method=request.method, seed=request.seed,
            batch_size=request.batch_size, usual=request.usual,
        )  # fmt: skip
        smooth = F.interpolate(small, truth.shape[2:], mode="bilinear", align_corners=False)
        drawn = {"test scenes": truth, "bilinear": smooth}
        for scale in request.scales:
            drawn[f"w = {scale:g}"] = self.sample(module, parts, replace(wish, scale=scale)).cpu().clamp(-1, 1)
        rows: list[Row] = []
        for name, x in drawn.items():
            detail = float((x - smooth).square().mean().sqrt() / (truth - smooth).square().mean().sqrt())
            kept = psnr(F.avg_pool2d(x, self.factor), small)
            read = {"all": score_captions(x, texts)["all"]} if "objects" in batch else {}
            rows.append({"samples": name, "psnr": psnr(x, truth), "kept": kept, "detail": detail, **read})
        return rows
