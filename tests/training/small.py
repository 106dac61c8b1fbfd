"""A task that trains in milliseconds: a linear map, with noise from the run's generator."""

import torch
from torch import Tensor, nn

from flowlib.training import Task, Training, Turn


def settings(**changes: object) -> Training:
    return Training(**{"steps": 40, "batch_size": 8, "lr": 0.02, "precision": "fp32", **changes})


def make_task(seed: int = 0, width: int = 4) -> Task:
    """Learn y = x A from 50 noisy samples; the weights are the seed's, the data always the same."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=g)
    y = x @ torch.randn(4, width, generator=g)
    net = nn.Linear(4, width)
    with torch.no_grad():
        net.weight.copy_(torch.randn(width, 4, generator=torch.Generator().manual_seed(seed)))
        net.bias.zero_()

    def loss(turn: Turn) -> Tensor:
        noise = 0.1 * turn.normal(width)
        return (net(x[turn.mine]) - y[turn.mine] - noise).square().mean()

    return Task(net, loss, len(x), net)
