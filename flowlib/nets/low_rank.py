"""What LoRA is made of: an update of low rank, a layer whose weight is a sum, and the names of what can be adapted."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

JOINED = {"qkv": "qkv", "kv": "kv"}  # layers that hold several projections, one below the other, by their own names
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """One adapter's update of some rows of a weight: W (rows, ...) -> W + w alpha / r B A.

    Args:
        like: the weight, whose dtype and device the update has.
        rows: which of its rows.
        rank: r.
        alpha: so that another rank needs no other learning rate.
        name: of the adapter; block: of the projection, "" for all rows.
        generator: of A, normal with variance 1 / columns; None for torch's own.
    """

    def __init__(
        self, like: Tensor, rows: slice, rank: int, alpha: float, name: str, block: str = "",
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.rows, self.rank, self.alpha, self.name, self.block, self.strength = rows, rank, alpha, name, block, 1.0
        columns = like[0].numel()
        first = torch.randn(rank, columns, generator=generator) * columns**-0.5
        self.A = nn.Parameter(first.to(like))
        self.B = nn.Parameter(like.new_zeros(rows.stop - rows.start, rank))

    def forward(self, weight: Tensor) -> Tensor:
        # In full precision whatever the rest computes in, so that merged weights are the very same.
        with torch.autocast(weight.device.type, enabled=False):
            update = self.strength * self.alpha / self.rank * (self.B @ self.A)
        update = F.pad(update, (0, 0, self.rows.start, len(weight) - self.rows.stop))
        return weight + update.view_as(weight)


class Adapted:
    """What a layer with adapters is besides its own kind: its `weight`, read by anyone, is the sum."""

    lora: Iterable[LowRank]
    _parameters: dict[str, Tensor]

    @property
    def weight(self) -> Tensor:
        """The frozen weight, which goes on under this name in the state dict, and all updates."""
        weight = self._parameters["weight"]
        for update in self.lora:
            weight = update(weight)
        return weight


@cache
def _adapted_kind(kind: type) -> type:
    return type(f"LoRA{kind.__name__}", (Adapted, kind), {})


class Place(NamedTuple):
    """A projection that can be adapted: its layer, and which rows of the weight it is."""

    layer: nn.Module
    block: str
    rows: slice


def places(module: nn.Module) -> dict[str, Place]:
    """All projections by name: those of `LAYERS`, and those that one layer holds for several, as "qkv.q", "qkv.v"."""
    found: dict[str, Place] = {}
    for name, layer in module.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        rows, blocks = len(layer._parameters["weight"]), JOINED.get(name.rpartition(".")[2], "")  # type: ignore[arg-type]
        if not blocks:
            found[name] = Place(layer, "", slice(0, rows))
            continue
        size = rows // len(blocks)
        for i, block in enumerate(blocks):
            found[f"{name}.{block}"] = Place(layer, block, slice(i * size, (i + 1) * size))
    return found


def matching(names: Iterable[str], targets: Sequence[str]) -> list[str]:
    """The names that a pattern fits, as a whole or from a dot on: "attention.*" or "qkv.v" fits "blocks.0.qkv.v".

    A pattern that fits a layer fits all projections that it holds: "qkv" is "qkv.q", "qkv.k" and "qkv.v".

    Raises:
        ValueError: for a pattern that fits none, naming it.
    """
    names = list(names)
    if isinstance(targets, str) or not targets:
        raise ValueError(f"targets must be a list of patterns, such as 'attention.*', got {targets!r}")
    chosen: set[str] = set()
    for pattern in targets:
        fits = {name for name in names if any(_fits(whole, pattern) for whole in (name, _layer_of(name)))}
        if not fits:
            raise ValueError(f"targets must name linear or convolution layers: {pattern!r} is none of this network")
        chosen |= fits
    return [name for name in names if name in chosen]


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _layer_of(name: str) -> str:
    layer, _, block = name.rpartition(".")
    return layer if block in JOINED.get(layer.rpartition(".")[2], "") else name


def attach(layer: nn.Module, update: LowRank) -> None:
    """Add an update to a layer's."""
    if not isinstance(layer, Adapted):
        layer.lora = nn.ModuleList()
        layer.__class__ = _adapted_kind(type(layer))  # type: ignore[arg-type]
    layer.lora.append(update)


def pairs_of(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by projection; a ValueError unless all are there and of one rank."""
    names = list(dict.fromkeys(key[:-2] for key in state if key != "alpha"))
    if "alpha" not in state or not names or set(state) != {"alpha", *(f"{one}.{m}" for one in names for m in "AB")}:
        raise ValueError("state must hold alpha, and A and B of each layer, as lora_state gives them")
    found = {one: (state[f"{one}.A"], state[f"{one}.B"]) for one in names}
    if any(first.ndim != 2 or second.ndim != 2 for first, second in found.values()):
        raise ValueError("state must hold matrices, as lora_state gives them")
    ranks = {side for first, second in found.values() for side in (first.shape[0], second.shape[1])}
    if len(ranks) > 1:
        raise ValueError(f"the LoRA must be of one rank, and its matrices say {sorted(ranks)}")
    return found
