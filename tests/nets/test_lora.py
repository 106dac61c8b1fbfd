"""LoRA: the update in closed form, a base that stays, merging, several adapters, and names of layers."""

import copy

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets import CLIP, DiT, TextTransformer, UNet, ViT
from flowlib.nets.lora import add_lora, load_lora, lora_state, merge, unmerge
from flowlib.nets.low_rank import Adapted, places
from flowlib.training.ema import EMA


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scattered(net: nn.Module, std: float = 0.2, seed: int = 0) -> nn.Module:
    """The network with normal weights, none of which is zero."""
    generator = seeded(seed)
    for p in net.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator) * std)
    return net.eval()


def disturbed(net: nn.Module, seed: int = 1) -> nn.Module:
    """The network with adapters whose B are no longer zero."""
    generator = seeded(seed)
    for name, p in net.named_parameters():
        if name.endswith(".B"):
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return net


class Net(nn.Module):
    """A linear layer, a convolution, and two joined projections."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), nn.Linear(6, 12)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.qkv(torch.tanh(self.conv(x)).mean((2, 3)))))


X = torch.randn(5, 3, 8, 8, generator=seeded(7))


def test_the_update_is_alpha_over_r_b_a() -> None:
    layer = scattered(nn.Sequential(nn.Linear(5, 4)))
    x, base = torch.randn(3, 5, generator=seeded(0)), layer[0].weight.detach().clone()  # type: ignore[index]
    assert add_lora(layer, rank=2, alpha=6, targets=["0"]) == ["0"]
    disturbed(layer)
    state = lora_state(layer)
    assert {key: tuple(value.shape) for key, value in state.items()} == {"0.A": (2, 5), "0.B": (4, 2), "alpha": ()}
    expected = base + 3 * state["0.B"] @ state["0.A"]
    assert torch.allclose(layer[0].weight, expected, atol=1e-6)  # type: ignore[index]
    bias = layer[0].bias  # type: ignore[index]
    by_hand = x @ base.T + bias + 3 * (x @ state["0.A"].T) @ state["0.B"].T
    assert torch.allclose(layer(x), by_hand, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_the_first_gradient_is_projected_on_the_rows_of_a(kind: str) -> None:
    """dL/dB = s G A^T and dL/dA = 0, with G = dL/dW: the first step moves W by -lr s^2 G A^T A."""
    layer: nn.Module = nn.Linear(5, 4) if kind == "linear" else nn.Conv2d(3, 4, 3, padding=1)
    net = scattered(nn.Sequential(layer)).double()
    x = torch.randn(6, *((5,) if kind == "linear" else (3, 5, 5)), generator=seeded(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), layer.weight)  # type: ignore[arg-type]
    full = gradient.flatten(1)
    base = layer.weight.detach().clone()  # type: ignore[union-attr, operator]
    add_lora(net, rank=2, alpha=3, targets=["0"], generator=seeded(2))
    (update,) = layer.lora  # type: ignore[union-attr, misc]
    net(x).square().sum().backward()
    assert torch.allclose(update.B.grad, 1.5 * full @ update.A.T, atol=1e-10)
    assert not update.A.grad.any()
    torch.optim.SGD([update.A, update.B], lr=0.01).step()
    moved = (layer.weight.detach() - base).flatten(1)  # type: ignore[union-attr, operator]
    assert torch.allclose(moved, -0.01 * 1.5**2 * full @ update.A.T @ update.A, atol=1e-10)
    assert int(torch.linalg.matrix_rank(moved)) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_starts_as_it_was_merges_and_comes_back_to_the_last_bit(precision: str) -> None:
    net = scattered(Net())
    before, y = copy.deepcopy(net.state_dict()), net(X)
    assert add_lora(net, rank=2, alpha=2, targets=["conv", "qkv", "head"], generator=seeded(0)) == [
        "conv", "qkv.q", "qkv.k", "qkv.v", "head",
    ]  # fmt: skip
    assert torch.equal(net(X), y)
    disturbed(net)

    def answer() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"), torch.no_grad():
            return net(X)

    learned = answer()
    merge(net)
    assert torch.equal(answer(), learned)
    assert list(net.state_dict()) == list(before)  # a plain network
    assert not any(isinstance(layer, Adapted) for layer in net.modules())
    assert not torch.equal(net.state_dict()["conv.weight"], before["conv.weight"])
    plain = Net().eval()
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(plain(X), net(X), atol=1e-6)
    copied = copy.deepcopy(net)
    for one in (net, copied):
        unmerge(one)
        assert all(torch.equal(one.state_dict()[key], value) for key, value in before.items())
        assert not torch.equal(one(X), y)
        merge(one)  # and again
        unmerge(one)
    assert torch.equal(net(X), copied(X))


def test_adapters_add_up_with_their_weights() -> None:
    base = scattered(Net())
    states = []
    for seed, targets in ((1, ["qkv", "conv"]), (2, ["head", "qkv.v"])):
        one = copy.deepcopy(base)
        add_lora(one, rank=seed, alpha=2, targets=targets)
        states.append(lora_state(disturbed(one, seed)))
    both = copy.deepcopy(base)
    load_lora(both, states[0], weight=0.5)
    load_lora(both, states[1], weight=-2.0)
    for key, weight in {"conv": (0.5, 0), "qkv": (0.5, -2.0), "head": (0, -2.0)}.items():
        expected = base.get_submodule(key).weight.detach().clone()  # type: ignore[union-attr, operator]
        for part, state in zip(weight, states, strict=True):  # type: ignore[arg-type]
            for i, block in enumerate("qkv" if key == "qkv" else [""]):
                place, size = f"{key}.{block}".rstrip("."), len(expected) // (3 if key == "qkv" else 1)
                if part and f"{place}.A" in state:
                    update = part * 2 / len(state[f"{place}.A"]) * state[f"{place}.B"] @ state[f"{place}.A"]
                    expected[i * size : (i + 1) * size] += update.view_as(expected[i * size : (i + 1) * size])
        assert torch.allclose(both.get_submodule(key).weight, expected, atol=1e-6), key  # type: ignore[arg-type]
    none = copy.deepcopy(base)
    load_lora(none, states[0], weight=0)
    assert torch.equal(none(X), base(X))


def test_what_is_saved_alone_is_all_that_was_learned() -> None:
    base = scattered(Net())
    net = copy.deepcopy(base)
    add_lora(net, rank=2, alpha=5, targets=["qkv.q", "qkv.v", "conv"])
    state = lora_state(disturbed(net))
    assert {key.rpartition(".")[0] for key in state if key != "alpha"} == {"qkv.q", "qkv.v", "conv"}
    again = copy.deepcopy(base)
    load_lora(again, state)
    assert torch.equal(again(X), net(X))
    assert all(torch.equal(value, lora_state(again)[key]) for key, value in state.items())
    assert torch.equal(again.qkv.weight[4:8], base.qkv.weight[4:8])  # type: ignore[union-attr, index]


def test_only_the_adapter_is_trained_and_averaged() -> None:
    net = scattered(Net())
    before = copy.deepcopy(net.state_dict())
    add_lora(net, rank=1, targets=["qkv.v", "conv"])
    parameters = [p for p in net.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == (4 + 6) + (6 + 9)
    average, optimiser = EMA(net, 0.9), torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5)
    for step in range(3):
        optimiser.zero_grad()
        (net(X) - 1).square().mean().backward()
        optimiser.step()
        average.update(step + 1)
    for one in (net, average.module):
        assert all(torch.equal(one.state_dict()[key], value) for key, value in before.items())
    assert not torch.equal(average.module(X), net(X))
    learned, mean = lora_state(net), lora_state(average.module)
    assert all(bool(learned[key].any()) and not torch.equal(learned[key], mean[key]) for key in ("conv.B", "qkv.v.B"))
    net.qkv.lora[0].B.data.zero_()  # type: ignore[union-attr, index]  # of the original, whose copy has its own
    assert torch.equal(lora_state(average.module)["qkv.v.B"], mean["qkv.v.B"])


def unet() -> tuple[nn.Module, tuple[Tensor, ...]]:
    net = UNet(3, (8, 16), depth=1, classes=None, attention=(0, 1), heads=2, dim=16, words=9, length=4)
    words = torch.tensor([[1, 2, 3, 0]] * 2)
    return net, (torch.randn(2, 3, 8, 8, generator=seeded(1)), torch.rand(2, generator=seeded(2)), words)


def dit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    images = torch.randn(2, 3, 8, 8, generator=seeded(1))
    return DiT(3, 8, patch=4, width=16, depth=2, heads=2), (images, torch.rand(2), torch.tensor([1, 2]))


def clip() -> tuple[nn.Module, tuple[Tensor, ...]]:
    image = ViT(image_size=8, patch=4, width=16, depth=1, heads=2, out_dim=8)
    text = TextTransformer(vocabulary=20, length=6, end=19, width=16, depth=1, heads=2)
    return CLIP(image, text), (torch.randn(2, 3, 8, 8, generator=seeded(1)), torch.tensor([[1, 2, 19], [3, 4, 19]]))


@pytest.mark.parametrize("make", [unet, dit, clip])
@pytest.mark.parametrize("targets", [["attention.*"], ["*"]])
@torch.no_grad()
def test_every_adapted_layer_of_every_network_changes_the_output(make, targets: list[str]) -> None:  # type: ignore[no-untyped-def]
    net, given = make()
    scattered(net)

    def answer() -> Tensor:
        found = net(*given)
        return found if isinstance(found, Tensor) else found[0]

    net.requires_grad_(False)  # of which a kernel of torch makes another rounding
    y, keys = answer(), set(net.state_dict())
    names = add_lora(net, rank=2, targets=targets, generator=seeded(0))
    assert keys <= set(net.state_dict())
    assert torch.equal(answer(), y)
    attention = [name for name in places(net) if ".attention." in name]
    assert names == (attention if targets == ["attention.*"] else list(places(net)))
    assert len(attention) >= 8
    for layer in net.modules():
        if isinstance(layer, Adapted):
            for update in layer.lora:
                update.B.data.copy_(torch.randn(update.B.shape, generator=seeded(3)))
                assert not torch.equal(answer(), y), (update.name, update.block)
                update.B.data.zero_()
    assert torch.equal(answer(), y)


def test_a_compiled_network_has_its_adapter_too() -> None:
    net = scattered(Net())
    add_lora(net, rank=2, targets=["qkv.v", "conv"])
    disturbed(net)
    compiled = torch.compile(net, backend="aot_eager")
    loss = compiled(X).square().sum()
    assert torch.allclose(compiled(X), net(X), atol=1e-6)
    parameters = [p for p in net.parameters() if p.requires_grad]
    found, expected = (torch.autograd.grad(one, parameters) for one in (loss, net(X).square().sum()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_torchs_own_attention_reads_the_sum() -> None:
    layer = scattered(nn.MultiheadAttention(8, 2, batch_first=True))
    x = torch.randn(1, 3, 8, generator=seeded(0))
    with torch.no_grad():
        y = layer(x, x, x)[0]
        assert add_lora(layer, rank=1, targets=["out_proj"]) == ["out_proj"]
        assert torch.equal(layer(x, x, x)[0], y)
        disturbed(layer)
        assert not torch.equal(layer(x, x, x)[0], y)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": ["qkv", "nothing.*"]}, "targets must name linear or convolution layers: 'nothing.*' is none"),
        ({"targets": []}, "targets must be a list of patterns"),
        ({"targets": "qkv"}, "targets must be a list of patterns"),
        ({"rank": 0}, "rank must be an integer >= 1"),
        ({"alpha": 0}, "alpha must be a finite number in"),
    ],
)
def test_bad_adapters_are_named_and_change_nothing(change: dict, says: str) -> None:
    net = scattered(Net())
    with pytest.raises(ValueError, match=says.replace("*", r"\*")):
        add_lora(net, **{"rank": 1, "alpha": 1, "targets": ["qkv", "head"], **change})
    assert not hasattr(net.qkv, "lora")
    assert all(p.requires_grad for p in net.parameters())


def test_adapters_of_others_and_merging_twice_are_refused_and_change_nothing() -> None:
    net, other = scattered(Net()), scattered(nn.Sequential(nn.Linear(5, 4)))
    add_lora(other, rank=2, targets=["0"])
    state = lora_state(other)
    wrong = {
        "the LoRA is of another network: this one has no layer 0": state,
        r"its head is \(4, 5\), this one's \(2, 12\)": {key.replace("0.", "head."): v for key, v in state.items()},
        r"must be of one rank, and its matrices say \[1, 2\]": {**state, "0.A": state["0.A"][:1]},
        "state must hold matrices": {**state, "0.B": torch.tensor(1.0)},
        "state must hold alpha": {"0.A": state["0.A"]},
        "state must hold alpha, and A and B": {"0.A": state["0.A"], "alpha": state["alpha"]},
    }
    for says, given in wrong.items():
        with pytest.raises(ValueError, match=says):
            load_lora(net, given)
    drawn = torch.random.get_rng_state()
    load_lora(copy.deepcopy(other), state)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    with pytest.raises(ValueError, match="weight must be a finite number"):
        load_lora(other, state, weight=float("nan"))
    assert not hasattr(net.head, "lora")
    with pytest.raises(ValueError, match="there is an adapter 'lora' already"):
        load_lora(other, state, name="lora")
    with pytest.raises(ValueError, match="module has no adapters to merge"):
        merge(net)
    with pytest.raises(ValueError, match="module has no merged adapters"):
        unmerge(other)
    disturbed(other)
    merge(other)
    weight = other[0].weight.detach().clone()  # type: ignore[index]
    for call, says in (
        (lambda: merge(other), "merged already"),
        (lambda: load_lora(other, state), "unmerge them first"),
        (lambda: add_lora(other, targets=["0"]), "unmerge them first"),
        (lambda: lora_state(other), "name must be one of the adapters"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
        assert torch.equal(other[0].weight, weight)  # type: ignore[index]
