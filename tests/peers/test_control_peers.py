"""ControlNet beside diffusers' own on random weights: what is added and where, strengths, sums, and how it begins.

Their networks have other blocks than our U-Net. So the layers are ours, and what joins them is theirs: the forward
passes of `ControlNetModel`, `MultiControlNetModel` and `UNet2DConditionModel`. Their U-Net has a skip connection from
the stem too, which ours has not: the decoders leave it out. Skipped where diffusers is not installed.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.nets import Controlled, ControlNet, TextTransformer, UNet
from flowlib.nets.captioned import Captioned
from flowlib.nets.control import COPIED
from flowlib.nets.embeddings import zero_init
from flowlib.nets.tokenizer import Tokenizer

COMMON: dict[str, Any] = {"channels": (8, 16), "depth": 1, "attention": (1,), "heads": 2, "dim": 16}
THEIRS: dict[str, Any] = {
    "block_out_channels": (8, 16), "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "norm_num_groups": 4,
    "cross_attention_dim": 8, "attention_head_dim": 4, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
X, T = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 0.5, 0.9])
IMAGES = [torch.rand(3, channels, 16, 16, generator=torch.Generator().manual_seed(channels)) for channels in (1, 3)]
STRENGTHS = [0.7, 0.4]
PLACES = {"conv_in": ["stem"], "time_embedding": ["condition"], "down_blocks": ["encoders", "downs"],
          "mid_block": ["midcoder"]}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    reason = "diffusers is not installed: pip install 'flowlib[peers]'"
    return pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)


def shaken(module: nn.Module) -> Any:
    """The module with random weights in all places, also where they start at zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


class Time(nn.Module):
    """Our condition where their embedding of time is; what a text adds to it, theirs adds in blocks of another kind."""

    def __init__(self, net: Any, given: dict[str, Any]) -> None:
        super().__init__()
        self.condition, self.given = net.condition, given

    def forward(self, t: Tensor, more: None = None) -> Tensor:
        return self.condition(t, self.given.get("y")) + self.given.get("more", 0)


class Level(nn.Module):
    """A stage of ours and what changes the size behind it (down) or before it (up), called as a block of theirs."""

    has_cross_attention = True

    def __init__(self, stage: nn.Module, resize: nn.Module | None = None, skips: int = 0) -> None:
        super().__init__()
        self.stage, self.resize, self.resnets = stage, resize, range(skips)

    def forward(self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Any, **given: Any) -> Any:
        h, condition, skips = hidden_states, F.silu(temb), given.get("res_hidden_states_tuple")
        if skips is not None:
            h = h if self.resize is None else self.resize(h, condition)
            return self.stage(torch.cat([h, skips[-1]], dim=1), condition, encoder_hidden_states)
        out = self.stage(h, condition, encoder_hidden_states)
        return (out if self.resize is None else self.resize(out, condition)), (out,)


class Middle(Level):
    def forward(self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Any, **given: Any) -> Tensor:
        return self.stage(hidden_states, F.silu(temb), encoder_hidden_states)


def encode(theirs: Any, ours: Any, given: dict[str, Any]) -> Any:
    """Their network with the first half of ours."""
    theirs.conv_in = nn.Sequential(nn.PixelUnshuffle(ours.patch), ours.stem)
    theirs.time_proj, theirs.time_embedding = nn.Identity(), Time(ours, given)
    downs = [*ours.downs, None]
    theirs.down_blocks = nn.ModuleList(Level(*pair) for pair in zip(ours.encoders, downs, strict=True))
    theirs.mid_block = Middle(ours.midcoder)
    return theirs


def base_like(diffusers: ModuleType, unet: UNet, given: dict[str, Any]) -> Any:
    """Their U-Net of our layers; our gate on x, which they have not, must be zero."""
    theirs = encode(diffusers.UNet2DConditionModel(**THEIRS), unet, given)
    ups = [None, *unet.ups]
    theirs.up_blocks = nn.ModuleList(
        Level(stage, up, 1 + (stage is unet.decoders[-1])) for stage, up in zip(unet.decoders, ups, strict=True)
    )
    theirs.conv_norm_out, theirs.conv_out = unet.norm, nn.Sequential(unet.head, nn.PixelShuffle(unet.patch))
    return theirs


def control_like(diffusers: ModuleType, control: ControlNet, given: dict[str, Any]) -> Any:
    """Their ControlNet of our layers; what it adds to the stem's skip connection is noise, which nothing may hear."""
    theirs = encode(diffusers.ControlNetModel.from_unet(diffusers.UNet2DConditionModel(**THEIRS)), control, given)
    theirs.controlnet_cond_embedding = control.hint
    *zeros, last = control.zeros
    theirs.controlnet_down_blocks = nn.ModuleList([shaken(nn.Conv2d(8, 8, 1)), *zeros])
    theirs.controlnet_mid_block = last
    return theirs


def base_of(kind: str) -> tuple[Any, Tensor | None, dict[str, Any]]:
    """A network with random weights, guides of three samples, and what its U-Net is given of them."""
    if kind == "labels":
        net, y = shaken(UNet(3, **COMMON)), torch.tensor([1, 5, 10])
        zero_init(net.carry)
        return net, y, {"y": y}
    words = Tokenizer(259, 24)
    text = TextTransformer(259, 24, words.end, words.padding, width=16, depth=1, heads=2, causal=False)
    unet = UNet(3, classes=None, context_dim=16, **COMMON)
    net, tokens = shaken(Captioned(unet, text, words, unet.condition_dim)), words(["a red seven", "a two", ""])
    zero_init(unet.carry)
    return net, tokens, net.given(X, tokens)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["labels", "captions"])
@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
def test_what_is_added_and_what_is_predicted_are_those_of_diffusers(
    diffusers: ModuleType, kind: str, which: list[int]
) -> None:
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    net, y, given = base_of(kind)
    unet: UNet = net.net if isinstance(net, Captioned) else net
    controls = [shaken(ControlNet(unet, IMAGES[i].shape[1])) for i in which]
    images, strengths = [IMAGES[i] for i in which], [STRENGTHS[i] for i in which]
    ours = Controlled(net, controls, (16, 16), strengths)
    seen: list[list[Tensor]] = []
    unet.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["added"]), with_kwargs=True)
    found = ours(X, T, ours.guide(y, images))

    said = {"encoder_hidden_states": given.get("context"), "return_dict": False}
    several = MultiControlNetModel([control_like(diffusers, control, given) for control in controls])
    downs, middle = several(X, T, controlnet_cond=images, conditioning_scale=strengths, **said)
    for own, other in zip(seen[0], [*downs[1:], middle], strict=True):
        assert float(other.abs().max()) > 0.1
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    theirs = base_like(diffusers, unet, given)
    added = {"down_block_additional_residuals": downs, "mid_block_additional_residual": middle}
    (expected,) = theirs(X, T, **said, **added)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(theirs(X, T, **said)[0], expected, atol=0.1)  # and the controls do something


@torch.no_grad()
def test_the_small_network_is_theirs_but_for_strides_and_the_size_of_its_last_layer(diffusers: ModuleType) -> None:
    """They halve the image on the way, we fold its pixels before; their last convolution is of 3 x 3 pixels."""
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    ours = ControlNet(UNet(3, **COMMON, patch=1), 3, width=12).hint
    theirs = ControlNetConditioningEmbedding(8, 3, (12, 12))
    theirs.blocks[1].stride = (1, 1)
    *layers, last = [layer for layer in ours if isinstance(layer, nn.Conv2d)]
    assert not any(p.any() for p in [*last.parameters(), *theirs.conv_out.parameters()])
    shaken(ours)
    for layer, other in zip(layers, [theirs.conv_in, *theirs.blocks], strict=True):
        other.load_state_dict(layer.state_dict())
    theirs.conv_out.weight.copy_(F.pad(last.weight, (1, 1, 1, 1)))
    theirs.conv_out.bias.copy_(last.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(ours(IMAGES[1]), theirs(IMAGES[1]), rtol=1e-5, atol=1e-5)


def test_the_same_half_of_the_network_is_copied(diffusers: ModuleType) -> None:
    unet = shaken(diffusers.UNet2DConditionModel(**THEIRS))
    theirs, ours = diffusers.ControlNetModel.from_unet(unet), UNet(3, **COMMON)
    parts = {name: part for name, part in theirs.named_children() if any(True for _ in part.parameters())}
    copied = {name: part.state_dict() for name, part in parts.items() if not name.startswith("controlnet")}
    for name, state in copied.items():
        assert all(torch.equal(value, getattr(unet, name).state_dict()[key]) for key, value in state.items())
    assert set(copied) == set(PLACES)
    assert {part for parts in PLACES.values() for part in parts} == set(COPIED)
    left = {name for name, part in unet.named_children() if any(True for _ in part.parameters())} - set(copied)
    assert left == {"up_blocks", "conv_norm_out", "conv_out"}
    assert {name for name, _ in ours.named_children()} - set(COPIED) == {"ups", "decoders", "norm", "head", "carry"}
    assert len(ControlNet(ours, 1).zeros) == len(ours.encoders) + 1  # one a skip connection, and the midcoder's
    assert len(theirs.controlnet_down_blocks) == 1 + sum(
        len(block.resnets) + len(block.downsamplers or []) for block in unet.down_blocks
    )


def wakes(parts: dict[str, nn.Module], predict: Any, plain: Tensor) -> list[set[str]]:
    """Which parts have a gradient in each of three steps, from the first prediction on, which must be the base's."""
    trained = [p for part in parts.values() for p in part.parameters()]
    optimiser, found = torch.optim.SGD(trained, lr=1e-3), []
    for step in range(3):
        optimiser.zero_grad()
        out = predict()
        assert torch.equal(out, plain) == (step == 0)  # to the bit, then no more
        out.square().sum().backward()
        felt = {name: [p.grad for p in part.parameters() if p.grad is not None] for name, part in parts.items()}
        found.append({name for name, grads in felt.items() if any(grad.any() for grad in grads)})
        optimiser.step()
    return found


def test_both_begin_as_the_base_to_the_bit_and_wake_in_the_same_order(diffusers: ModuleType) -> None:
    words = torch.randn(3, 5, 8)
    base = shaken(diffusers.UNet2DConditionModel(**THEIRS)).requires_grad_(False)
    control = diffusers.ControlNetModel.from_unet(base, conditioning_channels=1,
                                                  conditioning_embedding_out_channels=(8, 8))  # fmt: skip
    large = F.interpolate(IMAGES[0], scale_factor=2.0)  # which theirs halves

    def theirs() -> Tensor:
        downs, middle = control(X, T, words, large, return_dict=False)
        return base(X, T, words, down_block_additional_residuals=downs, mid_block_additional_residual=middle).sample

    hint, parts = control.controlnet_cond_embedding, nn.ModuleList
    zeros = parts([*control.controlnet_down_blocks, control.controlnet_mid_block])
    named = {"zeros": zeros, "copy": control.down_blocks, "last": hint.conv_out, "first": hint.conv_in}
    expected = wakes(named, theirs, base(X, T, words).sample)

    net, y, _ = base_of("captions")
    own = ControlNet(net.net, 1)
    ours = Controlled(net.requires_grad_(False), [own], (16, 16))
    named = {"zeros": own.zeros, "copy": own.encoders, "last": own.hint[-1], "first": own.hint[1]}
    found = wakes(named, lambda: ours(X, T, ours.guide(y, IMAGES[:1])), net(X, T, y))
    assert found == expected == [{"zeros"}, {"zeros", "copy", "last"}, set(named)]
