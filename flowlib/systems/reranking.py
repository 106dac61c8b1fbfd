"""Choosing among several images of one text by CLIP (Ramesh et al. 2021, section 2.6)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlib.checks import check_count
from flowlib.systems.clip import CaptionedCLIP


def similarity(clip: CaptionedCLIP, images: Tensor, texts: Sequence[str], batch_size: int = 500) -> Tensor:
    """The cosine of each image (B, C, H, W) with its own text, (B,)."""
    known = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    said = clip.text_features(list(known))
    own = torch.tensor([known[text] for text in texts], device=said.device)
    parts = [clip.image_features(part.clamp(-1, 1)) for part in images.split(batch_size)]
    return (torch.cat(parts) * said[own]).sum(1)


@torch.no_grad()
def rank(clip: CaptionedCLIP, images: Tensor, texts: Sequence[str], keep: int = 1) -> Tensor:
    """Of N images for each of B texts, (B, N, C, H, W), those `keep` that CLIP finds nearest to it, the nearest first.

    Returns:
        (B, keep, C, H, W).

    Raises:
        ValueError: for fewer images than are kept.
    """
    each = images.shape[1]
    if check_count("keep", keep) > each:
        raise ValueError(f"candidates must be at least {keep}, as many as are kept, got {each}")
    fit = similarity(clip, images.flatten(0, 1), [text for text in texts for _ in range(each)]).unflatten(0, (-1, each))
    best = fit.topk(keep, dim=1).indices
    return images[torch.arange(len(images), device=images.device)[:, None], best]
