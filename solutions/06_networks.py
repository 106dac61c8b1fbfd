# %% [markdown]
# # Exercise 06. Networks for images
#
# You build the blocks that U-Nets, diffusion transformers and latent models are made of: a time embedding, a modulated
# residual block, a small U-Net, patches, attention, an adaLN-Zero block, the scale of a latent space, and the bill.
#
# **How it works.** Fill in each function, then run the check below it. A check prints ✓ when the answer is right; when
# it is wrong, it says what probably went wrong. `hint("06.1")` gives a hint; asked again, it says more, three times.
# Every question stands on its own: where one needs an earlier block, it uses the library's. The grader runs these
# checks and a few more.
#
# **Without** in a question names functions that solve it already: an answer that calls one of them gets no points.
#
# **Needed before:** [lecture 06](../lectures/06_networks.ipynb). **Time:** about 80 minutes. **Points:** 10.

# %%
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowlib.course.notebook import exercise, unaided
from flowlib.data import load
from flowlib.nets import dit, embeddings, unet
from flowlib.nets.attention import SelfAttention
from flowlib.nets.autoencoder import draw
from flowlib.plotting import tile
from flowlib.systems.latent import LatentModel, latent_statistics

hint = exercise("06_networks").hint
digits = load("digits").images[:256]  # (256, 1, 8, 8) in [-1, 1]


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill all parameters with random numbers, those that start at zero too, so that no zero hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))


def torch_attention(x: Tensor, w_qkv: Tensor, w_out: Tensor, heads: int) -> Tensor:
    """What torch's own layer makes of tokens (B, N, dim), with these weights and no biases."""
    layer = nn.MultiheadAttention(x.shape[2], heads, bias=False, batch_first=True, dtype=x.dtype)
    layer.load_state_dict({"in_proj_weight": w_qkv, "out_proj.weight": w_out})
    with torch.no_grad():
        return layer(x, x, x, need_weights=False)[0]


def operations(function, *arguments: Tensor) -> int:
    """The floating-point operations of the matrix products in one call, counted by torch."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


@contextmanager
def untouched(*arguments: Tensor) -> Iterator[None]:
    """While it lasts, none of these tensors may be changed in place."""
    before = [argument.clone() for argument in arguments]
    yield
    same = all(torch.equal(argument, copy) for argument, copy in zip(arguments, before, strict=True))
    assert same, "an argument was changed in place: make a new tensor, the caller still needs the old one"


def tensor(answer: object, shape: tuple[int, ...], why: str) -> Tensor:
    """The answer, if it is a tensor of this shape without NaN or infinity; `why` says why it has the shape."""
    assert isinstance(answer, Tensor), f"return a tensor, got {type(answer).__name__}"
    assert answer.shape == shape, f"{why}: expected {shape}, got {tuple(answer.shape)}"
    assert bool(answer.isfinite().all()), "the answer contains NaN or infinite numbers"
    return answer


# %% [markdown]
# ## 06.1 Sines and cosines of time (1 point, 8 minutes, easy)
#
# Write the features by which a network is told the time:
# $$\phi(t) = \big(\sin 2\pi f_1 t, \dots, \sin 2\pi f_m t,\; \cos 2\pi f_1 t, \dots, \cos 2\pi f_m t\big),
# \qquad m = \texttt{dim}/2.$$
# The frequencies $f_k$, in turns over $[0, 1]$, form a geometric sequence from $f_1 = 1$ to $f_m = \texttt{fastest}$,
# both included.
#
# **Without:** `embeddings.TimeEmbedding.__init__`, that is, without the library's embedding.


# %% solution="06.1"
def time_embedding(t: Tensor, dim: int, fastest: float = 100.0) -> Tensor:
    """Features of time.

    Args:
        t: times (B,) in [0, 1].
        dim: number of features, even, at least 4.
        fastest: turns of the fastest sine over [0, 1]; the slowest turns once.

    Returns:
        (B, dim): dim / 2 sines, then dim / 2 cosines, from the slowest to the fastest.
    """
    ### BEGIN SOLUTION
    exponent = torch.linspace(0, 1, dim // 2, dtype=t.dtype)
    angle = 2 * math.pi * t[:, None] * fastest**exponent
    return torch.cat([angle.sin(), angle.cos()], dim=1)
    ### END SOLUTION


# %% check="06.1" points=1
t = torch.tensor([0.0, 0.003, 0.1, 0.37, 1.0], dtype=torch.float64)
with untouched(t), unaided(embeddings.TimeEmbedding.__init__):
    features, short, single = time_embedding(t, 16), time_embedding(t, 10, 17.0), time_embedding(t[:1], 4)
features = tensor(features, (5, 16), "dim counts sines and cosines together").double()
tensor(short, (5, 10), "dim = 10 gives five sines and five cosines")
tensor(single, (1, 4), "one time gives one row")
at_zero = torch.cat([torch.zeros(8), torch.ones(8)]).double()
assert torch.allclose(features[0], at_zero), (
    "at t = 0 every sine is 0 and every cosine is 1: are the sines in the first half, the cosines in the second?"
)
sines, cosines = features.chunk(2, dim=1)
assert torch.allclose(sines**2 + cosines**2, torch.ones(5, 8).double(), atol=1e-3), (
    "sine k and cosine k must have the same frequency, so that the sum of their squares is 1"
)
# At t = 0.003 even the fastest has turned by less than half a circle, so its angle can be read off.
turns = torch.atan2(sines[1], cosines[1]) / (2 * math.pi * 0.003)
assert (turns[0] * 2 * math.pi - 1).abs() > 1e-3, "sin takes radians: a whole turn is 2 pi, not 1"
assert (turns[0] - 1).abs() < 1e-3, "the slowest pair must come first and turn exactly once over [0, 1]"
assert (turns[-1] - 100).abs() < 0.1, (
    f"the last pair must turn `fastest` = 100 times over [0, 1], it turns {float(turns[-1]):.1f} times: "
    "are both ends of the sequence included?"
)
ratios = turns[1:] / turns[:-1]
assert torch.allclose(ratios, ratios[:1].expand(7), rtol=1e-2), (
    "the frequencies must form a geometric sequence: neighbours have the same ratio, not the same difference"
)
last = torch.atan2(short[1, 4], short[1, 9]) / (2 * math.pi * 0.003)
assert (last - 17).abs() < 0.02, f"with fastest = 17 the last pair must turn 17 times, it turns {float(last):.1f} times"
### BEGIN HIDDEN TESTS
t = torch.rand(7, generator=torch.Generator().manual_seed(1))
angle = t[:, None] * embeddings.TimeEmbedding(4, features=10, fastest=17.0).frequencies
assert torch.allclose(time_embedding(t, 10, 17.0), torch.cat([angle.sin(), angle.cos()], 1), atol=1e-4), (
    "the function must use `dim` and `fastest` as they come"
)
### END HIDDEN TESTS

# %% [markdown] hints="06.1"
# 1. A geometric sequence is evenly spaced in its logarithm.
#
# 2. With $m$ frequencies the exponents $k/(m-1)$, $k = 0 \dots m-1$, run from 0 to 1, and
#    $f_{k+1} = \texttt{fastest}^{k/(m-1)}$.
#
# 3. `angle = 2 * math.pi * t[:, None] * fastest ** torch.linspace(0, 1, dim // 2)` has shape `(B, dim // 2)`; join its
#    sine and its cosine along dimension 1.

# %% tags=["demo"]
times = torch.linspace(0, 1, 200)
library = embeddings.TimeEmbedding(4, features=32)
library.layers = nn.Identity()  # the features alone, without the network behind them
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
pictures = (time_embedding(times, 32), library(times))
for ax, picture, title in zip(axes, pictures, ("yours", "expected"), strict=True):
    ax.imshow(picture.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, extent=(0, 1, 32, 0), interpolation="nearest")
    ax.set(title=title, xlabel="time t", ylabel="feature")
plt.show()

# %% [markdown]
# ## 06.2 A residual block that listens (1 point, 12 minutes, medium)
#
# Write the block of a U-Net. It computes
# $$h = \mathrm{conv}_1(\mathrm{silu}(\mathrm{norm}_1(x))), \qquad
# x + \mathrm{conv}_2\big(\mathrm{silu}(\mathrm{FiLM}(\mathrm{norm}_2(h)))\big),$$
# where FiLM scales and shifts each channel by what a linear layer `modulation` reads from the condition. A scale of 0
# and a shift of 0 mean: leave the features as they are. At initialisation the block is the identity, and the
# modulation does nothing.
#
# Use these names, for the check loads weights by them: `norm1`, `norm2` (`nn.GroupNorm`, 8 groups), `conv1`, `conv2`
# (3 x 3, padding 1), `modulation` (`nn.Linear(dim, 2 * channels)`: first the scales, then the shifts), which reads the
# condition as it is.
#
# **Without:** `unet.ResidualBlock`, neither its `__init__` nor its `forward`.


# %% solution="06.2"
class ResidualBlock(nn.Module):
    """(B, channels, H, W), condition (B, dim) -> (B, channels, H, W); channels a multiple of 8."""

    ### BEGIN SOLUTION
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = embeddings.zero_init(nn.Linear(dim, 2 * channels))
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = embeddings.zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))

    ### END SOLUTION


# %% check="06.2" points=1
# 16 samples of 16 channels, 16 x 16 pixels: a condition that lands on a wrong axis does not crash, it lies.
generator = torch.Generator().manual_seed(0)
x, condition = torch.randn(16, 16, 16, 16, generator=generator), torch.randn(16, 5, generator=generator)
reference = unet.ResidualBlock(16, 16, 5)
with unaided(unet.ResidualBlock, unet.ResidualBlock.__init__):
    block = ResidualBlock(16, 5)
    with untouched(x, condition):
        out = block(x, condition)
shapes = {name: tuple(value.shape) for name, value in block.state_dict().items()}
expected_shapes = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
assert shapes == expected_shapes, f"the layers must have the names and sizes {expected_shapes}, got {shapes}"
groups = [getattr(norm, "num_groups", None) for norm in (block.norm1, block.norm2)]
assert groups == [8, 8], f"both norms must be nn.GroupNorm with 8 groups, got {groups}"
out = tensor(out, tuple(x.shape), "the output must have the shape of x")
with torch.no_grad():
    assert bool(block.conv1.weight.any()), "conv1 starts at zero, but it is not the last layer of the branch"
    assert bool(out.any()), "at the start the output is 0: the branch may be silent, but x must be added to it"
    silent = not bool(block.conv2.weight.any() or block.conv2.bias.any())
    assert silent or torch.allclose(out, x), (
        "at the start the block must pass x unchanged: the last layer of the branch, weight and bias, starts at zero"
    )
    assert torch.allclose(out, x), (
        "the branch starts at zero, but x is changed: what is added to the branch is x itself"
    )
    assert not bool(block.modulation.weight.any() or block.modulation.bias.any()), (
        "the modulation must start at zero too, so that at first no condition changes anything"
    )
    randomise(block)
    nn.init.zeros_(block.modulation.weight)
    nn.init.zeros_(block.modulation.bias)
    reference.load_state_dict(block.state_dict())
    given = {}
    for name, layer in block.named_children():
        layer.register_forward_pre_hook(lambda module, inputs, name=name: given.update({name: inputs[0].clone()}))
    with untouched(x, condition):
        branch = block(x, condition)
    branch = branch - x
    unused = [name for name in ("norm1", "conv1", "modulation", "norm2", "conv2") if name not in given]
    assert not unused, f"these layers are never called: {unused}"
    first = block.norm1(x)
    first = first[-len(given["conv1"]) :]  # a block may also be called image by image
    assert not torch.allclose(given["conv1"], first, atol=1e-4), "the nonlinearity before conv1 is missing"
    assert torch.allclose(given["conv1"], F.silu(first), atol=1e-3), (
        "conv1 must read silu(norm1(x)): is it another nonlinearity, or another order?"
    )
    assert branch.std((2, 3)).mean() > 1e-3 * branch.abs().mean(), (
        "with scale 0 and shift 0 the features do not pass at all: a scale of 0 must mean a factor of 1"
    )
    assert not torch.allclose(given["conv2"], block.norm2(given["norm2"]), atol=1e-4), (
        "the nonlinearity before conv2 is missing"
    )
    assert torch.allclose(branch, reference(x, condition) - x, atol=1e-3), (
        "with scale 0 and shift 0 the branch should be conv2(silu(norm2(conv1(silu(norm1(x)))))): check the order"
    )
    nn.init.constant_(block.modulation.bias[:16], 2.0)
    assert not torch.allclose(block(x, condition) - x, branch, atol=1e-3), (
        "tripling all features changes nothing: a norm that comes after the modulation takes the scale out again"
    )
    tripled = block(x, condition)
    nn.init.constant_(block.modulation.bias[16:], 2.0)
    assert not torch.allclose(block(x, condition), tripled, atol=1e-3), "a shift of 2 changes nothing: it is not added"
    randomise(block)
    reference.load_state_dict(block.state_dict())
    out = block(x, condition)
    other = condition.clone()
    other[3] += 1
    changed = (block(x, other) - out).abs().flatten(1).amax(1) > 1e-4
    assert bool(changed[3]), "a change of a sample's condition does not change its output"
    assert int(changed.sum()) == 1, (
        "sample 3's condition reached other samples: broadcast against (B, C, H, W), (B, C) lands on height and width"
    )
    exchanged = unet.ResidualBlock(16, 16, 5)
    exchanged.load_state_dict(block.state_dict())
    exchanged.modulation.weight.copy_(block.modulation.weight.roll(16, 0))
    exchanged.modulation.bias.copy_(block.modulation.bias.roll(16, 0))
    assert not torch.allclose(out, exchanged(x, condition), atol=1e-3), (
        "scales and shifts are exchanged: scales come first"
    )
    assert not torch.allclose(out, reference(x, F.silu(condition)), atol=1e-3), (
        "the modulation reads the condition as it is: no nonlinearity comes before it here"
    )
    assert torch.allclose(out, reference(x, condition), atol=1e-3), (
        "scale and shift must be applied channel by channel to norm2's output, before the nonlinearity"
    )
small, reference = ResidualBlock(8, 3), unet.ResidualBlock(8, 8, 3)
randomise(small)
reference.load_state_dict(small.state_dict())
x = torch.randn(1, 8, 4, 6, generator=generator, requires_grad=True)
condition = torch.randn(1, 3, generator=generator, requires_grad=True)
out = tensor(small(x, condition), (1, 8, 4, 6), "one image that is not square keeps its shape")
assert torch.allclose(out, reference(x, condition), atol=1e-3), "one image of 4 x 6 pixels goes wrong"
gradients = torch.autograd.grad(out.square().sum(), [x, condition, *small.parameters()], allow_unused=True)
assert all(gradient is not None for gradient in gradients), "x, condition or a layer gets no gradient: is one detached?"

# %% [markdown] hints="06.2"
# 1. `modulation(condition)` has shape `(B, 2 * channels)`, an image has `(B, channels, H, W)`. Which axes are missing?
#
# 2. `[:, :, None, None]` adds them; `.chunk(2, dim=1)` splits scales from shifts. "0 leaves the features as they are"
#    means the factor `1 + scale`. Which layer, set to zero, silences the whole branch?
#
# 3. Zero weight and bias of `modulation` and `conv2`. Then `h = self.norm2(self.conv1(F.silu(self.norm1(x))))`,
#    `h = h * (1 + scale) + shift`, and the output is `x + self.conv2(F.silu(h))`.

# %% [markdown]
# ## 06.3 A U-Net, all of it (2 points, 20 minutes, hard)
#
# Write a U-Net with two levels. It goes
# `stem` (1 to `channels`) → `encoder` → `down` (stride 2, to `2 channels`) → `middle` → nearest-neighbour upsampling by
# 2 and `up` (back to `channels`) → `decoder` → `head` (to 1 channel).
#
# The decoder reads `up`'s output **and then** the encoder's output, joined along the channels. `encoder`, `middle` and
# `decoder` are blocks `unet.ResidualBlock(channels_in, channels_out, dim)`, called with `(h, condition)`; the other
# four are 3 x 3 convolutions with padding 1, and nothing else stands between two layers. The network starts at 0
# everywhere, by its last layer alone. Any even height and width must do.
#
# **Without:** `unet.UNet`.


# %% solution="06.3"
class TinyUNet(nn.Module):
    """(B, 1, H, W), condition (B, dim) -> (B, 1, H, W); H and W even, channels a multiple of 8."""

    ### BEGIN SOLUTION
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = unet.ResidualBlock(channels, channels, dim)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = unet.ResidualBlock(2 * channels, 2 * channels, dim)
        self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.decoder = unet.ResidualBlock(2 * channels, channels, dim)
        self.head = embeddings.zero_init(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skip = self.encoder(self.stem(x), condition)  # (B, channels, H, W)
        h = self.middle(self.down(skip), condition)  # (B, 2 channels, H / 2, W / 2)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest"))  # (B, channels, H, W)
        return self.head(self.decoder(torch.cat([h, skip], dim=1), condition))

    ### END SOLUTION


# %% check="06.3" points=2
with unaided(unet.UNet):
    net = TinyUNet(8, 5)
parts = ("stem", "encoder", "down", "middle", "up", "decoder", "head")
assert all(isinstance(getattr(net, part, None), nn.Module) for part in parts), f"the layers must be named {parts}"
blocks = ("encoder", "middle", "decoder")
assert all(isinstance(getattr(net, part), unet.ResidualBlock) for part in blocks), (
    f"{', '.join(blocks)} must be the library's blocks, unet.ResidualBlock(channels_in, channels_out, dim)"
)
widths = {part: tuple(getattr(net, part).conv1.weight.shape[1::-1]) for part in blocks}  # in, out
assert widths["decoder"] == (16, 8), (
    "the decoder must read 2 channels and return channels: joining is concatenation, an addition would mix the two up"
)
assert widths["encoder"] == (8, 8), f"the encoder keeps 8 channels, yours goes from {widths['encoder']}"
assert widths["middle"] == (16, 16), f"the middle keeps 2 channels, 16 here, yours goes from {widths['middle']}"
kernels = [tuple(getattr(net, part).weight.shape[2:]) for part in ("stem", "down", "up", "head")]
assert kernels == 4 * [(3, 3)], f"stem, down, up and head are 3 x 3 convolutions, yours have kernels {kernels}"
generator = torch.Generator().manual_seed(0)
x, condition = torch.randn(3, 1, 12, 16, generator=generator), torch.randn(3, 5, generator=generator)
with untouched(x, condition):
    first = tensor(net(x, condition), tuple(x.shape), "the output must have the shape of x")
assert not torch.equal(first, x), "at the start the output is x: nothing is added to what the head makes"
assert not bool(first.any()), "the network must start at 0: its very last layer, weight and bias, is zero at first"
zeros = [part for part in ("stem", "down", "up") if not bool(getattr(net, part).weight.any())]
assert not zeros, f"only the head starts at zero, but {zeros} do too: what lies before them would sleep"
tensor(net(x[:1, :, :6, :10], condition[:1]), (1, 1, 6, 10), "any even height and width must do")

randomise(net)
inputs, outputs = {}, {}
for part in parts:

    def note(module: nn.Module, given: tuple, named: dict, result: Tensor, part: str = part) -> None:
        inputs[part] = [value.detach().clone() for value in (*given, *named.values())]
        outputs[part] = result.detach().clone()

    getattr(net, part).register_forward_hook(note, with_kwargs=True)
out = net(x, condition)
unused = [part for part in parts if part not in outputs]
assert not unused, f"these layers are never called: {unused}"
assert outputs["middle"].shape == (3, 16, 6, 8), (
    f"the middle works at half the size, on (3, 16, 6, 8) here, not on {tuple(outputs['middle'].shape)}"
)
assert all(len(inputs[part]) == 2 and torch.equal(inputs[part][1], condition) for part in blocks), (
    "encoder, middle and decoder must each be given the condition"
)
for part, before in (("encoder", "stem"), ("down", "encoder"), ("middle", "down"), ("head", "decoder")):
    assert torch.equal(inputs[part][0], outputs[before]), (
        f"`{part}` must read what `{before}` has made, as it is: nothing else stands between the two"
    )
assert torch.equal(inputs["stem"][0], x), "`stem` must read x"
assert inputs["decoder"][0].shape[1] == 16, "the decoder reads 2 channels: `up`'s output and the encoder's"
coming_up, skip = inputs["decoder"][0].chunk(2, dim=1)
assert not torch.equal(coming_up, outputs["encoder"]), (
    "the decoder reads `up` first and the skip second, not the reverse"
)
assert torch.equal(coming_up, outputs["up"]), "the first half of the decoder's input must be `up`'s output"
assert not torch.equal(skip, outputs["up"]), "both halves of the decoder's input come from below: where is the skip?"
assert not torch.equal(skip, outputs["stem"]), (
    "the skip starts before the encoder: it must carry what the encoder has made"
)
cells = skip.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)  # the four pixels of each 2 x 2 cell
assert bool((cells.std(-1) > 1e-6).any()), (
    "the skip is constant on 2 x 2 pixels: it was taken after an image had been halved, when the detail was gone"
)
assert torch.equal(skip, outputs["encoder"]), "the second half of the decoder's input must be the encoder's output"
upsampled = inputs["up"][0]
corners = [upsampled[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
assert all(torch.equal(corner, corners[0]) for corner in corners), "upsampling must be nearest-neighbour"
assert torch.equal(corners[0], outputs["middle"]), "`up` must read what the middle has made, upsampled"
assert torch.equal(out, outputs["head"]), "the output must be the head's, with nothing added"
gradients = torch.autograd.grad(out.square().sum(), list(net.parameters()), allow_unused=True)
assert all(gradient is not None and bool(gradient.any()) for gradient in gradients), (
    "some parameter gets no gradient: is something detached, or never used?"
)

# %% [markdown] hints="06.3"
# 1. Write the shape of `h` behind every line of `forward`. Which earlier tensor has the size that the decoder works at?
#
# 2. Keep the encoder's output in a variable of its own before `down` halves it. The decoder then reads
#    `channels + channels` channels, so it is `unet.ResidualBlock(2 * channels, channels, dim)`.
#
# 3. `skip = self.encoder(self.stem(x), condition)`, `h = self.middle(self.down(skip), condition)`,
#    `h = self.up(F.interpolate(h, scale_factor=2))`, then the decoder on `torch.cat([h, skip], dim=1)` and the head,
#    whose weight and bias you set to zero in `__init__`.

# %% tags=["demo"]
# Your network learns to remove noise from digits, in a few seconds. The condition is switched off.
generator = torch.Generator().manual_seed(0)
net = TinyUNet(16, 4)
optimiser, losses = torch.optim.Adam(net.parameters(), lr=3e-3), []
for _ in range(150):
    z = digits[torch.randint(len(digits), (32,), generator=generator)]
    noisy = z + 0.5 * torch.randn(z.shape, generator=generator)
    loss = (net(noisy, torch.zeros(32, 4)) - z).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
z = digits[:8]
noisy = z + 0.5 * torch.randn(z.shape, generator=generator)
with torch.no_grad():
    restored = net(noisy, torch.zeros(8, 4))
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", width_ratios=(1, 1.2))
axes[0].plot(losses, label="yours")
axes[0].axhline(0.06, color="grey", linestyle="--", label="expected at the end: 0.05 to 0.07")
axes[0].set(title="denoising loss", xlabel="step", ylabel="mean squared error", yscale="log")
axes[0].legend()
axes[1].imshow(tile(torch.cat([noisy, restored, z]), 8), cmap="gray_r", vmin=0, vmax=1)
axes[1].set(title="noisy, yours, expected", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 06.4 Patches and back (1 point, 8 minutes, medium)
#
# Cut images into patches of `patch` x `patch` pixels, and put them together again. Patches are counted row by row, from
# left to right. Inside a token the channels come first, then the rows of the patch, then its columns.
#
# **Without:** `dit.patchify`, `dit.unpatchify`.


# %% solution="06.4"
def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> tokens (B, N, C patch^2), N = H W / patch^2; H and W are multiples of patch."""
    ### BEGIN SOLUTION
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)
    ### END SOLUTION


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse: tokens (B, N, C patch^2) -> (B, C, height, width)."""
    ### BEGIN SOLUTION
    tokens = tokens.reshape(len(tokens), height // patch, width // patch, -1, patch, patch)
    return tokens.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)
    ### END SOLUTION


# %% check="06.4" points=1
x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).reshape(2, 3, 4, 6)  # every pixel has its own number
right_tokens = dit.patchify(x, 2)
with untouched(x), unaided(dit.patchify, dit.unpatchify):
    tokens = tensor(patchify(x, 2), (2, 6, 12), "a (2, 3, 4, 6) image has 6 patches of 12 numbers")
corner, right = x[:, :, :2, :2], x[:, :, :2, 2:4]


def same_numbers(token: Tensor, piece: Tensor) -> bool:
    return torch.equal(token.sort(1).values, piece.flatten(1).sort(1).values)


assert same_numbers(tokens[:, 0], corner), (
    "token 0 is not the top left patch: a reshape alone cuts memory, not patches; the axes must be permuted in between"
)
assert same_numbers(tokens[:, 1], right), "token 1 must be the patch to the right of token 0, not the one below it"
assert not torch.equal(tokens[:, 0], corner.permute(0, 2, 3, 1).flatten(1)), (
    "inside a token the channels must come first; here the pixels do"
)
assert not torch.equal(tokens[:, 0], corner.transpose(2, 3).flatten(1)), (
    "each patch is transposed: inside a channel the rows of the patch come one after the other"
)
assert torch.equal(tokens[:, 0], corner.flatten(1)), "inside a token: channels, then rows, then columns"
assert torch.equal(tokens, right_tokens), "the first patch is right, later ones are not: row by row, from left to right"
with untouched(right_tokens), unaided(dit.patchify, dit.unpatchify):
    back = tensor(unpatchify(right_tokens, 2, 4, 6), (2, 3, 4, 6), "unpatchify must return images")
pixels_first = right_tokens.unflatten(2, (4, 3)).transpose(2, 3).flatten(2)
assert not torch.equal(back, dit.unpatchify(pixels_first, 2, 4, 6)), (
    "unpatchify takes the pixels first and the channels last: inside a token the channels come first"
)
turned = right_tokens.unflatten(2, (3, 2, 2)).transpose(3, 4).flatten(2)
assert not torch.equal(back, dit.unpatchify(turned, 2, 4, 6)), "unpatchify transposes each patch"
assert torch.equal(back, x), (
    "unpatchify scatters the pixels of a 4 x 6 image: does it undo the permutation, height and width in their places?"
)
for shape, patch in (((3, 2, 9, 6), 3), ((1, 1, 4, 2), 2), ((2, 5, 2, 3), 1)):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        tokens, back = patchify(x, patch), unpatchify(dit.patchify(x, patch), patch, *shape[2:])
    except RuntimeError as error:
        raise AssertionError(f"images {shape} in patches of {patch} pixels a side stop with: {error}") from None
    assert torch.equal(tokens, dit.patchify(x, patch)), f"patches of {patch} pixels a side go wrong"
    assert back.shape == x.shape, f"unpatchify must return the shape {shape}, got {tuple(back.shape)}"
    assert torch.equal(back, x), f"unpatchify goes wrong on patches of {patch} pixels a side"

# %% [markdown] hints="06.4"
# 1. Give every role an axis of its own first: (batch, channel, patch row, row inside, patch column, column inside).
#
# 2. Splitting H into (H / patch, patch) and W into (W / patch, patch) needs only a reshape. Then bring the axes to the
#    order (batch, patch row, patch column, channel, row inside, column inside), and only then merge them.
#
# 3. `x.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * p * p)`; the way back is
#    `tokens.reshape(B, H // p, W // p, C, p, p).permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)`.

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(8, 1.7), layout="constrained")
for ax, cut, title in zip(axes, (patchify, dit.patchify), ("yours", "expected"), strict=True):
    patches = cut(digits[3:4], 4).reshape(4, 1, 4, 4)  # the patches of a digit 3, drawn one after the other
    ax.imshow(tile(patches, 4), cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=f"the four patches of a 3: {title}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 06.5 Attention (2 points, 15 minutes, medium)
#
# Write multi-head self-attention with plain matrix products and a softmax. The rows of `w_qkv` make first all queries,
# then all keys, then all values: `x @ w_qkv.T` has `3 dim` columns. Head $h$ owns the $h$-th block of
# `dim / heads` columns in each of the three, and in the result before `w_out`. For each head
# $$a = A\,V, \qquad A = \mathrm{softmax}\big(Q K^\top / \sqrt{d}\big), \qquad d = \texttt{dim} / \texttt{heads}.$$
#
# **Without:** `F.scaled_dot_product_attention`, `nn.MultiheadAttention`, `F.multi_head_attention_forward`,
# `SelfAttention`.


# %% solution="06.5"
def self_attention(x: Tensor, w_qkv: Tensor, w_out: Tensor, heads: int) -> Tensor:
    """Multi-head self-attention without biases.

    Args:
        x: tokens (B, N, dim).
        w_qkv: (3 dim, dim), the weight of a linear layer: queries, keys and values are x @ w_qkv.T.
        w_out: (dim, dim), the weight of the last linear layer.
        heads: number of heads, a divisor of dim.

    Returns:
        (B, N, dim).
    """
    ### BEGIN SOLUTION
    batch, count, dim = x.shape
    q, k, v = (
        part.reshape(batch, count, heads, dim // heads).transpose(1, 2)  # (B, heads, N, dim / heads)
        for part in (x @ w_qkv.T).chunk(3, dim=2)
    )
    weights = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(dim=3)  # (B, heads, N, N): query, key
    return (weights @ v).transpose(1, 2).reshape(batch, count, dim) @ w_out.T
    ### END SOLUTION


# %% check="06.5" points=2
generator = torch.Generator().manual_seed(0)
batch, count, dim, heads = 2, 5, 12, 3


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


x, w_qkv, w_out = random(batch, count, dim), 0.6 * random(3 * dim, dim), random(dim, dim)


def attend(x: Tensor, w_qkv: Tensor, w_out: Tensor, heads: int = heads) -> Tensor:
    with untouched(x, w_qkv, w_out), unaided(
        F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, SelfAttention
    ):  # fmt: skip
        out = self_attention(x, w_qkv, w_out, heads)
    return tensor(out, tuple(x.shape), "the output must have the shape of x")


out = attend(x, w_qkv, w_out)
assert out.dtype == x.dtype, f"tokens of float64 must give float64, got {out.dtype}"
identity = torch.eye(dim, dtype=torch.float64)
# Without queries and keys all weights are 1 / N: every token receives the mean of the values.
values = torch.cat([torch.zeros(2 * dim, dim).double(), w_qkv[2 * dim :]])
means = (x @ w_qkv[2 * dim :].T).mean(1).unflatten(1, (heads, 1, -1)).expand(-1, -1, count, -1)
assert not torch.allclose(attend(x, values, identity), means.reshape(batch, count, dim)), (
    "each head is right, but they are merged in the wrong order: transpose back to (B, N, heads, d), then reshape"
)
mixed = w_qkv.reshape(heads, 3, -1, dim).transpose(0, 1).reshape(3 * dim, dim)
assert not torch.allclose(out, torch_attention(x, mixed, w_out, heads)), (
    "the rows of w_qkv are read head by head: first come the queries of all heads, then all keys, then all values"
)
later = x.clone()
later[:, -1] += 1
assert not torch.allclose(attend(later, w_qkv, w_out)[:, :-1], out[:, :-1]), (
    "no other token sees the last one: every token looks at all, no mask hides any"
)
permutation = torch.randperm(count, generator=generator)
assert torch.allclose(attend(x[:, permutation], w_qkv, w_out), out[:, permutation]), (
    "reordering the tokens must reorder the output and nothing else: were tokens and heads mixed in a reshape? "
    "split the columns into (heads, dim / heads), then transpose tokens and heads"
)
alike = x.clone()
alike[:, :, 0] = 1
constant = torch.zeros(dim, dim, dtype=torch.float64)
constant[:, 0] = 1  # values read only the coordinate in which all tokens agree
mean = attend(alike, torch.cat([w_qkv[: 2 * dim], constant]), identity)
assert torch.allclose(mean, torch.ones_like(mean)), (
    "where all values are 1 every weighted mean is 1, not so here: the weights of one query must sum to 1 over the "
    "keys, the values come from the last third of w_qkv's rows, and nothing is added"
)
# Longer queries stand for another scale of the logits.
for times, name in (
    (0.5, "1/d"),
    (2.0, "1"),
    (heads**-0.5, "1/sqrt(dim)"),
    ((dim / heads / count) ** 0.5, "1/sqrt(N)"),
):
    longer = torch.cat([times * w_qkv[:dim], w_qkv[dim:]])
    assert not torch.allclose(out, torch_attention(x, longer, w_out, heads)), (
        f"the logits are scaled by {name}; a dot product of d = dim / heads terms has the standard deviation sqrt(d)"
    )
assert not torch.allclose(out, torch_attention(x, w_qkv, identity, heads)), "the last linear layer, w_out, is missing"
assert not torch.allclose(out, torch_attention(x, w_qkv, w_out.T, heads)), (
    "a linear layer multiplies by its transposed weight: @ w_out.T"
)
swapped = torch.cat([w_qkv[dim : 2 * dim], w_qkv[:dim], w_qkv[2 * dim :]])
assert not torch.allclose(out, torch_attention(x, swapped, w_out, heads)), (
    "queries and keys are exchanged: a query asks, over all keys"
)
for times in (1, heads**0.5):
    longer = torch.cat([times * w_qkv[:dim], w_qkv[dim:]])
    assert not torch.allclose(out, torch_attention(x, longer, w_out, 1)), (
        "that is attention with one head: each head has weights of its own"
    )
assert torch.allclose(out, torch_attention(x, w_qkv, w_out, heads)), (
    "the result differs from torch's attention: check which columns belong to queries, keys, values and heads"
)
for batch, count, dim, heads in ((3, 7, 8, 4), (1, 1, 6, 2), (1, 4, 6, 1), (2, 4, 4, 4)):
    x, w_qkv, w_out = random(batch, count, dim), random(3 * dim, dim), random(dim, dim)
    assert torch.allclose(attend(x, w_qkv, w_out, heads), torch_attention(x, w_qkv, w_out, heads)), (
        f"it goes wrong for {batch} sequences of {count} tokens of size {dim} and {heads} heads"
    )

# %% [markdown] hints="06.5"
# 1. Split `x @ w_qkv.T` into three parts of `dim` columns, and each part into heads. The logits of a head are a product
#    of matrices (N, d) and (d, N): which two axes must be the last?
#
# 2. `(B, N, dim)` becomes `(B, N, heads, d)` by a reshape and `(B, heads, N, d)` by a transpose. The weights have shape
#    `(B, heads, N, N)`, the query before the key; the softmax goes over the keys.
#
# 3. `weights = (q @ k.transpose(-1, -2) / math.sqrt(d)).softmax(-1)`; then `(weights @ v).transpose(1, 2)`, reshaped to
#    `(B, N, dim)`, times `w_out.T`.

# %% tags=["demo"]
# What one patch receives from the others: the change of its output when each patch in turn is brightened.
generator = torch.Generator().manual_seed(5)
tokens = dit.patchify(digits[3:4], 1)
lift, w_qkv = torch.randn(1, 16, generator=generator), torch.randn(48, 16, generator=generator)


def influence(attend) -> Tensor:
    base = attend(tokens @ lift)
    return torch.stack([
        (attend((tokens + torch.eye(64)[i][None, :, None]) @ lift) - base)[0, 27].norm() * (i != 27) for i in range(64)
    ])  # fmt: skip


figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), layout="constrained")
axes[0].imshow(digits[3, 0], cmap="gray_r")
axes[0].set(title="the digit; pixel 27 asks", xticks=[], yticks=[])
axes[0].plot(3, 3, "o", color="C3")
for ax, attend, title in (
    (axes[1], lambda x: self_attention(x, w_qkv, torch.eye(16), 4), "yours"),
    (axes[2], lambda x: torch_attention(x, w_qkv, torch.eye(16), 4), "expected"),
):
    ax.imshow(influence(attend).reshape(8, 8), cmap="magma")
    ax.set(title=f"influence on it: {title}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 06.6 A transformer block that starts as nothing (1 point, 12 minutes, medium)
#
# Write the block of a diffusion transformer, adaLN-Zero. From the condition a linear layer `modulation` makes six
# vectors, in this order: shift, scale and gate of the first branch, then shift, scale and gate of the second. With
# $m(h) = (1 + \mathrm{scale})\,h + \mathrm{shift}$ and each branch's own vectors,
# $$x \leftarrow x + \mathrm{gate}_1 \cdot \mathrm{attention}(m_1(\mathrm{norm}_1(x))), \qquad
# x \leftarrow x + \mathrm{gate}_2 \cdot \mathrm{mlp}(m_2(\mathrm{norm}_2(x))).$$
# At initialisation the block is the identity, **and it can learn**: start exactly one layer at zero.
#
# Names: `norm1`, `norm2` (`nn.LayerNorm` with `eps=1e-6` and `elementwise_affine=False`), `attention`
# (`SelfAttention(width, heads)`), `mlp` (`nn.Sequential` of a linear layer to `expand * width`,
# `nn.GELU(approximate="tanh")` and a linear layer back), `modulation` (`nn.Linear(width, 6 * width)`), which reads the
# condition as it is.
#
# **Without:** `dit.DiTBlock`, neither its `__init__` nor its `forward`.


# %% solution="06.6"
class AdaLNBlock(nn.Module):
    """Tokens (B, N, width), condition (B, width) -> (B, N, width)."""

    ### BEGIN SOLUTION
    def __init__(self, width: int, heads: int, expand: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(approximate="tanh"), nn.Linear(expand * width, width)
        )
        self.modulation = embeddings.zero_init(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    ### END SOLUTION


# %% check="06.6" points=1
generator = torch.Generator().manual_seed(0)
width = 8
x, condition = (torch.randn(*shape, width, generator=generator).double() for shape in ((8, 8), (8,)))
reference = dit.DiTBlock(width, 2, 3).double()
with unaided(dit.DiTBlock, dit.DiTBlock.__init__):
    block = AdaLNBlock(width, 2, 3).double()
    with untouched(x, condition):
        out = block(x, condition)
shapes = {name: tuple(value.shape) for name, value in block.state_dict().items()}
assert "norm1.weight" not in shapes, (
    "the norms must have no weights of their own: scale and shift come from the condition"
)
expected_shapes = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
assert shapes == expected_shapes, f"the layers must have the names and sizes {expected_shapes}, got {shapes}"
# Where tokens are as small as the root of eps, it shows which eps a norm has.
for norm in (block.norm1, block.norm2):
    assert torch.allclose(norm(1e-3 * x), reference.norm1(1e-3 * x)), "both norms need eps=1e-6"
out = tensor(out, tuple(x.shape), "the output must have the shape of x")
assert bool(out.any()), "at the start the output is 0: a gate belongs to its branch, x itself passes by it"
zero = not bool(block.modulation.weight.any() or block.modulation.bias.any())
assert zero or torch.allclose(out, x), (
    "at the start the block must pass x unchanged: all six modulation vectors start at zero"
)
assert torch.allclose(out, x), (
    "the modulation starts at zero, but x is changed: a branch is multiplied by its gate itself, and x passes by it"
)
loss = (out * torch.randn(x.shape, generator=generator)).sum()
(gradient,) = torch.autograd.grad(loss, [block.modulation.weight])
assert bool(gradient.any()), (
    "the block cannot learn: behind a gate of zero the branch is zero as well, and 0 times 0 has no gradient; "
    "start only the modulation at zero"
)
others = {name: value for name, value in block.named_parameters() if not name.startswith("modulation")}
silent = [name for name, value in others.items() if name.endswith("weight") and not bool(value.any())]
assert not silent, (
    f"it passes x and learns, but {' and '.join(silent)} started at zero too: one zero is enough, and a second one "
    "behind it lets all that lies before it sleep for a step more"
)
with torch.no_grad():
    randomise(block)
    nn.init.zeros_(block.modulation.weight)
    nn.init.zeros_(block.modulation.bias)
    block.modulation.bias.copy_(torch.tensor([0.0, 0, 1, 0, 0, 1]).repeat_interleave(width))
    reference.load_state_dict(block.state_dict())
    assert torch.allclose(block.mlp(x), reference.mlp(x)), "the mlp's GELU must be the approximate one, by tanh"
    side_by_side = x + block.attention(block.norm1(x)) + block.mlp(block.norm2(x))
    out = block(x, condition)
    assert not torch.allclose(out, side_by_side), "the second branch must read what the first one has made of x"
    without = x + block.attention(torch.zeros_like(x))
    without = without + block.mlp(torch.zeros_like(x))
    assert not torch.allclose(out, without), (
        "with scale 0 and shift 0 nothing reaches the branches: the factor is 1 + scale"
    )
    assert torch.allclose(out, reference(x, condition)), (
        "with gates 1, scales 0 and shifts 0 it must be a plain transformer block: each branch reads its own norm of "
        "x, and is added to x"
    )
    randomise(block)
    reference.load_state_dict(block.state_dict())
    out = block(x, condition)
    other = condition.clone()
    other[3] += 1
    changed = (block(x, other) - out).abs().flatten(1).amax(1) > 1e-4
    assert bool(changed[3]), "a change of a sample's condition does not change its output"
    assert int(changed.sum()) == 1, (
        "sample 3's condition reached other samples: broadcast against (B, N, width), (B, width) lands on the tokens"
    )
    exchanged = dit.DiTBlock(width, 2, 3)
    exchanged.double().load_state_dict(block.state_dict())
    order = torch.arange(6 * width).reshape(6, width)[[1, 0, 2, 4, 3, 5]].flatten()
    exchanged.modulation.load_state_dict({k: v[order] for k, v in block.modulation.state_dict().items()})
    assert not torch.allclose(out, exchanged(x, condition)), "shifts and scales are exchanged"
    assert not torch.allclose(out, reference(x, F.silu(condition))), (
        "the modulation reads the condition as it is: no nonlinearity comes before it here"
    )
    assert torch.allclose(out, reference(x, condition)), (
        "the six vectors are in the wrong order or place: shift, scale, gate of attention, then the same of the mlp"
    )
small, reference = AdaLNBlock(12, 3, 2).double(), dit.DiTBlock(12, 3, 2).double()
randomise(small)
reference.load_state_dict(small.state_dict())
x = torch.randn(1, 5, 12, generator=generator).double().requires_grad_()
condition = torch.randn(1, 12, generator=generator).double().requires_grad_()
out = tensor(small(x, condition), (1, 5, 12), "one sequence keeps its shape")
assert torch.allclose(out, reference(x, condition)), "one sequence of 5 tokens of width 12 goes wrong"
gradients = torch.autograd.grad(out.square().sum(), [x, condition, *small.parameters()], allow_unused=True)
assert all(gradient is not None for gradient in gradients), "x, condition or a layer gets no gradient: is one detached?"

# %% [markdown] hints="06.6"
# 1. If a gate is zero, its branch is silent whatever the branch computes. So what need not be zero?
#
# 2. Zero weight and bias of `modulation`, nothing else: then the gates are 0, and the gradient of a gate is its
#    branch's output, which is not 0. The vectors need an axis for the tokens: `[:, None]`.
#
# 3. `six = self.modulation(condition)[:, None].chunk(6, dim=2)`, unpacked in the given order; then
#    `x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)`, and the same with `mlp` on the new `x`.

# %% [markdown]
# ## 06.7 The scale of a latent space (1 point, 12 minutes, medium)
#
# An encoder returns a Gaussian $q(z|x)$ for each image: its mean and the **logarithm of its variance**. A flow expects
# data of standard deviation 1. Write a class that finds one number, `scale`, such that the scaled latents
# `scale * z`, $z \sim q(z|x)$, have standard deviation 1 over all images and components together. Compute it from
# the means and variances; nothing need be drawn. Then write the way in and the way back.
#
# **Without:** `latent_statistics`, `LatentModel`, `draw`.


# %% solution="06.7"
class Latents:
    """Scaled latents of an autoencoder with `encode(x) -> (mean, log_variance)` and `decode(z) -> images`."""

    def __init__(self, autoencoder) -> None:
        self.autoencoder, self.scale = autoencoder, 1.0

    def fit(self, images: Tensor) -> float:
        """Set `self.scale` so that scaled latents of these images (N, C, H, W) have standard deviation 1; return it."""
        ### BEGIN SOLUTION
        mean, log_variance = self.autoencoder.encode(images)
        variance = mean.var(correction=0) + log_variance.exp().mean()
        self.scale = float(variance**-0.5)
        return self.scale
        ### END SOLUTION

    def encode(self, images: Tensor, noise: Tensor) -> Tensor:
        """Scaled latents of images, drawn from q(z|x) with this standard Gaussian noise (of the latents' shape)."""
        ### BEGIN SOLUTION
        mean, log_variance = self.autoencoder.encode(images)
        return self.scale * (mean + torch.exp(0.5 * log_variance) * noise)
        ### END SOLUTION

    def decode(self, z: Tensor) -> Tensor:
        """Images of scaled latents z."""
        ### BEGIN SOLUTION
        return self.autoencoder.decode(z / self.scale)
        ### END SOLUTION


# %%
class ToyAutoencoder:
    """Half the pixels, each with its mean pushed away from 0 and a variance that depends on the image.

    `spread` multiplies the logarithm of the variance.
    """

    def __init__(self, spread: float = 1.0) -> None:
        self.spread = spread

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        half = x[:, :, ::2]
        return 3 * half + 2, self.spread * (0.7 + 0.5 * half)

    def decode(self, z: Tensor) -> Tensor:
        return ((z - 2) / 3).repeat_interleave(2, dim=2)


# %% check="06.7" points=1
autoencoder = ToyAutoencoder()
latents = Latents(autoencoder)
with untouched(digits), unaided(latent_statistics, LatentModel):
    scale = latents.fit(digits)
assert scale is not None, "fit must return the scale"
assert not isinstance(scale, Tensor) or scale.numel() == 1, f"one number for all, got the shape {tuple(scale.shape)}"
scale = float(scale)
assert math.isfinite(scale), f"the scale must be a finite number, got {scale}"
middle, std = latent_statistics(autoencoder, digits)


def found(other: Tensor | float) -> bool:
    return abs(scale / float(other) - 1) < 2e-3


def spread(times: float) -> float:
    """The standard deviation of latents whose log-variances are multiplied."""
    return latent_statistics(ToyAutoencoder(times), digits)[1]


assert not found(1), "the scale is still 1: it must be computed from the images"
assert not found(std**-2), "this is 1 / variance: dividing by the variance leaves the standard deviation at 1 / std"
assert not found(std), "this is the standard deviation itself: multiplied by it, the latents get even wider"
means = autoencoder.encode(digits)[0]
assert not found(1 / means.std()), "the spread of the means alone is too small: each q(z|x) has a variance of its own"
assert not found((middle**2 + std**2) ** -0.5), (
    "this divides by the root mean square: a standard deviation is measured from the mean, which is not 0 here"
)
assert not found(1 / spread(2)), (
    "the encoder gives the logarithm of the variance; its exponential is the variance already, not to be squared"
)
assert not found(1 / spread(0.5)), (
    "a standard deviation was added to a variance: what adds up is the variance of the means and the mean variance"
)
assert found(1 / std), (
    "scaled latents do not have standard deviation 1: variances add up, over all images and components together"
)
assert abs(float(latents.scale) - scale) < 1e-6 * scale, "fit must also keep the scale in self.scale"
images = digits[:50]
means, log_variances = autoencoder.encode(images)
noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
with untouched(images, noise), unaided(draw, LatentModel):
    drawn = tensor(latents.encode(images, noise), (50, 1, 4, 8), "a latent has the shape of its mean")
    again = latents.encode(images, noise)
still = latents.encode(images, torch.zeros_like(noise))
assert torch.equal(drawn, again), "the noise is given: two calls with the same noise must give the same latents"
assert not torch.allclose(still, means, atol=1e-4), "the latents are not scaled: encode must use self.scale"
assert torch.allclose(still, scale * means, atol=1e-4), "with noise 0 a latent is the scaled mean, nothing subtracted"
width = (draw(means, log_variances, noise=noise) - means) / noise  # of q(z|x)
moved = (drawn - still) / noise
close = {"rtol": 1e-2, "atol": 1e-3}
assert not torch.allclose(moved, width, **close), (
    "the noise is not scaled: z is mean plus noise, and all of z is multiplied by the scale"
)
assert not torch.allclose(moved, scale * width**2, **close), (
    "the noise is multiplied by the variance: a Gaussian is mean + standard deviation times noise"
)
assert torch.allclose(moved, scale * width, **close), (
    "noise must move a latent by scale times the standard deviation of q(z|x)"
)
with untouched(still):
    back = tensor(latents.decode(still), (50, 1, 8, 8), "decode must return what the decoder makes")
assert not torch.allclose(back, autoencoder.decode(still), atol=1e-4), (
    "decode must undo the scale: the decoder was given scaled latents"
)
assert torch.allclose(back, autoencoder.decode(means), atol=1e-4), (
    "decode must undo the scale before the decoder sees the latent"
)
# Other images, as many as one, have another scale.
pale = 0.2 * digits[:1]
scale, std = float(latents.fit(pale)), latent_statistics(autoencoder, pale)[1]
assert abs(scale * std - 1) < 0.03, "fitted to one other image, the scale is wrong: fit must read its argument"

# %% [markdown] hints="06.7"
# 1. The variance of a latent over images and draws has two causes: images differ, and one image has many latents.
#
# 2. $\mathrm{Var}[z] = \mathrm{Var}[\text{mean}] + \mathrm{E}[\text{variance}]$ (the law of total variance), and the
#    variance is `log_variance.exp()`. The scale is one over the square root.
#
# 3. `scale = (mean.var() + log_variance.exp().mean()) ** -0.5`; `encode` returns
#    `scale * (mean + (0.5 * log_variance).exp() * noise)`, and `decode` hands `z / scale` to the decoder.

# %% tags=["demo"]
latents = Latents(ToyAutoencoder())
latents.fit(digits)
noise = torch.randn(256, 1, 4, 8, generator=torch.Generator().manual_seed(1))
mean, log_variance = latents.autoencoder.encode(digits)
raw = draw(mean, log_variance, noise=noise)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
for ax, values, title in (
    (axes[0], latents.encode(digits, noise), "yours"),
    (axes[1], raw / latent_statistics(latents.autoencoder, digits)[1], "expected"),
):
    values = values.flatten()
    ax.hist(values.numpy(), bins=60, density=True, label=f"standard deviation {float(values.std()):.2f}")
    ax.set(title=f"scaled latents: {title}", xlabel="value", ylabel="density")
    ax.legend()
plt.show()

# %% [markdown]
# ## 06.8 The bill of a transformer (1 point, 12 minutes, medium)
#
# Derive how many floating-point operations one adaLN-Zero block costs for **one image** of `tokens` tokens. Count
# matrix products only, a multiplication followed by an addition as two operations: $(a \times b)\,(b \times c)$ costs
# $2abc$. The block is that of question 06.6: queries, keys and values; the attention logits; the weighted sum; the
# output layer of attention; the two layers of the `mlp`; and the `modulation`, once for the image.
#
# Then find the number of tokens, as a formula, from which the two products that grow with the **square** of the number
# of tokens cost more than all those that grow in proportion to it.
#
# **Without:** `FlopCounterMode`: the check counts with it, you derive.


# %% solution="06.8"
def block_flops(tokens: int, width: int, expand: int) -> int:
    """Floating-point operations of one adaLN-Zero block for one image."""
    ### BEGIN SOLUTION
    # Heads split the width among them, so that together they cost what one head of the whole width would.
    linear = 2 * tokens * width * (3 * width + width + 2 * expand * width)  # qkv, out, two layers of the mlp
    square = 2 * tokens**2 * width * 2  # logits and weighted sum
    return linear + square + 2 * width * 6 * width
    ### END SOLUTION


def crossover(width: int, expand: int) -> float:
    """The number of tokens at which the quadratic part of the cost equals the linear part."""
    ### BEGIN SOLUTION
    # 4 N^2 D = (8 + 4 expand) N D^2
    return (2 + expand) * width
    ### END SOLUTION


# %% check="06.8" points=1
def price(tokens: int, width: int, expand: int, heads: int = 1) -> dict[str, int]:
    """The counted operations of a block, and those of its parts."""
    block, x = dit.DiTBlock(width, heads, expand), torch.zeros(1, tokens, width)
    parts = {"block": operations(block, x, x[:, 0]), "modulation": operations(block.modulation, x[:, 0])}
    parts |= {"qkv": operations(block.attention.qkv, x), "out": operations(block.attention.out, x)}
    return parts | {"mlp": operations(block.mlp, x), "logits": operations(torch.bmm, x, x.transpose(1, 2))}


def number(answer: object, name: str) -> float:
    """The answer, if it is a finite number."""
    assert isinstance(answer, int | float), f"{name} must return a number, got {type(answer).__name__}"
    assert math.isfinite(answer), f"{name} must return a finite number, got {answer}"
    return answer


for tokens, width, expand, heads in ((5, 8, 4, 2), (49, 96, 4, 4), (16, 12, 3, 1), (1, 8, 2, 2)):
    counted = price(tokens, width, expand, heads)
    with unaided(FlopCounterMode):
        given = number(block_flops(tokens, width, expand), "block_flops")
    true, missing = counted["block"], counted["block"] - given
    at = f"{tokens} tokens of width {width}, expand = {expand}"
    assert 2 * given != true, "exactly half: a multiplication and an addition are two operations"
    assert missing != counted["modulation"], "the modulation is missing: width to 6 width, once for the image"
    assert missing != counted["modulation"] * (1 - tokens) or tokens == 1, (
        "the modulation is computed once for the image, not for each token"
    )
    assert missing != counted["out"], "the output layer of attention is missing"
    assert missing != 2 * counted["out"], "queries, keys and values are three products, not one"
    assert missing != counted["logits"], "one of the two quadratic products is missing: logits, weighted sum"
    assert missing != 2 * counted["logits"], "both quadratic products are missing: logits, weighted sum"
    assert missing != counted["mlp"] / 2, "the mlp has two layers: to the wide one and back"
    assert missing != 2 * counted["logits"] * (1 - heads) or heads == 1, "each head has only width / heads columns"
    assert given == true, f"for {at} the counter finds {true:,} operations, the formula says {given:,}"


for width, expand in ((96, 4), (64, 2)):
    counted = price(1, width, expand)
    squares, linear = 2 * counted["logits"], counted["qkv"] + counted["out"] + counted["mlp"]
    with unaided(FlopCounterMode):
        point = number(crossover(width, expand), "crossover")
    assert abs(squares * point - counted["qkv"] - counted["out"]) > 1e-6, (
        "the mlp is linear in the number of tokens too"
    )
    assert abs(squares * point - counted["mlp"]) > 1e-6, (
        "queries, keys, values and the output layer are linear in the number of tokens too"
    )
    assert abs(squares * point - linear + counted["out"]) > 1e-6, "attention's output layer belongs to the linear part"
    assert abs(squares * point / 2 - linear) > 1e-6, "there are two quadratic products, not one"
    assert abs(squares * point - linear - counted["modulation"]) > 1e-6, (
        "the modulation's cost does not grow with the number of tokens"
    )
    assert expand == 4 or abs(squares * point / linear - 1) < 1e-9, (
        "crossover must depend on expand: the mlp is wider or narrower with it"
    )
    assert abs(squares * point / linear - 1) < 1e-9, (
        f"at your {point:g} tokens of width {width} the quadratic part of the cost is "
        f"{squares * point / linear:.3f} times the linear one: set the two equal, and solve for the number of tokens"
    )

# %% [markdown] hints="06.8"
# 1. Write down the two shapes of every matrix product. Which of them contain the number of tokens twice?
#
# 2. A linear layer costs 2 N times its two widths: D to 3D, D to D, D to eD, eD to D. Logits are (N x d)(d x N) in
#    each of D / d heads, and the weighted sum is (N x N)(N x d): together 4 N^2 D, however many heads there are.
#
# 3. $8ND^2 + 4eND^2 + 4N^2D + 12D^2$. The quadratic part equals the linear one where $4N^2D = (8 + 4e)ND^2$.

# %% tags=["demo"]
counts, counted = [4, 16, 49, 196, 784], []
for tokens in counts:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        dit.DiTBlock(96, 4, 4)(torch.zeros(1, tokens, 96), torch.zeros(1, 96))
    counted.append(counter.get_total_flops())
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.loglog(counts, counted, "o", color="black", label="expected (counted)")
ax.loglog(range(4, 800), [block_flops(n, 96, 4) for n in range(4, 800)], label="yours")
ax.axvline(crossover(96, 4), color="grey", linestyle="--", label="your crossover")
ax.set(xlabel="tokens", ylabel="FLOPs of a block, width 96", title="The bill of a transformer block")
ax.legend()
plt.show()

# %% [markdown]
# ## Grade it
#
# `flowlib grade 06_networks.ipynb` prints your points, question by question.
#
# To read on: lecture 06 lists the papers. A good next step is to put your own blocks into a recipe-sized network: your
# `TinyUNet` needs only a time and label embedding to become a `net(x, t, y)` that `Model` and every sampler accept.
