"""LoRA beside loralib's own layers on random weights: outputs and gradients; skipped where it is not installed."""

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets.lora import add_lora, merge

loralib = pytest.importorskip("loralib")


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def agree(ours: nn.Module, theirs: nn.Module, x: Tensor, mine: list[Tensor], other: list[Tensor]) -> None:
    """Outputs, gradients of x and of parameters that belong together, and outputs once merged, to 1e-6."""
    found = []
    for net, parameters in ((ours, mine), (theirs, other)):
        given = x.clone().requires_grad_()
        y = net(given)
        found.append((y, *torch.autograd.grad(y.square().mean(), [given, *parameters])))
    for one, two in zip(*found, strict=True):
        assert float(two.detach().abs().max()) > 1e-3
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    merge(ours)
    theirs.eval()  # which merges
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_linear() -> None:
    theirs = loralib.Linear(7, 5, r=3, lora_alpha=2)
    ours = nn.Sequential(nn.Linear(7, 5))
    ours[0].load_state_dict({key: value for key, value in theirs.state_dict().items() if "lora" not in key})
    theirs.lora_B.data.copy_(random(5, 3, seed=0))
    add_lora(ours, rank=3, alpha=2, targets=["0"])
    (update,) = ours[0].lora  # type: ignore[union-attr, misc]
    update.A.data.copy_(theirs.lora_A)
    update.B.data.copy_(theirs.lora_B)
    agree(ours, theirs, random(4, 7, seed=1), [update.A, update.B], [theirs.lora_A, theirs.lora_B])


class Projections(nn.Module):
    """One layer of queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.qkv(x)


@pytest.mark.parametrize("which", ["qkv", "qv", "k"])
def test_queries_keys_and_values_of_one_layer(which: str) -> None:
    theirs = loralib.MergedLinear(6, 12, r=2, lora_alpha=4, enable_lora=[block in which for block in "qkv"])
    ours = Projections()
    ours.qkv.load_state_dict({key: value for key, value in theirs.state_dict().items() if "lora" not in key})
    theirs.lora_B.data.copy_(random(*theirs.lora_B.shape, seed=0))
    add_lora(ours, rank=2, alpha=4, targets=[f"qkv.{block}" for block in which])
    updates = list(ours.qkv.lora)  # type: ignore[arg-type]
    for update, first, second in zip(updates, theirs.lora_A.split(2), theirs.lora_B.split(4), strict=True):
        update.A.data.copy_(first)
        update.B.data.copy_(second)
    x = random(3, 4, 6, seed=1)
    found = []
    for net, pair in ((ours, [(u.A, u.B) for u in updates]), (theirs, [(theirs.lora_A, theirs.lora_B)])):
        y = net(x)
        grads = torch.autograd.grad(y.square().mean(), [p for matrices in pair for p in matrices])
        found.append((y, torch.cat(grads[::2]), torch.cat(grads[1::2])))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    agree(ours, theirs, x, [], [])


def test_convolution() -> None:
    """Of one pixel, theirs is ours; of 3 x 3 its update has rank 3 r in another arrangement, and ours of full rank."""
    for size, rank in ((1, 2), (3, 5)):
        theirs = loralib.Conv2d(4, 5, size, r=2, lora_alpha=3, padding=size // 2)
        conv = nn.Conv2d(4, 5, size, padding=size // 2)
        conv.load_state_dict(theirs.conv.state_dict())
        theirs.lora_B.data.copy_(random(*theirs.lora_B.shape, seed=0))
        ours = nn.Sequential(conv)
        add_lora(ours, rank=rank, alpha=3 * rank / 2, targets=["0"])
        (update,) = conv.lora  # type: ignore[union-attr, misc]
        total = (theirs.lora_B @ theirs.lora_A).detach().view(5, -1)
        update.A.data.copy_(theirs.lora_A if size == 1 else total)
        update.B.data.copy_(theirs.lora_B if size == 1 else torch.eye(5))
        mine, other = ([update.A, update.B], [theirs.lora_A, theirs.lora_B]) if size == 1 else ([], [])
        agree(ours, theirs, random(2, 4, 6, 6, seed=1), mine, other)
