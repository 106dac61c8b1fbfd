"""Edges that a module declares, or does not, or declares wrongly: who trains what with Muon."""

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets.mlp import MLPBlock
from flowlib.training import Training
from flowlib.training.edges import inner_matrices
from flowlib.training.muon import Muon
from flowlib.training.optimisers import make_optimisers

MUON = Training(steps=1, optimiser="muon")


class Net(nn.Module):
    edges: object = ("stem", "layers.0", "scale", "absent")

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.absent = nn.Linear(2, 4), None
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.bank = nn.Parameter(torch.ones(4, 4))


def declaring(edges: object) -> Net:
    net = Net()
    net.edges = edges
    return net


def test_edges_are_modules_and_parameters_and_everything_else_is_inside() -> None:
    assert list(inner_matrices(Net())) == ["bank", "layers.1.weight", "layers.2.0.weight"]
    assert list(inner_matrices(nn.Sequential(Net()))) == ["0.bank", "0.layers.1.weight", "0.layers.2.0.weight"]
    assert len(inner_matrices(declaring(()))) == 6
    assert len(inner_matrices(declaring(["stem"]))) == 5


def test_what_is_not_trained_is_nobodys() -> None:
    net = Net()
    net.layers[1].requires_grad_(False)
    assert list(inner_matrices(net)) == ["bank", "layers.2.0.weight"]


def test_a_matrix_that_two_modules_share_is_an_edge_if_it_is_one_for_either() -> None:
    net = Net()
    net.stem = nn.Linear(4, 4)
    net.layers[1].weight = net.stem.weight
    assert list(inner_matrices(net)) == ["bank", "layers.2.0.weight"]
    tied = Net()
    tied.layers[2][0].weight = tied.layers[1].weight
    tied.edges = ("layers.2",)
    assert "layers.1.weight" not in inner_matrices(tied)


class Own(nn.Module):
    """A network that knows nothing of edges, with a block inside that does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(3, 8), MLPBlock(8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.block(self.first(torch.cat([x, t[:, None]], 1)), t[:, None]))


def test_without_a_declaration_adamw_trains_all_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    (adamw,) = make_optimisers(MUON, net)
    assert isinstance(adamw, torch.optim.AdamW)
    assert {p for group in adamw.param_groups for p in group["params"]} == set(net.parameters())
    (record,) = caplog.records
    assert "declares `edges` around 3 matrices" in record.getMessage()
    assert "0.weight, 2.weight, 3.weight (see flowlib.training.edges)" in record.getMessage()


def test_a_block_of_ours_in_such_a_network_declares_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    net = Own()
    assert list(inner_matrices(net)) == ["block.layers.0.weight", "block.layers.2.weight"]
    assert "around 2 matrices, so all count as edges: first.weight, last.weight (see" in caplog.text
    muon, adamw = make_optimisers(MUON, net)
    assert isinstance(muon, Muon)
    before = [p.detach().clone() for p in net.parameters()]
    for _ in range(2):  # the second step moves what the zeros of the first one hide
        net(torch.ones(4, 2), torch.linspace(0, 1, 4)).square().mean().backward()
        muon.step(), adamw.step()
    assert not any(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_adamw_alone_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert len(make_optimisers(Training(steps=1), nn.Linear(2, 2))) == 1
    assert len(make_optimisers(Training(steps=1), declaring(("nothing",)))) == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (("stem", "haed"), "edges of Net must name its parts, got 'haed'"),
        (("layers.7",), "edges of Net must name its parts, got 'layers.7'"),
        (("forward",), "edges of Net must name its parts, got 'forward'"),
        ((3,), "edges of Net must name its parts, got 3"),
        ("stem", "edges of Net must be a tuple of names, got 'stem'"),
    ],
)
def test_a_wrong_declaration_is_named(edges: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimisers(MUON, declaring(edges))
