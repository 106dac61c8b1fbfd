"""Meta's DiT by its names: weights of its shapes, and its equations (Peebles & Xie 2023) written down on their own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, DEPTH, HEADS, PATCH, SIDE, CHANNELS, CLASSES = 24, 3, 2, 2, 4, 3, 5
SETTINGS = {  # of `models.DiT`
    "input_size": SIDE * PATCH, "patch_size": PATCH, "in_channels": CHANNELS, "hidden_size": WIDTH, "depth": DEPTH,
    "num_heads": HEADS, "num_classes": CLASSES,
}  # fmt: skip


def positions() -> Tensor:
    """(1, N, width): sines, then cosines of the column at 10000^(-i / (width / 4)); the same of the row."""
    table = torch.zeros(SIDE, SIDE, WIDTH, dtype=torch.float64)
    for row in range(SIDE):
        for column in range(SIDE):
            angles = [[place / 10000 ** (4 * i / WIDTH) for i in range(WIDTH // 4)] for place in (column, row)]
            table[row, column] = torch.tensor([f(a) for each in angles for f in (math.sin, math.cos) for a in each])
    return table.reshape(1, -1, WIDTH).float()


def shapes(outputs: int) -> dict[str, tuple[int, ...]]:
    """Of all weights but the positions, by name, for that many channels out."""
    layers = {
        "t_embedder.mlp.0": (WIDTH, 256), "t_embedder.mlp.2": (WIDTH, WIDTH),
        "final_layer.linear": (PATCH**2 * outputs, WIDTH), "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
    }  # fmt: skip
    for i in range(DEPTH):
        layers |= {
            f"blocks.{i}.attn.qkv": (3 * WIDTH, WIDTH), f"blocks.{i}.attn.proj": (WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc1": (4 * WIDTH, WIDTH), f"blocks.{i}.mlp.fc2": (WIDTH, 4 * WIDTH),
            f"blocks.{i}.adaLN_modulation.1": (6 * WIDTH, WIDTH),
        }  # fmt: skip
    found = {f"{name}.weight": shape for name, shape in layers.items()}
    found |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    found["x_embedder.proj.weight"], found["x_embedder.proj.bias"] = (WIDTH, CHANNELS, PATCH, PATCH), (WIDTH,)
    return found | {"y_embedder.embedding_table.weight": (CLASSES + 1, WIDTH)}


def random_state(learned: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """Its state dictionary with every weight drawn: where the published ones start at zero, most mistakes hide."""
    generator = torch.Generator().manual_seed(seed)
    found = {"pos_embed": positions()}
    for name, shape in shapes(CHANNELS * (1 + learned)).items():
        found[name] = torch.randn(shape, generator=generator) * (0.2 if len(shape) == 1 else shape[-1] ** -0.5)
    return found


def published(state: dict[str, Tensor], x: Tensor, step: Tensor, y: Tensor) -> Tensor:
    """What the published network says of x (B, C, H, W) at its steps (B,), 0 ... 999 and noise last, for labels y."""

    def layer(name: str, h: Tensor) -> Tensor:
        return F.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale[:, None]) + shift[:, None]

    angle = step[:, None] * 10000 ** (-torch.arange(128) / 128)
    time = layer("t_embedder.mlp.2", F.silu(layer("t_embedder.mlp.0", torch.cat([angle.cos(), angle.sin()], 1))))
    condition = F.silu(time + state["y_embedder.embedding_table.weight"][y])
    stem = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=PATCH)
    h = stem.flatten(2).mT + state["pos_embed"]
    for i in range(DEPTH):
        shift, scale, gate, shift2, scale2, gate2 = layer(f"blocks.{i}.adaLN_modulation.1", condition).chunk(6, dim=1)
        q, k, v = (  # (B, heads, N, width / heads) each: the rows are all queries, then all keys, then all values
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in layer(f"blocks.{i}.attn.qkv", norm(h, shift, scale)).chunk(3, dim=2)
        )
        read = ((q @ k.mT / (WIDTH / HEADS) ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        h = h + gate[:, None] * layer(f"blocks.{i}.attn.proj", read)
        hidden = F.gelu(layer(f"blocks.{i}.mlp.fc1", norm(h, shift2, scale2)), approximate="tanh")
        h = h + gate2[:, None] * layer(f"blocks.{i}.mlp.fc2", hidden)
    shift, scale = layer("final_layer.adaLN_modulation.1", condition).chunk(2, dim=1)
    patches = layer("final_layer.linear", norm(h, shift, scale)).unflatten(2, (PATCH, PATCH, -1))
    out = x.new_zeros(len(x), patches.shape[-1], *x.shape[2:])
    for place in range(patches.shape[1]):  # each patch into its square, channels last
        row, column = PATCH * (place // SIDE), PATCH * (place % SIDE)
        out[:, :, row : row + PATCH, column : column + PATCH] = patches[:, place].permute(0, 3, 1, 2)
    return out
