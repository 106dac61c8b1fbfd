"""Meta's DiT: the weights of the published code (facebookresearch/DiT, models.py; Peebles & Xie 2023) as a `DiT`'s.

| theirs                                         | ours                                      | how              |
|------------------------------------------------|-------------------------------------------|------------------|
| x_embedder.proj.weight (width, C, p, p)        | stem.weight (width, C p p)                | flattened        |
| pos_embed (1, N, width)                        | `position_table`, not a weight            | compared         |
| t_embedder.mlp.0 and .2                        | condition.time.layers.0 and .2            | as it is         |
| y_embedder.embedding_table, the null label last | condition.label                          | as it is         |
| blocks.i.attn.qkv and .proj                    | blocks.i.attention.qkv and .out           | as it is         |
| blocks.i.mlp.fc1 and .fc2                      | blocks.i.mlp.0 and .2                     | as it is         |
| blocks.i.adaLN_modulation.1                    | blocks.i.modulation                       | as it is         |
| final_layer.adaLN_modulation.1                 | modulation                                | as it is         |
| final_layer.linear, rows (p, p, channels)      | head, rows (channels, p, p)               | rows reordered   |
| none                                           | carry, the gate on x                      | 0                |

Three things are no weights. Their time is a step 0 ... T - 1, noise last, as cosines and sines of 128 frequencies from
1 down to nearly 1/10000: `StepEmbedding` reads it from t. Where the variance is learned, theirs has 2C channels out for
C in; ours has 2C of both, is given x twice (`flowlib.chains.TwoOutputs`), and its stem ignores the second x. And theirs
drops labels itself in training, where here the loss does.

LayerNorm's 1e-6, GELU in its tanh form, the scale 1 + s, and the order shift, scale, gate are the same in both.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from flowlib.checks import check_count
from flowlib.nets.dit import DiT, position_table
from flowlib.nets.embeddings import TimeEmbedding
from flowlib.precision import double

NAMES = (
    (r"^x_embedder\.proj\.", "stem."),
    (r"^t_embedder\.mlp\.", "condition.time.layers."),
    (r"^y_embedder\.embedding_table\.", "condition.label."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^final_layer\.linear\.", "head."),
    (r"^final_layer\.adaLN_modulation\.1\.", "modulation."),
    (r"\.adaLN_modulation\.1\.", ".modulation."),
)


class StepEmbedding(TimeEmbedding):
    """The published embedding of a step 0 ... T - 1, of times: (B,) in [0, 1] -> (B, dim), step = T (1 - t) - 1.

    Their step is our k less 1, t = 1 - k/T. Where that is an integer to a thousandth, it is taken for that integer: t
    may have been rounded to float32.
    """

    def __init__(self, dim: int, steps: int = 1000, features: int = 256) -> None:
        super().__init__(dim, features)
        self.steps, half = check_count("steps", steps), features // 2
        self.frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)

    def forward(self, t: Tensor) -> Tensor:
        step = (1 - double(t)) * self.steps - 1
        near = step.round()
        step = torch.where((step - near).abs() < 1e-3, near, step).to(self.frequencies)
        angle = step[:, None] * self.frequencies  # (B, features / 2)
        return self.layers(torch.cat([angle.cos(), angle.sin()], dim=1))


def dit_from_meta(state: Mapping[str, Tensor], heads: int, *, steps: int = 1000) -> DiT:
    """A network net(x, t, y) with the weights of Meta's `DiT`; all sizes but that of a head are read from their shapes.

    The published models are fields on `GaussianPath(Chain.linear(1000))`, of latents: with 2C channels out,
    `LearnedVariance(TwoOutputs(net), path)`; with C, `Model(net, path, "noise")`.

    Args:
        state: `DiT(...).state_dict()` of the published code, of a model with a null label (class_dropout_prob above 0).
        heads: attention heads; 16 of DiT-XL and DiT-L, 12 of DiT-B, 6 of DiT-S.
        steps: T, of the chain that it was trained on.

    Returns:
        (B, c, H, W), (B,), (B,) -> (B, c, H, W), where c are the channels out, C or 2C.

    Raises:
        ValueError: for a name that is missing or unknown, sizes that do not fit each other, and positions that are not
            those of a square image.

    Example:
        >>> import torch
        >>> from flowlib.nets import dit_from_meta
        >>> from flowlib.nets.embeddings import position_table
        >>> layers = {"t_embedder.mlp.0": (8, 256), "t_embedder.mlp.2": (8, 8), "x_embedder.proj": (8, 1, 2, 2)}
        >>> layers |= {"blocks.0.attn.qkv": (24, 8), "blocks.0.attn.proj": (8, 8), "blocks.0.mlp.fc1": (32, 8)}
        >>> layers |= {"blocks.0.mlp.fc2": (8, 32), "blocks.0.adaLN_modulation.1": (48, 8)}
        >>> layers |= {"final_layer.linear": (4, 8), "final_layer.adaLN_modulation.1": (16, 8)}
        >>> state = {f"{name}.weight": torch.randn(shape) for name, shape in layers.items()}
        >>> state |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in layers.items()}
        >>> state["y_embedder.embedding_table.weight"] = torch.randn(4, 8)
        >>> state["pos_embed"] = position_table(2, 2, 8)[None]
        >>> net = dit_from_meta(state, heads=2)  # of images of 4 x 4 pixels and three labels
        >>> net.null, net(torch.randn(5, 1, 4, 4), torch.full((5,), 0.5)).shape
        (3, torch.Size([5, 1, 4, 4]))
    """
    stem, head = _get(state, "x_embedder.proj.weight"), _get(state, "final_layer.linear.weight")
    if stem.ndim != 4 or stem.shape[2] != stem.shape[3]:
        raise ValueError(f"state['x_embedder.proj.weight'] must be (width, C, p, p), got {tuple(stem.shape)}")
    width, channels, patch = stem.shape[:3]
    outputs = len(head) // patch**2
    if outputs not in (channels, 2 * channels):
        raise ValueError(f"state must have {channels} or {2 * channels} channels out, as it has in, got {outputs}")
    ours = {_name(name): value for name, value in state.items() if name != "pos_embed"}
    ours["stem.weight"] = _stem(stem, outputs)
    for kind in ("weight", "bias"):
        rows = _get(ours, f"head.{kind}")
        ours[f"head.{kind}"] = rows.unflatten(0, (patch**2, outputs)).transpose(0, 1).flatten(0, 1)
    side = _side(_get(state, "pos_embed"), width)
    depth = len({name.split(".")[1] for name in ours if name.startswith("blocks.")})
    net = DiT(
        outputs, side * patch, patch, width, depth, heads,
        classes=len(_get(ours, "condition.label.weight")) - 1,
        expand=len(_get(ours, "blocks.0.mlp.0.weight")) // width,
    )  # fmt: skip
    net.condition.time = StepEmbedding(width, steps, features=_get(ours, "condition.time.layers.0.weight").shape[1])
    ours |= {name: value for name, value in net.state_dict().items() if name.startswith("carry.")}  # 0
    try:
        net.load_state_dict(ours)
    except RuntimeError as error:
        raise ValueError(f"state does not fit: {error}") from None
    return net.eval()


def _name(name: str) -> str:
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name


def _get(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"state must be of Meta's DiT, but has nothing for {name!r}")
    return state[name]


def _stem(weight: Tensor, outputs: int) -> Tensor:
    """(width, C, p, p) -> (width, outputs p p): what is read of a second x is 0."""
    first = weight.flatten(1)
    return torch.cat([first, first.new_zeros(len(first), outputs * weight[0, 0].numel() - first.shape[1])], dim=1)


def _side(positions: Tensor, width: int) -> int:
    """Patches a side of the image whose positions (1, N, width) these are."""
    side = math.isqrt(positions.numel() // width)
    if positions.shape != (1, side**2, width):
        raise ValueError(f"state['pos_embed'] must be (1, a square, {width}), got {tuple(positions.shape)}")
    if float((positions[0] - position_table(side, side, width).to(positions)).abs().max()) > 1e-4:
        raise ValueError("state['pos_embed'] must be the sines and cosines of a square image, which they are not")
    return side
