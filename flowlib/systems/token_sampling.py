"""Drawing an image's tokens behind a text's, one after the other."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.nets.text_image import DALLE, TextImageGPT, check_texts_of
from flowlib.nets.transformer_block import Cache
from flowlib.precision import double
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.reranking import rank
from flowlib.systems.system import SampleRequest
from flowlib.training.devices import autocast
from flowlib.training.order import stream


@dataclass(frozen=True, kw_only=True)
class TokenRequest(SampleRequest):
    """What images are asked for.

    Attributes:
        y: tokens of texts (count, length), as `module.read(texts)` makes them; None to draw the texts too.
        temperature, top_k: of the image's tokens, as in `next_token`.
        candidates: images for each text, of which CLIP chooses one.
        clip: who chooses; None for the part "clip".
        cached: whether keys and values of earlier tokens are kept: the same images, sooner.
    """

    temperature: float = 1.0
    top_k: int = 0
    candidates: int = 1
    clip: CaptionedCLIP | None = None
    cached: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("temperature", self.temperature, 0, low_open=True)
        check_count("top_k", self.top_k, 0)
        check_count("candidates", self.candidates)


def next_token(logits: Tensor, chance: Tensor, temperature: float = 1.0, top_k: int = 0) -> Tensor:
    """Tokens (B,) drawn from softmax(logits / temperature), cut to the `top_k` most probable ones.

    The first token whose cumulative probability exceeds a chance, so that one chance is one token.

    Args:
        logits: (B, K).
        chance: uniform numbers in [0, 1), (B,).
        temperature: > 0; below 1 the probable ones become more probable.
        top_k: how many may be drawn, and those as probable as the last of them; 0 for all.

    Raises:
        ValueError: for a temperature that is not positive, or a top_k above K.
    """
    check_number("temperature", temperature, 0, low_open=True)
    if check_count("top_k", top_k, 0) > logits.shape[1]:
        raise ValueError(f"top_k must be at most {logits.shape[1]}, the tokens that there are, got {top_k}")
    exact = double(logits) / temperature
    if top_k:
        least = exact.topk(top_k, dim=1).values[:, -1:]
        exact = exact.masked_fill(exact < least, -float("inf"))
    summed = exact.softmax(1).cumsum(1)
    # Below the whole sum, which rounding may have left short of 1: behind it no token has any probability.
    wanted = double(chance)[:, None].to(summed) * summed[:, -1:]
    return torch.searchsorted(summed, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1).to(logits.device)


@torch.no_grad()
def write_image(
    gpt: TextImageGPT,
    text: Tensor | None,
    chance: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    start: int = 0,
    end: int = 0,
    cached: bool = True,
) -> tuple[Tensor, Tensor]:
    """Tokens of texts (B, length) and of images (B, rows columns), the latter in 0 ... codes - 1.

    Args:
        gpt: the transformer.
        text: tokens of texts (B, length); None to draw them too, at temperature 1, from the token `start` to `end`.
        chance: uniform numbers in [0, 1) for each place behind the first, (B, places - 1).
        temperature, top_k: of `next_token`, for the image.
        cached: whether keys and values of earlier tokens are kept, and not computed anew for each token.

    Raises:
        ValueError: as `next_token`.
    """
    rows = torch.full((len(chance), 1), start, device=gpt.token.weight.device) if text is None else text
    cache, ended = Cache(len(gpt.transformer.blocks)) if cached else None, torch.zeros(len(rows), 1).to(rows) > 0
    while rows.shape[1] < gpt.places:
        place, done = rows.shape[1], 0 if cache is None else len(cache)
        logits = gpt(rows[:, done:], cache)[:, -1]
        if place < gpt.length:
            new = next_token(logits, chance[:, place - 1])[:, None]
            new = torch.where(ended, gpt.pad, new)
            if place == gpt.length - 1:  # the last place for an end
                new = torch.where(ended, new, end)
            ended = ended | (new == end)
        else:
            image = next_token(logits[:, gpt.words :], chance[:, place - 1], temperature, top_k)
            new = image[:, None] + gpt.words
        rows = torch.cat([rows, new], dim=1)
    return rows[:, : gpt.length], rows[:, gpt.length :] - gpt.words


@torch.no_grad()
def sample_tokens(module: DALLE, clip: nn.Module | None, request: TokenRequest) -> Tensor:
    """Images (count, *shape) as asked for, float32, not clipped to [-1, 1].

    Args:
        module: both stages.
        clip: who chooses, where the request names nobody.

    Raises:
        ValueError: for an argument that does not fit, naming it.
    """
    gpt, words, each, y = module.gpt, module.tokenizer, request.candidates, request.y
    clip = clip if request.clip is None else request.clip
    if each > 1 and (y is None or not isinstance(clip, CaptionedCLIP)):
        raise ValueError("candidates must be 1 without texts, or without a CLIP that chooses: the part 'clip'")
    if request.top_k > gpt.codes:
        raise ValueError(f"top_k must be at most {gpt.codes}, the tokens of images, got {request.top_k}")
    place = gpt.token.weight.device
    text = None if y is None else check_texts_of(y, gpt, request.count).to(place)
    luck = stream(request.seed, "tokens")
    chance = torch.rand(request.count, each, gpt.places - 1, generator=luck, dtype=torch.float64)
    drawn, size = [], max(1, request.batch_size // each)
    for at in range(0, request.count, size):
        some = None if text is None else text[at : at + size]
        with autocast(request.usual if request.precision is None else request.precision, place):
            index = write_image(
                gpt, None if some is None else some.repeat_interleave(each, 0), chance[at : at + size].flatten(0, 1),
                temperature=request.temperature, top_k=request.top_k, start=words.start, end=words.end,
                cached=request.cached,
            )[1]  # fmt: skip
        images = module.decode(index)
        if each > 1 and some is not None and isinstance(clip, CaptionedCLIP):
            images = rank(clip, images.unflatten(0, (-1, each)), words.decode(some))[:, 0]
        drawn.append(images)
    return torch.cat(drawn)
