"""Which token sees which, of a text followed by the tokens of an image: DALL-E's four patterns (Ramesh et al. 2021).

Appendix B.1 and figure 11: each token of the image sees the whole text, and of the image a part about as large as a
row, a column or a small window. That part differs from layer to layer, and after a few layers each token has heard of
all that are earlier. A pattern is (N, N), true where the token of the row sees that of the column.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlib.checks import check_choice, check_count, check_odd

PATTERNS = ("row", "column", "convolution", "full")
LAYERS = ("sparse", "full")


def attention_pattern(kind: str, text: int, height: int, width: int, kernel: int = 3) -> Tensor:
    """Which of `text` + `height` `width` tokens each of them sees: (N, N), true or false.

    With the image's tokens numbered row by row, token i sees of them

        "row"            itself and the last `width` before it, of which the first stands right above it;
        "column"         those of its column;
        "convolution"    j where i - j = a `width` + b, with a and |b| at most kernel // 2: a window around it, which at
                         an edge of the image goes on at the other one, as "row" does;
        "full"           all,

    and of these none that is later.

    Args:
        kind: one of `PATTERNS`.
        text: tokens of the text, 0 for none.
        height, width: of the image's grid.
        kernel: side of the window, an odd number; 11 in the paper, on a grid of 32 x 32.

    Raises:
        ValueError: for another kind, or a size that does not fit.

    Example:
        >>> attention_pattern("row", 1, 2, 2).int().tolist()
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 1, 1, 1]]
    """
    check_choice("kind", kind, PATTERNS)
    check_count("text", text, 0)
    check_odd("kernel", kernel)
    place = torch.arange(check_count("height", height) * check_count("width", width))
    back = place[:, None] - place  # how much earlier the token of the column is
    if kind == "row":
        image = back <= width
    elif kind == "column":
        image = back % width == 0
    elif kind == "convolution":
        reach = kernel // 2
        offsets = torch.tensor([a * width + b for a in range(reach + 1) for b in range(-reach, reach + 1)])
        image = torch.isin(back, offsets)
    else:
        image = torch.ones_like(back, dtype=torch.bool)
    seen = torch.ones(text + len(place), text + len(place), dtype=torch.bool).tril()
    seen[text:, text:] &= image
    return seen


def layer_kinds(layers: str, depth: int) -> Sequence[str]:
    """The kind of pattern of each of `depth` layers, the first one first.

    "sparse", the paper's: the last one is "convolution"; of the others, counted from 1, i is "column" if i - 2 is a
    multiple of 4 and "row" if not: row, column, row, row, row, column ... "full": all are "full".

    Raises:
        ValueError: for another name, or no layers.
    """
    check_count("depth", depth)
    if check_choice("layers", layers, LAYERS) == "full":
        return ["full"] * depth
    return [*("column" if i % 4 == 2 else "row" for i in range(1, depth)), "convolution"]


def layer_patterns(layers: str, depth: int, text: int, height: int, width: int, kernel: int = 3) -> list[Tensor]:
    """The pattern of each layer, as `Transformer(pattern=...)` takes them; arguments and errors as in the two above."""
    return [attention_pattern(kind, text, height, width, kernel) for kind in layer_kinds(layers, depth)]
