"""What every network net(x, t, y) must do: the MLP on points, the U-Net and the DiT on images."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, Model, sample_ode
from flowlib.nets.dit import DiT
from flowlib.nets.mlp import MLP
from flowlib.nets.unet import UNet

CLASSES = 3
BATCH = 8  # as many as a side of the image, so that a time broadcast over pixels instead of samples is seen

# name -> (the network with so many classes, the shape of a sample)
NETWORKS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda classes=CLASSES: MLP(width=32, depth=2, classes=classes, dim=32), (2,)),
    "unet": (
        lambda classes=CLASSES: UNet(
            in_channels=2, channels=(16, 32), depth=1, classes=classes, attention=(1,), heads=2, dim=32
        ),
        (2, 8, 8),
    ),
    "dit": (
        lambda classes=CLASSES: DiT(
            in_channels=2, image_size=8, patch=2, width=32, depth=2, heads=2, classes=classes, expand=2
        ),
        (2, 8, 8),
    ),
    "unet, gates": (
        lambda classes=CLASSES: UNet(in_channels=2, channels=(16, 32), depth=1, classes=classes, dim=32, gates=True),
        (2, 8, 8),
    ),
    "dit, gates": (
        lambda classes=CLASSES: DiT(
            in_channels=2, image_size=8, patch=2, width=32, depth=2, heads=2, classes=classes, gates=True
        ),
        (2, 8, 8),
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Networks draw their first weights from the global generator: give each test the same ones, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(name: str, awake: bool = False, classes: int | None = CLASSES) -> nn.Module:
    """The network; `awake` moves every weight away from its start, so that no part of it is silent."""
    net = NETWORKS[name][0](classes=classes)
    if awake:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(BATCH, *NETWORKS[name][1])
    return x, torch.linspace(0, 1, BATCH), torch.arange(BATCH) % (CLASSES + 1)


@every_network
def test_output_is_zero_at_initialisation(name: str) -> None:
    net = make(name)
    x, t, y = inputs(name)
    for guide in (y, None):
        out = net(x, t, guide)
        assert out.shape == x.shape
        assert not out.any()


@pytest.mark.parametrize("name", ["unet, gates", "dit, gates"])
def test_the_head_gates_each_pixel_of_each_channel(name: str) -> None:
    """The rest of the head is silent: of x there remains what the gates keep, in place."""
    net = make(name)
    x, t, y = inputs(name)
    bias = net.head.bias.data.view(2, 2, 2, 2)  # (what is added or the gate, channel, row, column in the patch)
    bias[1, 0, 0, 1], bias[1, 1, 1, 0] = 2.0, 3.0
    expected = torch.zeros_like(x)
    expected[:, 0, 0::2, 1::2] = 2 * x[:, 0, 0::2, 1::2]
    expected[:, 1, 1::2, 0::2] = 3 * x[:, 1, 1::2, 0::2]
    torch.testing.assert_close(net(x, t, y), expected)


@pytest.mark.parametrize("name", ["mlp", "dit"])
def test_every_block_starts_as_the_identity(name: str) -> None:
    h = torch.randn((4, 32) if name == "mlp" else (4, 5, 32))
    for block in make(name).blocks:
        assert torch.equal(block(h, torch.randn(4, 32)), h)


@every_network
def test_time_of_both_shapes_agrees(name: str) -> None:
    model = Model(make(name, awake=True))
    x, _, y = inputs(name)
    several = model.predict(x, torch.full((BATCH,), 0.3), y)
    assert several.abs().max() > 1e-2
    assert torch.equal(model.predict(x, torch.tensor(0.3), y), several)
    assert torch.equal(model.predict(x, 0.3, y), several)


@every_network
def test_time_and_guide_matter(name: str) -> None:
    net = make(name, awake=True)
    x, t, y = inputs(name)
    out = net(x, t, y)
    assert ((net(x, t.flip(0), y) - out).flatten(1).abs().amax(1) > 1e-3).all()
    assert ((net(x, t, (y + 1) % (CLASSES + 1)) - out).flatten(1).abs().amax(1) > 1e-3).all()


@every_network
def test_samples_of_a_batch_do_not_see_each_other(name: str) -> None:
    net = make(name, awake=True).double()
    x, t, y = inputs(name)
    x, t = x.double(), t.double()
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(net(x, t, y), alone, rtol=1e-10, atol=1e-10)


@every_network
def test_null_guide_is_no_guide(name: str) -> None:
    net = make(name, awake=True)
    x, t, _ = inputs(name)
    assert net.null == CLASSES
    assert torch.equal(net(x, t, torch.full((BATCH,), net.null)), net(x, t, None))
    assert torch.equal(net(x, t), net(x, t, None))


@every_network
def test_network_without_classes_takes_no_guide(name: str) -> None:
    net = make(name, classes=None)
    x, t, y = inputs(name)
    assert net.null is None
    assert net(x, t).shape == x.shape
    with pytest.raises(ValueError, match="y was given"):
        net(x, t, y)
    with pytest.raises(ValueError, match="takes no guide"):
        ClassifierFreeGuidance(Model(net), 2.0)


@every_network
def test_unknown_keyword_is_refused(name: str) -> None:
    net = make(name)
    x, t, y = inputs(name)
    with pytest.raises(TypeError, match="labels"):
        net(x, t, labels=y)
    with pytest.raises(TypeError, match="wdith"):
        type(net)(wdith=64)


@every_network
def test_overfits_one_batch_and_listens_to_its_guide(name: str) -> None:
    """One fixed set of points, times and labels. Each point comes twice, with two labels and two targets."""
    net = make(name)
    x, t, _ = inputs(name)
    x, t, y = torch.cat([x, x]), torch.cat([t, t]), torch.tensor([0] * BATCH + [1] * BATCH)
    target = torch.randn(x.shape)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(300):
        loss = (net(x, t, y) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    assert loss < 0.02  # whoever ignores the guide is left with 0.5, whoever ignores x with 1 - 1/8 or more
    guided = ClassifierFreeGuidance(Model(net), 2.0)
    plain = net(x, t, y)
    expected = 2 * plain - net(x, t, None)
    torch.testing.assert_close(guided.u(x, t, y), expected, rtol=1e-4, atol=1e-4)
    assert (expected - plain).abs().max() > 1e-2


@every_network
def test_gradient_reaches_every_parameter(name: str) -> None:
    """Zeros hide what lies behind them: the head opens with the first step, then gates, then what they let through."""
    net = make(name)
    x, t, y = inputs(name)
    target = torch.randn(x.shape)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        (net(x, t, y) - target).square().mean().backward()
        optimizer.step()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@every_network
def test_bf16_autocast_is_finite_and_close(name: str) -> None:
    net = make(name, awake=True)
    x, t, y = inputs(name)
    full = net(x, t, y)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, t, y)
    half.float().square().mean().backward()
    assert (half.float() - full).norm() < 0.05 * full.norm()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@every_network
def test_samples_through_the_common_sampler(name: str) -> None:
    x, _, y = inputs(name)
    out = sample_ode(Model(make(name)), x, y, steps=2)
    assert torch.equal(out, x)  # a velocity of 0 leaves the noise where it is


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_other_image_sizes_work(name: str) -> None:
    net = make(name, awake=True)
    for height, width in ((4, 4), (8, 12), (20, 4)):
        x = torch.randn(2, 2, height, width)
        assert net(x, torch.rand(2), torch.tensor([0, 1])).shape == x.shape


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("mlp", (4, 3), r"x must have shape \(batch, 2\), got \(4, 3\)"),
        ("mlp", (4, 2, 2), r"x must have shape \(batch, 2\)"),
        ("unet", (4, 3, 8, 8), r"x must have shape \(batch, 2, H, W\).*got \(4, 3, 8, 8\)"),
        ("unet", (4, 2, 8, 6), r"multiples of 4, got \(4, 2, 8, 6\)"),
        ("unet", (4, 2), "x must have shape"),
        ("dit", (4, 3, 8, 8), r"x must have shape \(batch, 2, H, W\).*got \(4, 3, 8, 8\)"),
        ("dit", (4, 2, 7, 8), r"multiples of 2, got \(4, 2, 7, 8\)"),
        ("dit", (4, 2), "x must have shape"),
    ],
)
def test_wrong_samples_are_refused_by_name(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name)(torch.zeros(shape), torch.zeros(shape[0]))


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda: MLP(dim_in=0), "dim_in must be"),
        (lambda: MLP(width=1.5), "width must be"),
        (lambda: MLP(depth=0), "depth must be"),
        (lambda: MLP(classes=0), "classes must be"),
        (lambda: UNet(channels=(12,)), "channels must be multiples of 8"),
        (lambda: UNet(channels=()), "channels must be"),
        (lambda: UNet(patch=0), "patch must be"),
        (lambda: UNet(attention=(5,)), "attention must name levels"),
        (lambda: DiT(image_size=30), "image_size must be a multiple of patch = 4, got 30"),
        (lambda: DiT(width=190), "width must be a multiple of 4"),
        (lambda: DiT(width=192, heads=5), "heads = 5"),
        (lambda: DiT(depth=0), "depth must be"),
        (lambda: DiT(in_channels=-1), "in_channels must be"),
        (lambda: DiT(classes=-1), "classes must be"),
    ],
)
def test_wrong_sizes_are_refused_by_name(make_wrong: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_wrong()
