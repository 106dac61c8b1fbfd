"""An autoencoder with a codebook as the first stage of a latent model."""

import torch
from torch import nn

from flowlib import Model, flow_matching_loss, sample_ode
from flowlib.nets import CodebookAutoencoder
from flowlib.nets.unet import UNet
from flowlib.systems.latent import LatentModel
from flowlib.systems.perceptual import first_stage_loss


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
