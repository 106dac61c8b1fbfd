"""Meta's SAM by its names: which of its weights is which of ours, with weights and inputs that a formula gives."""

import re

import torch
from openai_clip import scatter
from torch import Tensor

from flowlib.nets.mask_decoder import MaskDecoder
from flowlib.nets.prompts import PromptEncoder
from flowlib.nets.two_way import TwoWayTransformer

DIM, GRID, SIZE = 16, (4, 5), (64, 80)  # of the embedding, and of the picture in pixels: H and W differ on purpose
ENCODER = {"embed_dim": DIM, "image_embedding_size": GRID, "input_image_size": SIZE, "mask_in_chans": 8}
TRANSFORMER = {"depth": 2, "embedding_dim": DIM, "num_heads": 2, "mlp_dim": 24}
DECODER = {"num_multimask_outputs": 3, "transformer_dim": DIM, "iou_head_depth": 3, "iou_head_hidden_dim": 20}

POINTS = 40 + 150 * scatter((3, 2, 2), 0).float()
LABELS = torch.tensor([[1, 0], [1, -1], [0, 1]])
BOXES = torch.tensor([[3.0, 5.0, 20.0, 41.0], [0.0, 0.0, 79.0, 63.0], [30.0, 7.0, 31.0, 50.0]])
MASKS = 20 * scatter((3, 1, 16, 20), 40).float()
IMAGE = 5 * scatter((1, DIM, *GRID), 1000).float()

NAMES = (
    (r"^places\.frequencies$", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"^no_point$", "not_a_point_embed.weight"),
    (r"^no_mask$", "no_mask_embed.weight"),
    (r"^shrink\.", "mask_downscaling."),
    (r"^grow\.3\.", "output_upscaling.3."),
    (r"^grow\.", "output_upscaling."),
    (r"^vectors\.(\d)\.(\d)\.", lambda m: f"output_hypernetworks_mlps.{m[1]}.layers.{int(m[2]) // 2}."),
    (r"^quality\.(\d)\.", lambda m: f"iou_prediction_head.layers.{int(m[1]) // 2}."),
    (r"transformer\.blocks\.", "transformer.layers."),
    (r"\.to_tokens\.", ".self_attn."),
    (r"\.to_image\.", ".cross_attn_token_to_image."),
    (r"\.from_image\.", ".cross_attn_image_to_token."),
    (r"transformer\.last\.", "transformer.final_attn_token_to_image."),
    (r"transformer\.norm\.", "transformer.norm_final_attn."),
    (r"\.mlp\.0\.", ".mlp.lin1."),
    (r"\.mlp\.2\.", ".mlp.lin2."),
    (r"\.([qkv])\.(weight|bias)$", r".\1_proj.\2"),
    (r"\.out\.(weight|bias)$", r".out_proj.\1"),
)
STACKS = {  # tables of ours that are several embeddings of theirs
    "kinds.weight": [f"point_embeddings.{i}.weight" for i in range(4)],
    "tokens.weight": ["iou_token.weight", "mask_tokens.weight"],
}


def their_names(name: str) -> list[str]:
    """The tensors of theirs, one below the other, that one of ours is."""
    if name in STACKS:
        return STACKS[name]
    for ours, theirs in NAMES:
        name = re.sub(ours, theirs, name)
    return [name]


def load(net: torch.nn.Module, theirs: dict[str, Tensor]) -> torch.nn.Module:
    """Ours with their weights."""
    state = net.state_dict()
    joined = {name: torch.cat([theirs[other] for other in their_names(name)]) for name in state}
    net.load_state_dict({name: value.reshape(state[name].shape) for name, value in joined.items()})
    return net.eval()


def scattered(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights of tensors of theirs, the same on every machine: in (-0.6, 0.6), of norms near 1."""
    found = {name: scatter(shapes[name], 1000 * i).float() for i, name in enumerate(sorted(shapes))}
    for name, value in found.items():
        if "norm" in name:
            value += name.endswith("weight")
        else:
            value *= 3
    return found


def shapes_of(net: torch.nn.Module) -> dict[str, torch.Size]:
    """Of ours, as theirs keep them: each of a stack alone."""
    shapes: dict[str, torch.Size] = {}
    for name, value in net.state_dict().items():
        rows = {"mask_tokens.weight": len(value) - 1}
        for other in their_names(name):
            single = name in STACKS or other.endswith("embed.weight")
            shapes[other] = torch.Size((rows.get(other, 1), value.shape[-1])) if single else value.shape
    return shapes


def encoder_like_theirs() -> PromptEncoder:
    """Ours of the sizes of ENCODER."""
    return PromptEncoder(DIM, GRID, SIZE, mask_channels=8)


def decoder_like_theirs() -> MaskDecoder:
    """Ours of the sizes of TRANSFORMER and DECODER."""
    return MaskDecoder(TwoWayTransformer(DIM, 2, 2, 24), hidden=20)
