"""Vector quantisation: nearest by brute force, a gradient straight through, each loss on its own side."""

import pytest
import torch
from torch import Tensor, nn

from flowlib import Model, flow_matching_loss, sample_ode
from flowlib.nets import Codebook, CodebookAutoencoder, perplexity
from flowlib.nets.unet import UNet
from flowlib.systems.first_stage import first_stage_loss
from flowlib.systems.latent import LatentModel


def make(size: int = 7, dim: int = 3, commitment: float = 0.25) -> tuple[Codebook, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Codebook(size, dim, commitment), torch.randn(2, dim, 4, 5)


def test_the_nearest_is_the_nearest() -> None:
    codes, z = make()
    index = codes.nearest(z)
    assert index.shape == (2, 4, 5)
    for b in range(2):
        for i in range(4):
            for j in range(5):
                distances = [float((z[b, :, i, j] - e).square().sum()) for e in codes.codebook.detach()]
                assert index[b, i, j] == distances.index(min(distances))
    e, _, _ = codes(z)
    assert torch.allclose(e, codes.look_up(index), atol=1e-6)
    again, loss, _ = codes(codes.look_up(index).detach())  # what lies in the book is left where it is, at no cost
    assert torch.equal(again, codes.look_up(index))
    assert float(loss) == 0


def test_the_gradient_goes_straight_through() -> None:
    codes, z = make()
    z.requires_grad_()
    e, _, _ = codes(z)
    weight = torch.randn(e.shape)
    (e * weight).sum().backward()
    assert torch.equal(z.grad, weight)  # as if e were z
    assert codes.codebook.grad is None  # the book learns from its own loss alone


def test_each_loss_moves_its_own_side() -> None:
    codes, z = make(commitment=0.25)
    z.requires_grad_()
    _, loss, index = codes(z)
    loss.backward()
    gap = z.detach() - codes.look_up(index).detach()
    torch.testing.assert_close(z.grad, 0.25 * 2 * gap / gap.numel())
    expected = torch.zeros_like(codes.codebook)
    expected.index_add_(0, index.flatten(), -2 * gap.movedim(1, -1).reshape(-1, 3) / gap.numel())
    torch.testing.assert_close(codes.codebook.grad, expected)
    unused = torch.bincount(index.flatten(), minlength=7) == 0
    assert not codes.codebook.grad[unused].any()  # a vector that is never the nearest never moves


def test_perplexity_counts_the_vectors_in_use() -> None:
    assert perplexity(torch.zeros(50, dtype=torch.long), 8) == 1
    assert perplexity(torch.arange(8).repeat(5), 8) == pytest.approx(8)
    assert perplexity(torch.tensor([0, 1, 2, 2]), 8) == pytest.approx(2 ** (0.25 * 2 + 0.25 * 2 + 0.5))
    with pytest.raises(ValueError, match=r"index must hold integers 0 \.\.\. 3"):
        perplexity(torch.tensor([4]), 4)


def test_it_is_a_first_stage_like_any_other() -> None:
    """Latents before quantisation are the flow's data; decoding quantises them, so small errors leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = CodebookAutoencoder(1, 2, 8, 4, size=16)
        latent = LatentModel(Model(UNet(2, (8,), 1, patch=1, dim=16)), autoencoder)
        x = torch.rand(6, 1, 8, 8) * 2 - 1
    latent.fit_scale(x)
    z = latent.encode(x)
    assert torch.equal(latent.encode(x, torch.Generator().manual_seed(0)), z)  # no noise to draw
    assert abs(float(z.double().std(unbiased=False)) - 1) < 1e-4
    assert torch.equal(latent.decode(z), latent.decode(z + 1e-6))
    assert torch.isfinite(flow_matching_loss(latent, z, torch.arange(6)))
    assert latent.decode(sample_ode(latent, torch.randn(3, 2, 2, 2), steps=2)).shape == (3, 1, 8, 8)


def test_it_learns_every_parameter_but_those_of_the_variance() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = CodebookAutoencoder(1, 2, 8, 2, size=4)
        x = torch.rand(8, 1, 8, 8) * 2 - 1
    optimiser = torch.optim.Adam(autoencoder.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = first_stage_loss(autoencoder, x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    silent = [name for name, p in autoencoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    head = autoencoder.encoder[-1]
    assert isinstance(head, nn.Conv2d)
    assert not head.weight.grad[2:].any()


def test_bad_arguments_are_named() -> None:
    for call, message in (
        (lambda: Codebook(1, 3), "size"),
        (lambda: Codebook(4, 0), "dim"),
        (lambda: Codebook(4, 3, -1.0), "commitment"),
        (lambda: Codebook(4, 3)(torch.zeros(2, 4, 3, 3)), r"z must have shape \(batch, 3, h, w\)"),
        (lambda: CodebookAutoencoder(size=1), "size"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
