"""ControlNet: nothing is added at first, and yet it learns; what several add is summed by strength."""

import copy

import pytest
import torch
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, Model, sample_ode
from flowlib.nets import Controlled, ControlNet, TextTransformer, UNet
from flowlib.nets.captioned import Captioned, CaptionedBeside
from flowlib.nets.control import COPIED
from flowlib.nets.controlled import HeldControls
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.unclip import CaptionedEmbedding

KINDS = ("none", "labels", "words", "captions")
BESIDE = ("captions beside images", "captions and embeddings")  # what a caption may be joined with


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random weights in all places, also where they start at zero."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return module.requires_grad_(False)


def base_of(kind: str, patch: int = 2) -> tuple[nn.Module, Tensor | None]:
    """A network with a guide of that kind, and guides of three samples."""
    common = {"channels": (8, 16), "depth": 1, "attention": (1,), "heads": 2, "dim": 16, "patch": patch}
    if kind in ("captions", *BESIDE):
        words = Tokenizer(259, 24)
        text = TextTransformer(259, 24, words.end, words.padding, width=16, depth=1, heads=2, causal=False)
        tokens, beside = words(["a red seven", "a two", ""]), 4 if "beside" in kind else 0
        unet = UNet(3, classes=None, context_dim=16, beside=beside, **common)
        if beside:
            net = shaken(CaptionedBeside(unet, text, words, unet.condition_dim, (4, 16, 16)))
            return net, net.guide(tokens, torch.rand(3, 4, 16, 16, generator=seeded(3)))
        if "embeddings" in kind:
            told = shaken(CaptionedEmbedding(unet, text, words, unet.condition_dim, 8))
            return told, told.guide(tokens, torch.eye(8)[:3])
        return shaken(Captioned(unet, text, words, unet.condition_dim)), tokens
    if kind == "words":
        return shaken(UNet(3, classes=None, words=9, length=4, **common)), torch.tensor([[1, 4, 7, 0]] * 3)
    labels = kind == "labels"
    return shaken(UNet(3, classes=10 if labels else None, **common)), torch.tensor([1, 5, 10]) if labels else None


def unet_of(base: nn.Module) -> UNet:
    return base.net if isinstance(base, Captioned) else base  # type: ignore[return-value]


def inputs(channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    x, image = torch.randn(3, 3, 16, 16, generator=seeded(1)), torch.rand(3, channels, 16, 16, generator=seeded(2))
    return x, torch.tensor([0.1, 0.5, 0.9]), image


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("kind", [*KINDS, *BESIDE])
def test_at_first_the_network_is_what_it_was_to_the_bit(kind: str, patch: int) -> None:
    base, y = base_of(kind, patch)
    control, (x, t, image) = ControlNet(unet_of(base), 1), inputs()
    net = Controlled(base, [control], (16, 16))
    assert torch.equal(net(x, t, net.guide(y, [image])), base(x, t, y))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x, t, net.guide(y, [image])), base(x, t, y))
    shaken(control.zeros)
    assert not torch.allclose(net(x, t, net.guide(y, [image])), base(x, t, y), atol=1e-2)


@pytest.mark.parametrize("kind", [*KINDS, *BESIDE])
def test_held_images_control_all_samples_under_the_guides_of_the_base(kind: str) -> None:
    base, y = base_of(kind)
    control, (x, t, image) = ControlNet(unet_of(base), 1), inputs()
    shaken(control)
    net = Controlled(base, [control], (16, 16), [0.7])
    held, images = HeldControls(net, [image[0]]), image[:1].expand(3, -1, -1, -1)
    assert torch.equal(held(x, t, y), net(x, t, net.guide(y, [images])))
    assert torch.equal(held(x, t), net(x, t, net.guide(None, [images])))  # the images stay under the null guide
    if y is not None:
        guided, given = ClassifierFreeGuidance(Model(held), 2.0), ClassifierFreeGuidance(Model(net), 2.0)
        assert torch.allclose(guided.u(x, 0.5, y), given.u(x, 0.5, net.guide(y, [images])), atol=1e-6)
    with pytest.raises(ValueError, match="an image that controls must have shape"):
        HeldControls(net, [image[0, :, :8]])
    with pytest.raises(ValueError, match="images must be 1, one a ControlNet, got 0"):
        HeldControls(net, [])


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_is_of_what_was_trained_and_reads_the_same_guide(kind: str) -> None:
    """With nothing of the image and unit zero convolutions, what is added is what the base's own encoders give."""
    base, y = base_of(kind)
    unet, (x, t, image) = unet_of(base), inputs()
    control = ControlNet(unet, 1)
    for zero in control.zeros:
        with torch.no_grad():
            zero.weight.copy_(torch.eye(len(zero.weight))[:, :, None, None])  # type: ignore[arg-type, operator]
    for name in COPIED:
        for own, other in zip(getattr(control, name).parameters(), getattr(unet, name).parameters(), strict=True):
            assert torch.equal(own, other)
            assert own is not other
            assert own.requires_grad
    seen: list[Tensor] = []
    handles = [
        stage.register_forward_hook(lambda *given: seen.append(given[2])) for stage in (*unet.encoders, unet.midcoder)
    ]
    base(x, t, y)
    for handle in handles:
        handle.remove()
    given = Controlled(base, [control], (16, 16))
    added = control(x, t, image, **given._given(x, given.guide(y, [image])))
    assert len(added) == len(seen) == 3
    for part, own in zip(added, seen, strict=True):
        assert torch.allclose(part, own, atol=1e-5)


def test_a_zero_convolution_learns_although_its_input_feels_nothing() -> None:
    """Of out = w h + b with w = b = 0: d out / d h = w = 0, and d loss / d w is the sum of h times d loss / d out."""
    base, y = base_of("captions")
    control, (x, t, image) = ControlNet(unet_of(base), 1), inputs()
    net, seen = Controlled(base, [control], (16, 16)), {}
    zero = control.zeros[0]
    handles = [
        zero.register_forward_hook(lambda _, given, out: seen.update(h=given[0].detach(), out=out)),
        zero.register_full_backward_hook(lambda _, felt, out: seen.update(felt=felt[0], of_out=out[0])),
    ]
    net(x, t, net.guide(y, [image])).square().sum().backward()
    for handle in handles:
        handle.remove()
    expected = torch.einsum("bohw,bihw->oi", seen["of_out"], seen["h"])
    assert float(expected.abs().max()) > 1
    assert torch.allclose(zero.weight.grad[..., 0, 0], expected, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr, index]
    assert torch.allclose(zero.bias.grad, seen["of_out"].sum((0, 2, 3)), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    assert bool((seen["felt"] == 0).all())
    behind = [p for name in COPIED for p in getattr(control, name).parameters()] + list(control.hint.parameters())
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in behind)


def test_after_one_step_the_copy_learns_and_after_two_the_small_network() -> None:
    base, y = base_of("captions")
    control, (x, t, image) = ControlNet(unet_of(base), 1), inputs()
    net, before = Controlled(base, [control], (16, 16)), copy.deepcopy(base.state_dict())
    trained = [p for p in net.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in control.parameters()}
    optimiser = torch.optim.SGD(trained, lr=1e-4)

    def learns(module: nn.Module) -> bool:
        return any(p.grad is not None and bool((p.grad != 0).any()) for p in module.parameters())

    parts = {"zeros": control.zeros, "copy": control.encoders, "last": control.hint[-1], "first": control.hint[1]}
    found = []
    for _ in range(3):
        optimiser.zero_grad()
        net(x, t, net.guide(y, [image])).square().sum().backward()
        found.append({name for name, part in parts.items() if learns(part)})  # type: ignore[arg-type]
        optimiser.step()
    assert found == [{"zeros"}, {"zeros", "copy", "last"}, set(parts)]
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_strengths_weigh_sums_and_zero_is_the_base_to_the_bit() -> None:
    base, y = base_of("captions")
    unet, (x, t, image) = unet_of(base), inputs()
    first, second = (shaken(ControlNet(unet, channels), seed) for channels, seed in ((1, 3), (2, 4)))
    other = torch.rand(3, 2, 16, 16, generator=seeded(5))
    calls: list[list[Tensor]] = []

    def added(strengths: list[float]) -> list[Tensor]:
        net = Controlled(base, [first, second], (16, 16), strengths)  # type: ignore[list-item]
        calls.clear()
        handle = unet.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs["added"]), with_kwargs=True)
        net(x, t, net.guide(y, [image, other]))
        handle.remove()
        return calls[0]

    one, two = added([1.0, 0.0]), added([0.0, 1.0])
    for part, a, b in zip(added([0.7, 0.4]), one, two, strict=True):
        assert torch.allclose(part, 0.7 * a + 0.4 * b, atol=1e-5)
    assert added([0.0, 0.0]) is None
    net = Controlled(base, [first, second], (16, 16), [0.0, 0.0])  # type: ignore[list-item]
    assert torch.equal(net(x, t, net.guide(y, [image, other])), base(x, t, y))
    alone = Controlled(base, [second], (16, 16))  # type: ignore[list-item]
    both = Controlled(base, [first, second], (16, 16), [0.0, 1.0])  # type: ignore[list-item]
    a, b = alone(x, t, alone.guide(y, [other])), both(x, t, both.guide(y, [image, other]))
    assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_networks_own_guide_is_dropped_so_that_both_branches_are_controlled(kind: str) -> None:
    base, y = base_of(kind)
    control, (x, _, image) = shaken(ControlNet(unet_of(base), 1), 6), inputs()
    field = Model(Controlled(base, [control], (16, 16)), predicts="v")  # type: ignore[list-item]
    rows = field.net.guide(y, [image])  # type: ignore[operator, union-attr]
    null = field.net.guide(None, [image])  # type: ignore[operator, union-attr]
    assert torch.equal(field.null_like(rows), null)
    guided = ClassifierFreeGuidance(field, 3.0).predict(x, 0.4, rows)
    a, b = field.predict(x, 0.4, null), field.predict(x, 0.4, rows)
    assert torch.allclose(guided, a + 3 * (b - a), atol=1e-4)
    assert torch.equal(field.predict(x, 0.4), field.predict(x, 0.4, field.net.guide(None, [0 * image])))  # type: ignore[operator, union-attr]
    # In a sampler each image and text is read once, in batches of any size.
    whole = sample_ode(field, x, rows, steps=2)
    assert torch.allclose(whole, sample_ode(field, x, rows, steps=2, batch_size=2), atol=1e-4)


def test_what_does_not_fit_is_named() -> None:
    base, y = base_of("captions")
    unet, (x, t, image) = unet_of(base), inputs()
    control = ControlNet(unet, 1)
    net = Controlled(base, [control], (16, 16))
    with pytest.raises(ValueError, match="net must be a UNet, got Linear"):
        ControlNet(nn.Linear(2, 2), 1)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"the image that controls must have shape \(3, 1, 16, 16\), got \(3, 1, 8, 8\)"
    ):
        control(x, t, image[..., :8, :8])
    with pytest.raises(
        ValueError, match=r"an image that controls must have shape \(3, 1, 16, 16\), got \(3, 2, 16, 16\)"
    ):
        net.guide(y, [image.expand(-1, 2, -1, -1)])
    with pytest.raises(ValueError, match="images must be 1, one a ControlNet, got 2"):
        net.guide(y, [image, image])
    with pytest.raises(ValueError, match="strengths must be 1, one a ControlNet, got 2"):
        Controlled(base, [control], (16, 16), [1.0, 1.0])
    with pytest.raises(ValueError, match="strength must be a finite number"):
        Controlled(base, [control], (16, 16), [float("nan")])
    with pytest.raises(ValueError, match="must be made of a U-Net of the sizes"):
        Controlled(base, [ControlNet(UNet(3, (8, 8), classes=None), 1)], (16, 16))
    with pytest.raises(ValueError, match="base must be a U-Net, or one that reads captions, got Linear"):
        Controlled(nn.Linear(2, 2), [control], (16, 16))
    with pytest.raises(ValueError, match=r"y must be guides beside images \(3, 280\)"):
        net.check_guide(y, 3)  # type: ignore[arg-type]
