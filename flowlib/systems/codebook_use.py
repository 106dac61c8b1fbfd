"""How much of a codebook is used."""

from typing import NamedTuple

from torch import Tensor

from flowlib.checks import check_count
from flowlib.nets import perplexity
from flowlib.nets.discrete import check_tokens


class CodebookUse(NamedTuple):
    """The share of the codebook that occurs at all, and the perplexity exp(entropy) of its frequencies, in 1 ... K."""

    share: float
    perplexity: float


def codebook_use(index: Tensor, tokens: int) -> CodebookUse:
    """How much of a codebook of `tokens` entries the tokens `index`, integers of any shape, use.

    Raises:
        ValueError: for tokens that are no integers, none, or out of range.
    """
    check_tokens("index", index, check_count("tokens", tokens))
    return CodebookUse(len(index.unique()) / tokens, perplexity(index, tokens))
