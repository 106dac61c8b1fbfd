"""Muon: the update is orthogonal whatever the gradient's scale and shape, and it optimises."""

import pytest
import torch
from flows import flow_recipe
from torch import nn

from flowlib.data import Spec
from flowlib.runs.run import build
from flowlib.training.muon import Muon, orthogonalise
from flowlib.training.optimisers import make_optimisers


@pytest.mark.parametrize("shape", [(32, 32), (16, 144), (144, 16)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_update_has_singular_values_near_one_and_the_gradients_own_directions(shape, scale):
    g = torch.Generator().manual_seed(0)
    matrix = scale * torch.randn(shape, generator=g)
    update = orthogonalise(matrix)
    assert update.shape == matrix.shape
    values = torch.linalg.svdvals(update)
    # A square Gaussian matrix has singular values down to about 0; five iterations lift all but the smallest.
    assert values.max() < 1.3
    assert values.median() > 0.6
    u, _, vh = torch.linalg.svd(matrix / scale, full_matrices=False)
    inner = torch.einsum("ij,ij->", update, u @ vh) / min(shape)
    assert inner > 0.8


def test_a_zero_gradient_moves_nothing():
    p = nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    Muon([p], lr=0.1).step()
    assert torch.equal(p, before)


def test_it_fits_a_badly_scaled_linear_map_that_sgd_at_its_best_rate_does_not():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=g) * torch.logspace(0, -3, 16)
    target = torch.randn(8, 16, generator=g)

    def error_after(make, steps=200):
        layer = nn.Linear(16, 8, bias=False)
        nn.init.zeros_(layer.weight)
        optimiser = make(layer.parameters())
        for i in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = group["initial"] * (1 - i / steps)
            optimiser.zero_grad()
            (layer(x) - x @ target.T).square().mean().backward()
            optimiser.step()
        return float((layer.weight.detach() - target).norm())

    def muon(params):
        optimiser = Muon(params, lr=0.2)
        optimiser.param_groups[0]["initial"] = 0.2
        return optimiser

    def sgd(rate):
        def make(params):
            optimiser = torch.optim.SGD(params, lr=rate, momentum=0.95)
            optimiser.param_groups[0]["initial"] = rate
            return optimiser

        return make

    best = min(error_after(sgd(rate)) for rate in (0.03, 0.1, 0.3, 1.0))
    assert error_after(muon) < 0.5 * best


def test_kernels_are_taken_as_matrices_with_a_row_for_each_output_channel():
    g = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.zeros(8, 4, 3, 3))
    kernel.grad = torch.randn(8, 4, 3, 3, generator=g)
    Muon([kernel], lr=1.0, momentum=0.0).step()
    assert torch.allclose(-kernel.detach().flatten(1), orthogonalise(kernel.grad.flatten(1)))


def test_vectors_and_bad_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match="vectors"):
        Muon([nn.Parameter(torch.zeros(3))])
    matrix = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="momentum"):
        Muon([matrix], momentum=1.0)
    with pytest.raises(ValueError, match="lr"):
        Muon([matrix], lr=-1.0)


@pytest.mark.parametrize("net", ["unet", "dit"])
def test_the_recipe_gives_hidden_matrices_to_muon_and_every_other_parameter_to_adamw(net):
    recipe = flow_recipe(net=net, net_args={"patch": 2}, optimiser="muon", steps=1)
    model = build(recipe, Spec((1, 8, 8), 10))
    muon, adamw = make_optimisers(recipe.training, model)
    first, rest = ([p for group in o.param_groups for p in group["params"]] for o in (muon, adamw))
    assert isinstance(muon, Muon)
    assert all(p.ndim >= 2 for p in first)
    assert sorted(map(id, first + rest)) == sorted(map(id, model.parameters()))
    stem = id(model.net.stem.weight)
    assert stem in map(id, rest)
    assert sum(p.numel() for p in first) > sum(p.numel() for p in rest)
