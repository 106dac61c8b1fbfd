"""Pictures and captions as CLIP's embeddings: what unCLIP's priors and decoder learn from."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowlib.data import Data, Spec
from flowlib.progress import advance, progress
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.system import Parts


class Pairs(NamedTuple):
    """Embeddings of pictures (N, dim); of K captions of each, the tokens (K, N, length) and embeddings (K, N, dim)."""

    images: Tensor
    tokens: Tensor
    texts: Tensor


@torch.no_grad()
def embed_images(clip: CaptionedCLIP, images: Tensor) -> Tensor:
    """Embeddings of pictures (B, dim) of unit length, in full precision whatever the rest computes in."""
    with torch.autocast(images.device.type, enabled=False):
        return clip.image_features(images)


@torch.no_grad()
def embed_pairs(clip: CaptionedCLIP, data: Data, columns: Sequence[str], count: int, size: int = 500) -> Pairs:
    """The first samples of the data as a CLIP sees them, and their captions in `columns`."""
    found = []
    with progress("embedding", steps=-(-count // size)), torch.autocast(data.device.type, enabled=False):
        for at in range(0, count, size):
            batch = data.batch(torch.arange(at, min(count, at + size)))
            said = [batch[name] for name in columns]
            texts, tokens = [clip.text_features(one) for one in said], [clip.tokenizer(one) for one in said]
            found.append((embed_images(clip, batch["x"]), torch.stack(tokens), torch.stack(texts)))
            advance()
    of_images, of_tokens, of_texts = zip(*found, strict=True)
    return Pairs(torch.cat(of_images), torch.cat(of_tokens, dim=1), torch.cat(of_texts, dim=1))


def check_parts(spec: Spec, parts: Parts, captions: Sequence[str]) -> CaptionedCLIP:
    """The part "clip", if it reads such pictures and they have these captions; a ValueError if not."""
    clip = parts.get("clip")
    if not isinstance(clip, CaptionedCLIP) or clip.image.time is not None:
        raise ValueError("the part 'clip' must be a CLIP of clean pictures, trained without `noised`")
    missing = [name for name in captions if name not in spec.columns]
    if missing or spec.shape != (clip.image.in_channels, clip.image.image_size, clip.image.image_size):
        found = f"{spec.shape}, {spec.columns}"
        raise ValueError(f"unCLIP needs pictures that its CLIP reads, with columns {captions}, got {found}")
    return clip
