"""What has come in while a request is served: a result may depend on it, and be differentiated by it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Frames:
    """The requests that a side serves, one within the other. `arrived` holds the tensors of the message read last."""

    def __init__(self) -> None:
        self.arrived: list[torch.Tensor] = []
        self._frames: list[list[torch.Tensor]] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        """While a request is served, what came with it and what comes in is noted: a result may depend on it."""
        self._frames.append(self.arrived)
        self.arrived = []
        try:
            yield
        finally:
            self._frames.pop()

    @property
    def serving(self) -> bool:
        """Whether a request is served."""
        return bool(self._frames)

    def note(self, *tensors: torch.Tensor) -> None:
        """A result of what is served now may be differentiated by these."""
        if self._frames:
            self._frames[-1] += tensors

    def received(self) -> list[torch.Tensor]:
        """All that has come in, in the requests that are served."""
        return list({id(tensor): tensor for frame in self._frames for tensor in frame if tensor.requires_grad}.values())
