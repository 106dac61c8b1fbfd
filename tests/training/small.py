"""Tasks that train in milliseconds: a linear map, two players, and a loss of the whole batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.training import Player, Task, Training, Turn


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


def layer(rows: int, columns: int, seed: int) -> nn.Linear:
    """A linear layer whose weights are the seed's, without a bias at first."""
    made = nn.Linear(columns, rows)
    with torch.no_grad():
        made.weight.copy_(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))
        made.bias.zero_()
    return made


def points(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(7))


def make_game(**changes: object) -> Task:
    """A generator that shifts and turns noise in the plane, against a quadratic discriminator; the latter moves first.

    `changes` are the discriminator's.
    """
    x, maker, judge = points(50, 2) + 1.0, layer(2, 2, 1), layer(1, 4, 2)

    def told(z: Tensor) -> Tensor:
        return judge(torch.cat([z, z**2], 1))

    def tell(turn: Turn) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = maker(turn.normal(2))
        real = told(x[turn.mine])
        return {"loss": F.softplus(-real).mean() + F.softplus(told(fake)).mean(), "real": real.mean()}

    def make(turn: Turn) -> Tensor:
        return F.softplus(-told(maker(turn.normal(2)))).mean()

    module = nn.ModuleDict({"maker": maker, "judge": judge})
    return Task(module, [Player(judge, tell, "judge", changes), Player(maker, make, "maker")], len(x))


def make_pairs() -> Task:
    """Two noisy views of each of 50 points know each other among all of the batch (van den Oord et al. 2018)."""
    x, net = points(50, 4), layer(3, 4, 3)

    def loss(turn: Turn) -> Tensor:
        views = [F.normalize(net(x[turn.mine] + 0.3 * turn.normal(4)), dim=1) for _ in range(2)]
        first, second = (turn.gather(view) for view in views)
        return F.cross_entropy(first @ second.T / 0.2, torch.arange(len(turn.index)))

    return Task(net, loss, len(x))
