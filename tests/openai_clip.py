"""OpenAI's CLIP by its names: which of its weights is which of ours, and weights that a formula gives."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from flowlib.nets import CLIP, TextTransformer, ViT


def scatter(shape: Sequence[int], start: int) -> Tensor:
    """Numbers in (-0.2, 0.2) by a formula: what 43758.5453 sin(12.9898 i) has behind the point, less a half, by 0.4."""
    i = torch.arange(start, start + math.prod(shape), dtype=torch.float64)
    return 0.4 * ((43758.5453 * torch.sin(12.9898 * i)).remainder(1) - 0.5).reshape(tuple(shape))


SETTINGS = {  # of `clip.model.CLIP`, whose heads are 64 wide
    "embed_dim": 16,
    "image_resolution": 24,
    "vision_layers": 2,
    "vision_width": 128,
    "vision_patch_size": 8,
    "context_length": 9,
    "vocab_size": 40,
    "transformer_width": 64,
    "transformer_heads": 2,
    "transformer_layers": 3,
}
IMAGES = 5 * scatter((3, 3, 24, 24), 0).float()
TEXTS = torch.tensor([[38, 5, 39, 0, 0, 0, 0, 0, 0], [38, 1, 2, 3, 4, 5, 6, 7, 39], [38, 9, 9, 9, 39, 0, 0, 0, 0]])

NAMES = (
    (r"^image\.stem\.", "visual.conv1."),
    (r"^image\.class_token$", "visual.class_embedding"),
    (r"^image\.places$", "visual.positional_embedding"),
    (r"^image\.norm_pre\.", "visual.ln_pre."),
    (r"^image\.norm_post\.", "visual.ln_post."),
    (r"^image\.head\.weight$", "visual.proj"),
    (r"^image\.transformer\.", "visual.transformer."),
    (r"^text\.token\.weight$", "token_embedding.weight"),
    (r"^text\.place\.weight$", "positional_embedding"),
    (r"^text\.norm\.", "ln_final."),
    (r"^text\.transformer\.", "transformer."),
    (r"^projection\.weight$", "text_projection"),
    (r"\.blocks\.", ".resblocks."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attention\.qkv\.", ".attn.in_proj_"),
    (r"\.attention\.out\.", ".attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.c_fc."),
    (r"\.mlp\.2\.", ".mlp.c_proj."),
)
TURNED = ("visual.proj", "text_projection")  # matrices that theirs multiplies from the right


def their_name(name: str) -> str:
    for ours, theirs in NAMES:
        name = re.sub(ours, theirs, name)
    return name


def swap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names, and as they keep them."""
    theirs = {their_name(name): value for name, value in state.items()}
    return {name: value.T if name in TURNED else value for name, value in theirs.items()}


def scattered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the shapes of their state, the same on every machine."""
    return {name: scatter(value.shape, len(name)).to(value.dtype) for name, value in state.items()}


def load(net: CLIP, theirs: dict[str, Tensor]) -> CLIP:
    """Ours with their weights."""
    ours = {name: theirs[their_name(name)] for name in net.state_dict()}
    net.load_state_dict({name: value.T if their_name(name) in TURNED else value for name, value in ours.items()})
    return net.eval()


def like_theirs() -> CLIP:
    """Ours of the sizes of SETTINGS."""
    image = ViT(image_size=24, patch=8, width=128, depth=2, heads=2, out_dim=16, gelu="quick")
    text = TextTransformer(40, 9, end=39, width=64, depth=3, heads=2, gelu="quick")
    return CLIP(image, text)
