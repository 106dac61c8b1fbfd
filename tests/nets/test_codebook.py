"""Vector quantisation: nearest by brute force, a gradient straight through, each loss on its own side."""

import pytest
import torch
from torch import Tensor

from flowlib.nets import Codebook, CodebookAutoencoder, perplexity


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
