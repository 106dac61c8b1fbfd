"""Drawing a picture's embedding for a text, by either prior of unCLIP (Ramesh et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.ddim import sample_ddim
from flowlib.field import Field
from flowlib.fields import Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.nets.priors import AutoregressivePrior, DiffusionPrior, Prior
from flowlib.nets.transformer_block import Cache
from flowlib.systems.system import SampleRequest
from flowlib.systems.token_sampling import next_token
from flowlib.training.devices import autocast
from flowlib.training.order import stream


@dataclass(frozen=True, kw_only=True)
class PriorRequest(SampleRequest):
    """What embeddings are asked for.

    Attributes:
        y: guides (count, length + dim), as `text_guides` makes them; None for pictures of any text.
        scale: of classifier-free guidance, of the diffusion's field or of the codes' logits; 1 is none.
        steps: of the diffusion's sampler.
        best: how many are drawn for each text, of which the one nearest to it is kept; None for 2 of the diffusion
            prior and 1 of the autoregressive one, as in the paper.
        temperature: of the codes, as in `next_token`.
    """

    scale: float = 1.0
    steps: int = 32
    best: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("scale", self.scale)
        check_count("steps", self.steps)
        if self.best is not None:
            check_count("best", self.best)
        check_number("temperature", self.temperature, 0, low_open=True)


def reader_of(module: Any) -> Prior:
    """The network of a prior, either kind; a ValueError for anything else."""
    net = module.net if isinstance(module, Model) else module
    if not isinstance(net, Prior):
        raise ValueError(f"a prior must be a run of the system unclip-prior, got {type(net).__name__}")
    return net


def text_guides(module: Any, clip: Any, texts: Sequence[str]) -> Tensor:
    """The guides of texts for a prior (B, length + dim): their tokens and embeddings, by the CLIP it learned from."""
    with torch.no_grad():
        return reader_of(module).guide(clip.tokenizer(texts), clip.text_features(texts))


def check_clip(name: str, module: Any, clip: Any) -> Any:
    """Return the prior called `name` if it has learned the embeddings of this CLIP; a ValueError if not."""
    mark = reader_of(module).mark
    with torch.no_grad():
        other = clip.text_features([""])[0].to(mark)
    if mark.shape != other.shape or float((mark - other).abs().max()) > 0.01:
        raise ValueError(f"{name} must be a prior of the same CLIP as the decoder's, its part 'clip'")
    return module


@torch.no_grad()
def sample_prior(module: Any, request: PriorRequest) -> Tensor:
    """Embeddings (count, dim) of unit length.

    Raises:
        ValueError: for an argument that does not fit, naming it.
    """
    net, count = reader_of(module), request.count
    place = net.null.device
    y = net.null.expand(count, -1) if request.y is None else request.y.to(place)
    net.check_guide(y, count)
    each = (2 if isinstance(net, DiffusionPrior) else 1) if request.best is None else request.best
    luck, drawn = stream(request.seed, "prior"), []
    size = max(1, request.batch_size // each)
    if isinstance(net, DiffusionPrior):
        chance = torch.randn(count, each, net.dim, generator=luck)
    else:
        assert isinstance(net, AutoregressivePrior)
        chance = torch.rand(count, each, 1 + net.codes.components, generator=luck, dtype=torch.float64)
    with autocast(request.usual if request.precision is None else request.precision, place):
        for at in range(0, count, size):
            some, own = y[at : at + size], chance[at : at + size].flatten(0, 1).to(place)
            guides = some.repeat_interleave(each, 0)
            if isinstance(net, DiffusionPrior):
                field: Field = module if request.scale == 1 else ClassifierFreeGuidance(module, request.scale)
                found = sample_ddim(field, own, guides, steps=request.steps, order=min(2, request.steps))
            else:
                level = None if request.y is None else upper_level(own[:, 0], net.levels)
                codes = write_codes(net, guides, level, own[:, 1:], request.scale, request.temperature)
                found = net.codes.decode(codes)
            candidates = F.normalize(found.float(), dim=1).unflatten(0, (-1, each))  # (B, each, dim)
            nearest = (candidates * net.embedding_of(some)[:, None]).sum(2).argmax(1)
            drawn.append(candidates[torch.arange(len(some), device=place), nearest])
    return torch.cat(drawn)


def upper_level(chance: Tensor, levels: int) -> Tensor:
    """Levels in the upper half of `levels` equally frequent ones, by chances in [0, 1): as in the paper, footnote 3."""
    return levels // 2 + (chance * (levels // 2)).long()


def write_codes(
    net: AutoregressivePrior, y: Tensor, level: Tensor | None, chance: Tensor, scale: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:  # fmt: skip
    """Codes (B, components) of embeddings, one after the other, by logits guided as (1 - w) null + w own.

    Args:
        net: the prior.
        y: guides (B, length + dim).
        level: how near text and picture shall be, (B,); None to say nothing of it.
        chance: uniform numbers in [0, 1) for each code, (B, components).
        scale: w.
        temperature: as in `next_token`.
    """
    none = torch.full((len(y),), net.levels, device=y.device)
    level, guided = none if level is None else level, scale != 1
    if guided:
        y, level = torch.cat([y, net.null.expand(len(y), -1)]), torch.cat([level, none])
    cache, (x, mask) = Cache(len(net.transformer.blocks)), net.prefix(y, level)
    codes: list[Tensor] = []
    for i in range(net.codes.components):
        logits = net.logits(x, mask, cache)[:, -1]
        if guided:
            own, null = logits.chunk(2)
            logits = null + scale * (own - null)
        codes.append(next_token(logits, chance[:, i], temperature))
        if i + 1 < net.codes.components:
            new = codes[-1].repeat(2) if guided else codes[-1]
            x, mask = net.written(new[:, None], past=i), torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return torch.stack(codes, dim=1)
