"""A model means what its network predicts, and its network always gets what it expects."""

import pytest
import torch
from examples import KINDS, mixture, normal
from torch import Tensor, nn

from flowlib.fields import Model
from flowlib.paths import GaussianPath
from flowlib.schedules import Trigonometric


class Recorder(nn.Module):
    """A network that returns 2 x and remembers what it was given."""

    def __init__(self, null: int | None) -> None:
        super().__init__()
        self.null, self.seen = null, []

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        self.seen.append((x, t, y))
        return 2 * x


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_means_what_its_network_predicts(kind: str) -> None:
    model, x = Model(Recorder(None), GaussianPath(Trigonometric()), predicts=kind), normal(0, 4, 2)
    method = {"data": model.data, "noise": model.noise, "velocity": model.u, "score": model.s}.get(kind, model.predict)
    assert torch.equal(method(x, 0.4), 2 * x)
    assert torch.equal(model.u(x, 0.4), model.path.convert(2 * x, x, 0.4, kind, "velocity"))


def test_a_network_always_gets_one_time_and_one_label_a_sample() -> None:
    net = Recorder(null=10)
    model, x, y = Model(net), normal(0, 4, 3, 4, 4), torch.tensor([0, 9, 10, 3])
    for t in (0.25, torch.tensor(0.25), torch.full((4,), 0.25)):
        model.u(x, t, y)
        model.u(x, t)
    for i, (_, t, labels) in enumerate(net.seen):
        assert torch.equal(t, torch.full((4,), 0.25, dtype=torch.float64))
        assert torch.equal(labels, torch.full((4,), 10) if i % 2 else y)


def test_a_network_without_a_guide_is_called_without_one_and_refuses_labels() -> None:
    net = Recorder(null=None)
    model, x = Model(net), normal(0, 4, 2)
    model.u(x, 0.3)
    assert net.seen[0][2] is None
    with pytest.raises(ValueError, match="takes no guide"):
        model.u(x, 0.3, torch.zeros(4, dtype=torch.long))


def test_a_sample_of_another_dtype_than_the_network_or_mixture_is_named() -> None:
    x = normal(0, 4, 2)
    with pytest.raises(ValueError, match=r"x is torch.float64 .* the network is torch.float32"):
        Model(nn.Linear(2, 2)).u(x, 0.3)
    with pytest.raises(ValueError, match=r"x is torch.float32 .* the mixture is torch.float64"):
        mixture().u(x.float(), 0.3)
