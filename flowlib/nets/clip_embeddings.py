"""Embeddings of CLIP as a network is given them: of unit length, or zeros for none."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.known import is_so


def check_embeddings(name: str, embedding: Tensor, known: Tensor) -> None:
    """A ValueError unless embeddings (B, dim) are of unit length, or zeros; of a `known` tensor this is asked once."""

    def fit() -> bool:
        size = embedding.float().norm(dim=1)
        return bool((((size - 1).abs() < 0.01) | (size == 0)).all())

    if not is_so(known, None, "embeddings", fit):
        raise ValueError(f"{name} must hold embeddings of unit length, or zeros for none")


class EmbeddingOrNone(nn.Module):
    """Embeddings (B, dim) of unit length -> (B, width); in the place of zeros, which stand for none, a learned one.

    They are multiplied by the root of their size first, so that a component is about as large as 1.
    """

    edges: ClassVar[tuple[str, ...]] = ("layer",)  # what Muon leaves to AdamW

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, width)
        self.none = nn.Parameter(torch.zeros(width))

    def forward(self, embedding: Tensor) -> Tensor:
        there = (embedding != 0).any(1, keepdim=True)
        return torch.where(there, self.layer(embedding * embedding.shape[1] ** 0.5), self.none)
