"""The MLP learns a flow whose velocity is known exactly."""

import torch

from flowlib import MixtureField, Model, flow_matching_loss
from flowlib.nets.mlp import MLP


def test_learns_the_velocity_of_a_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    mixture = MixtureField(torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]]), 0.4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(MLP(width=64, classes=3))
    steps = 400
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        z, y = mixture.sample(256, generator)
        loss = flow_matching_loss(model, z, y, dropout=0.3, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    model.eval()
    for t in (0.1, 0.4, 0.7, 0.9):
        z, y = mixture.sample(2000, generator)
        x = mixture.path.sample(z, t, generator=generator)
        for guide, bar in ((y, 0.12), (None, 0.4)):  # the unguided velocity is small in the middle, and so harder
            exact = mixture.u(x, t, guide)
            error = (model.u(x, t, guide).detach() - exact).norm() / exact.norm()
            assert error < bar, (t, guide is None, float(error))
