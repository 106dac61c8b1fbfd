"""The parts of the DiT: patches, positions, and a block against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from flowlib.nets.dit import DiT, DiTBlock, patchify, position_table, unpatchify


@pytest.mark.parametrize(("shape", "patch"), [((2, 1, 28, 28), 4), ((3, 2, 6, 10), 2), ((1, 5, 3, 3), 1)])
def test_unpatchify_inverts_patchify(shape: tuple[int, ...], patch: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tokens = patchify(x, patch)
    assert tokens.shape == (shape[0], shape[2] * shape[3] // patch**2, shape[1] * patch**2)
    assert torch.equal(unpatchify(tokens, patch, *shape[2:]), x)


def test_patches_are_cut_row_by_row() -> None:
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6)
    tokens = patchify(x, 2)
    assert torch.equal(tokens[0, 1], x[0, :, 0:2, 2:4].flatten())
    assert torch.equal(tokens[0, 3], x[0, :, 2:4, 0:2].flatten())


def test_position_table_against_its_formula() -> None:
    rows, columns, dim = 3, 5, 8
    table = position_table(rows, columns, dim)
    for row in range(rows):
        for column in range(columns):
            angles = [(place, place / 100) for place in (column, row)]  # frequencies 1 and 10000^(-1/2)
            expected = [f(angle) for pair in angles for f in (math.sin, math.cos) for angle in pair]
            torch.testing.assert_close(table[row * columns + column], torch.tensor(expected))


def test_positions_do_not_depend_on_the_image_size() -> None:
    large = position_table(7, 7, 16).reshape(7, 7, 16)
    assert torch.equal(position_table(4, 6, 16).reshape(4, 6, 16), large[:4, :6])


def test_network_knows_where_its_patches_lie() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DiT(image_size=8, patch=2, width=32, depth=1, heads=2)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    for size in (8, 12):  # the table that is kept, and one that is computed on the way
        tokens = patchify(net(torch.zeros(1, 1, size, size), torch.zeros(1)), 2)[0]
        assert len(tokens.unique(dim=0)) == len(tokens)


def test_block_against_its_formula() -> None:
    """The six modulation vectors come as published: shift, scale, gate of attention, then those of the other layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = DiTBlock(width=16, heads=2, expand=4).double()
        torch.nn.init.normal_(block.modulation.weight)
        x, condition = torch.randn(3, 5, 16).double(), torch.randn(3, 16).double()
    vectors = F.linear(condition, block.modulation.weight, block.modulation.bias)[:, None]
    shift1, scale1, gate1, shift2, scale2, gate2 = (vectors[..., 16 * i : 16 * (i + 1)] for i in range(6))

    def norm(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-6)

    h = x + gate1 * block.attention(norm(x) * (1 + scale1) + shift1)
    expected = h + gate2 * block.mlp(norm(h) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(x, condition), expected, rtol=1e-10, atol=1e-10)
