"""Writing captions of images with a captioner, token by token; and those of a whole data set, once."""

import hashlib
import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from flowlib.data import Data, Dataset
from flowlib.files import WriteError, write_whole
from flowlib.nets.captioner import Captioner
from flowlib.nets.transformer_block import Cache
from flowlib.progress import advance, progress
from flowlib.systems.token_sampling import next_token
from flowlib.training.order import stream

logger = logging.getLogger(__name__)
BATCH = 500  # images at a time


@torch.no_grad()
def write_tokens(
    captioner: Captioner,
    images: Tensor,
    chance: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    cached: bool = True,
) -> Tensor:
    """Tokens of captions (B, length): the start, the text, its end, then padding.

    Args:
        captioner: who writes.
        images: (B, C, H, W).
        chance: uniform numbers in [0, 1) for each place behind the first, (B, length - 1).
        temperature, top_k: of `next_token`; top_k = 1 takes the most probable token.
        cached: whether keys and values of earlier tokens are kept, and not computed anew for each token.

    Raises:
        ValueError: as `next_token`.
    """
    words, gpt = captioner.tokenizer, captioner.gpt
    prefix, cache = captioner.see(images), Cache(len(gpt.transformer.blocks)) if cached else None
    rows = torch.full((len(images), 1), words.start, device=prefix.device)
    ended = torch.zeros(len(rows), 1, dtype=torch.bool, device=prefix.device)
    while rows.shape[1] < words.length:
        place = rows.shape[1]
        fresh = place == 1 or not cached
        logits = gpt(rows if fresh else rows[:, -1:], cache, prefix if fresh else None)[:, -1]
        logits[:, [words.start, words.padding]] = -float("inf")  # what no text goes on with
        new = next_token(logits, chance[:, place - 1], temperature, top_k)[:, None]
        if place == words.length - 1:  # the last place for an end
            new = torch.full_like(new, words.end)
        new = torch.where(ended, words.padding, new)
        ended = ended | (new == words.end)
        rows = torch.cat([rows, new], dim=1)
        if bool(ended.all()):
            break
    left = rows.new_full((len(rows), words.length - rows.shape[1]), words.padding)
    return torch.cat([rows, left], dim=1)


def write_captions(
    captioner: Captioner,
    images: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 1,
    seed: int = 0,
) -> list[str]:
    """A caption for each of many images (B, C, H, W); arguments and errors as in `write_tokens`."""
    place = captioner.gpt.token.weight.device
    shape = len(images), captioner.tokenizer.length - 1
    chance = torch.rand(shape, generator=stream(seed, "captions"), dtype=torch.float64)
    texts: list[str] = []
    for some, luck in zip(images.split(BATCH), chance.split(BATCH), strict=True):
        tokens = write_tokens(captioner, some.to(place), luck, temperature=temperature, top_k=top_k)
        texts += captioner.tokenizer.decode(tokens)
    return texts


def kept_captions(
    captioner: Captioner, data: Data, count: int, *, temperature: float = 1.0, top_k: int = 1, seed: int = 0
) -> list[str]:
    """Captions of the first `count` samples of a data set, written once: they are kept in the user's cache.

    They are found again by what they follow from: the captioner's weights, the data and the other arguments. A cache
    that cannot be written is only slower.
    """
    known = [digest_of(captioner), _named(data), count, temperature, top_k, seed]
    path = _folder() / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}.json"
    try:
        texts = json.loads(path.read_text("utf-8"))
        if isinstance(texts, list) and len(texts) == count and all(isinstance(text, str) for text in texts):
            return texts
    except (OSError, ValueError):
        pass
    texts = []
    with progress("writing captions", steps=-(-count // BATCH)):
        for at in range(0, count, BATCH):
            images = data.batch(torch.arange(at, min(at + BATCH, count)))["x"]
            texts += write_captions(captioner, images, temperature=temperature, top_k=top_k, seed=seed + at)
            advance()
    try:
        write_whole(path, json.dumps(texts).encode())
    except WriteError as error:
        logger.warning("the captions are not kept: %s", error)
    return texts


def digest_of(module: nn.Module) -> str:
    """The SHA-256 of all weights and buffers of a module."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _named(data: Data) -> str:
    """What tells data from other data: their content, or what scenes without an end follow from."""
    if isinstance(data, Dataset):
        return data.digest()
    return " ".join(str(getattr(data, name, "")) for name in ("name", "split", "seed"))


def _folder() -> Path:
    import pooch

    return Path(pooch.os_cache("flowlib")) / "captions"
