"""Which networks of a trained module can run without Python, and what they are called with there.

A system may say so by `graphs(module, spec)`; a flow need not, whose network is one graph.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.data import Spec
from flowlib.fields import Model
from flowlib.nets.captioned import Captioned
from flowlib.nets.pixel_mixture import PixelMixture
from flowlib.nets.recalling import Recalling
from flowlib.nets.tokenizer import Tokenizer
from flowlib.training.order import stream

TEXTS = ("a red seven", "", "a large blue two", "a one")


@dataclass(frozen=True)
class Graph:
    """A network that is to be written as a file.

    Attributes:
        net: is called with the inputs, in their order.
        inputs: a batch's size -> inputs of that size by name, the same each time: the file is held to torch on them.
        free: the axes of each input that may have any size, by the names of the sizes.
        outputs: what the results are called.
        said: metadata.
        name: what is put behind that of the file, such as "image": sam.onnx is then sam-image.onnx.
    """

    net: nn.Module
    inputs: Callable[[int], dict[str, Tensor]]
    free: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]
    said: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class _Called(nn.Module):
    """The network as it is called by a field: with guides, or without any."""

    def __init__(self, net: nn.Module, guided: bool) -> None:
        super().__init__()
        self.net, self.guided = net, guided

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x, t, y if self.guided else None)


def flow_graphs(module: Any, spec: Spec) -> list[Graph]:
    """The network of a flow with labels, with captions, or without a guide: x, t and y -> "prediction".

    Raises:
        ValueError: for a module that is none of these.
    """
    net: Any = getattr(module, "net", None)
    reads = type(net) is Captioned
    if not isinstance(module, Model) or not (module.null is None or isinstance(module.null, int) or reads):
        raise ValueError("only the network of a flow without a guide, with labels or with captions can, and a SAM")
    if isinstance(net, Recalling):
        raise ValueError("its network looks up training data by their label, which a graph cannot")
    if isinstance(net, PixelMixture):
        raise ValueError("its network needs the error function times exp(x^2), for which graphs have no operation")
    guided, null = module.null is not None, module.null

    def inputs(batch: int) -> dict[str, Tensor]:
        """Noise, times over all of [0, 1], and every guide in turn, the null one too."""
        x, t = torch.randn(batch, *spec.shape, generator=stream(batch, "graph")), torch.linspace(0, 1, batch)
        if reads:
            return {"x": x, "t": t, "y": net.tokenizer([TEXTS[i % len(TEXTS)] for i in range(batch)], cut=True)}
        return {"x": x, "t": t} | ({"y": torch.arange(batch) % (null + 1)} if guided else {})  # type: ignore[operator]

    said = {
        "predicts": module.predicts,
        "schedule": repr(module.path.schedule),
        "null": json.dumps(null.tolist() if isinstance(null, Tensor) else null),
        "shape": json.dumps(list(spec.shape)),
    }
    if reads:
        said["tokenizer"] = json.dumps(described(net.tokenizer))
    free = {name: {0: "batch"} for name in inputs(1)}
    return [Graph(_Called(module.net, guided), inputs, free, ["prediction"], said)]


def described(tokenizer: Tokenizer) -> dict[str, Any]:
    """All that a tokenizer is, for another language: merges, length of a row, and the special tokens."""
    special = {name: getattr(tokenizer, name) for name in ("start", "end", "padding")}
    return {"merges": tokenizer.bpe.to_dict()["merges"], "length": tokenizer.length, **special}
