"""Patterns of attention: each against figure 11 of the paper, drawn by hand for a grid of 4 x 4."""

import pytest
import torch
from torch import Tensor, nn

from flowlib.nets import Transformer
from flowlib.nets.patterns import PATTERNS, attention_pattern, layer_kinds, layer_patterns

# Of the image tokens 0 ... 15 in rows of four: which of them a token sees, itself included.
SEES = {
    "row": {0: [0], 3: [0, 1, 2, 3], 4: [0, 1, 2, 3, 4], 6: [2, 3, 4, 5, 6], 15: [11, 12, 13, 14, 15]},
    "column": {0: [0], 3: [3], 4: [0, 4], 6: [2, 6], 13: [1, 5, 9, 13], 15: [3, 7, 11, 15]},
    "convolution": {
        0: [0],
        1: [0, 1],
        3: [0, 2, 3],  # 5 back is before the first row, 3 back is the neighbour of the row above that is not there
        4: [0, 1, 3, 4],
        6: [1, 2, 3, 5, 6],
        7: [2, 3, 4, 6, 7],  # 4 is to the upper right of 7, around the edge
        8: [3, 4, 5, 7, 8],
    },
    "full": {0: [0], 5: [0, 1, 2, 3, 4, 5], 15: list(range(16))},
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_is_that_of_the_figure(kind: str) -> None:
    seen = attention_pattern(kind, 6, 4, 4)
    assert seen.shape == (22, 22)
    assert seen.dtype == torch.bool
    assert torch.equal(seen[:6], torch.ones(22, 22).tril()[:6] > 0)  # the text is causal, and sees no image
    assert seen[6:, :6].all()  # and is seen by the whole image
    for token, expected in SEES[kind].items():
        assert seen[6 + token, 6:].nonzero()[:, 0].tolist() == expected, token


def test_a_wide_kernel_reaches_two_rows_up() -> None:
    seen = attention_pattern("convolution", 0, 5, 6, kernel=5)
    assert seen[27].nonzero()[:, 0].tolist() == [13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 25, 26, 27]
    assert torch.equal(attention_pattern("convolution", 0, 5, 6, kernel=1), torch.eye(30, dtype=torch.bool))


def test_the_order_of_layers_is_the_papers() -> None:
    assert layer_kinds("sparse", 1) == ["convolution"]
    assert layer_kinds("sparse", 8) == ["row", "column", "row", "row", "row", "column", "row", "convolution"]
    paper = layer_kinds("sparse", 64)
    assert paper[:4] == ["row", "column", "row", "row"]
    assert [i for i, kind in enumerate(paper, 1) if kind == "column"] == list(range(2, 64, 4))
    assert paper[-1] == "convolution"
    assert "convolution" not in paper[:-1]
    assert layer_kinds("full", 2) == ["full", "full"]


def reached(pattern: list[Tensor]) -> Tensor:
    """Which tokens each token of a transformer depends on, by its Jacobian."""
    count = len(pattern[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Transformer(8, len(pattern), 2, causal=True, pattern=pattern).double()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.4)
        x = torch.randn(1, count, 8).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x)[0].sum(1), x)  # (N, 1, N, 8)
    return (jacobian != 0).any(3)[:, 0]


def test_a_transformer_obeys_and_two_layers_reach_everything() -> None:
    for kind in PATTERNS:
        pattern = attention_pattern(kind, 2, 3, 3)
        assert torch.equal(reached([pattern]), pattern)
    assert torch.equal(reached(layer_patterns("sparse", 3, 2, 3, 3)), torch.ones(11, 11).tril() > 0)


def test_bad_input_is_refused_by_name() -> None:
    for call, says in (
        (lambda: attention_pattern("diagonal", 1, 2, 2), "kind must be one of row, column, convolution, full"),
        (lambda: attention_pattern("row", -1, 2, 2), "text must be"),
        (lambda: attention_pattern("row", 1, 0, 2), "height must be"),
        (lambda: attention_pattern("convolution", 1, 2, 2, kernel=2), "kernel must be odd"),
        (lambda: layer_kinds("dense", 2), "layers must be one of sparse, full"),
        (lambda: layer_kinds("sparse", 0), "depth must be"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
