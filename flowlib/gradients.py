"""Gradients of a field, which samplers and guides ask for wherever they are called from, in inference mode too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def differentiable() -> Iterator[None]:
    """Inside, operations are recorded, whatever the mode outside."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def recorded(x: Tensor) -> Tensor:
    """`x` itself, or a copy of a tensor of inference mode, which no recorded operation may use."""
    return x.clone() if x.is_inference() else x
