"""The priors' networks: what sees what, what is dropped, and guides that are refused."""

import pytest
import torch
from examples import normal
from torch import Tensor

from flowlib.fields import Model
from flowlib.nets.priors import AutoregressivePrior, DiffusionPrior, Prior

LENGTH, DIM = 6, 4
EMPTY = torch.tensor([7, 8, 9, 9, 9, 9])
TOKENS = torch.tensor([[7, 1, 2, 8, 9, 9], [7, 3, 8, 9, 9, 9], [7, 4, 5, 6, 0, 8]])
COMMON = {"vocabulary": 10, "empty": EMPTY, "padding": 9, "dim": DIM, "width": 16, "depth": 2, "heads": 2}


def made(kind: str) -> Prior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = (
            DiffusionPrior(**COMMON) if kind == "diffusion" else AutoregressivePrior(**COMMON, components=3, buckets=5)
        )
        for parameter in net.parameters():  # none of them silent
            torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


def units(seed: int, count: int = 3) -> Tensor:
    return torch.nn.functional.normalize(normal(seed, count, DIM), dim=1).float()


def calls(net: Prior, y: Tensor) -> Tensor:
    """What a prior says under guides y."""
    if isinstance(net, DiffusionPrior):
        return net(normal(1, len(y), DIM).float(), torch.full((len(y),), 0.4), y)
    assert isinstance(net, AutoregressivePrior)
    return net(y, torch.full((len(y),), 3), torch.tensor([[1, 2, 3]]).expand(len(y), -1))


def test_the_query_sees_all_and_nothing_sees_what_comes_later() -> None:
    """The sequence is text, its embedding, time, the noised embedding, the query: the transformer is asked itself."""
    net = made("diffusion")
    seen: list[Tensor] = []
    net.transformer.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    y = net.guide(TOKENS, units(0)).requires_grad_()
    x, t = normal(1, 3, DIM).float().requires_grad_(), torch.full((3,), 0.4, requires_grad=True)
    net(x, t, y)
    rows = seen[0].detach().requires_grad_()
    assert rows.shape == (3, LENGTH + 4, 16)  # as long as the longest text
    mask = torch.cat([TOKENS != 9, torch.ones(3, 4, dtype=torch.bool)], dim=1)
    out = net.transformer(rows, mask)
    for i in range(rows.shape[1]):
        gradient = torch.autograd.grad(out[2, i].sum(), rows, retain_graph=True)[0]
        used = (gradient[2] != 0).any(1)
        assert used.tolist() == [j <= i for j in range(rows.shape[1])]
    whole = net(x, t, y)
    gradients = torch.autograd.grad(whole[0].sum(), [x, t, y])
    assert bool((gradients[0][0] != 0).all())
    assert float(gradients[1][0]) != 0
    assert bool((gradients[2][0, LENGTH:] != 0).all())
    assert not gradients[0][1:].any()  # nor any other sample


def test_a_code_depends_on_the_text_and_on_those_before_it_alone() -> None:
    net = made("autoregressive")
    assert isinstance(net, AutoregressivePrior)
    y, level, codes = net.guide(TOKENS, units(0)), torch.tensor([0, 3, 16]), torch.tensor([[1, 2, 3]]).expand(3, -1)
    logits = net(y, level, codes)
    assert logits.shape == (3, 3, 5)
    for i in range(3):
        other = codes.clone()
        other[:, i] = 0
        moved = (net(y, level, other) != logits).any(2).any(0)
        assert moved.tolist() == [j > i for j in range(3)]
    assert bool((net(y, (level + 1) % 17, codes) != logits).any(2).all())
    assert bool((net(net.guide(TOKENS, units(5)), level, codes) != logits).any(2).all())


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
def test_padding_is_not_seen_and_does_not_move_what_is_behind_the_text(kind: str) -> None:
    net = made(kind)
    y = net.guide(TOKENS, units(0))
    together = calls(net, y)
    torch.testing.assert_close(calls(net, y[:1])[0], together[0], atol=1e-5, rtol=1e-5)  # cut to its own length
    with torch.no_grad():
        net.token.weight[9] += 1
    assert torch.equal(calls(net, y), together)
    with torch.no_grad():
        net.token.weight[8] += 1  # the end, which counts
    assert bool((calls(net, y) != together).any())


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
def test_the_null_guide_is_the_empty_text_and_a_learned_vector(kind: str) -> None:
    net = made(kind)
    assert torch.equal(net.null, torch.cat([EMPTY.float(), torch.zeros(DIM)]))
    null = net.null.expand(3, -1)
    before = calls(net, null)
    with torch.no_grad():
        net.said.layer.weight.mul_(2)
        net.said.layer.bias.add_(1)
    assert torch.equal(calls(net, null), before)  # zeros do not go through the layer
    with torch.no_grad():
        net.said.none.add_(1)
    assert not torch.equal(calls(net, null), before)
    if kind == "diffusion":
        field = Model(net, predicts="data")
        x = normal(1, 3, DIM).float()
        assert torch.equal(field.data(x, 0.4), calls(net, null))
        assert torch.equal(field.null_like(null), null)


def test_nearness_is_cut_at_its_quantiles() -> None:
    net = made("autoregressive")
    assert isinstance(net, AutoregressivePrior)
    images, texts = units(0, 4000), units(1, 4000)
    net.learn(images, texts)
    level = net.level(images, texts)
    counts = level.bincount(minlength=16)
    assert len(counts) == 16
    assert bool(((counts - 250).abs() <= 1).all())
    product = (images * texts).sum(1)
    for low, high in ((0, 1), (7, 8), (14, 15)):
        assert float(product[level == low].max()) <= float(product[level == high].min())
    assert torch.equal(net.codes.mean, images.double().mean(0).float())


def test_guides_that_do_not_fit_are_refused() -> None:
    net = made("diffusion")
    field, x = Model(net, predicts="data"), torch.zeros(3, DIM)
    good = net.guide(TOKENS, units(0))
    field.data(x, 0.5, good)
    for y, says in (
        (good[:, :-1], "y must be a tensor with one guide a sample"),
        (good.long(), "y must be texts' tokens and embeddings"),
        (good[:2], "y must be a tensor with one guide a sample"),
        (net.guide(TOKENS, 2 * units(0)), "embeddings of unit length, or zeros"),
        (net.guide(TOKENS + 4, units(0)), "tokens must lie in 0 ... 9"),
    ):
        with pytest.raises(ValueError, match=says):
            field.data(x, 0.5, y)
    with pytest.raises(ValueError, match=r"tokens must be \(B, 6\) and embedding \(B, 4\)"):
        net.guide(TOKENS[:, :5], units(0))
    with pytest.raises(ValueError, match="levels must be even"):
        AutoregressivePrior(**COMMON, components=3, buckets=5, levels=7)
    with pytest.raises(ValueError, match="components must be at most 4"):
        AutoregressivePrior(**COMMON, components=5, buckets=5)
