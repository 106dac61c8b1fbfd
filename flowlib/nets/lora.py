"""LoRA: a finished network learns something new by updates of low rank beside its frozen weights (Hu et al. 2021).

    W + w alpha / r B A,    A (r, columns) random, B (rows, r) zero

So the network starts as it was, and what is learned is r (rows + columns) numbers for a weight of rows x columns. A
kernel of a convolution is a matrix too, with a row for each output channel.

    add_lora(net, rank=4, alpha=4, targets=["attention.*"])      # only the adapter is trained from here on
    state = lora_state(net)                                      # the adapter alone
    load_lora(other, state, weight=0.5)                          # beside others, on the same kind of network
    merge(other)                                                 # a plain network again, of the same cost

An adapted layer keeps the name of its weight and gives the sum whenever that is read, whoever reads it: no file of a
network knows of LoRA, and a state dict has the adapters beside what it had.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.nets.low_rank import Adapted, LowRank, attach, matching, pairs_of, places

ATTENTION = ("attention.*",)  # queries, keys, values and outputs of every attention layer


def add_lora(
    module: nn.Module, rank: int = 4, alpha: float | None = None, targets: Sequence[str] = ATTENTION, *,
    name: str | None = None, generator: torch.Generator | None = None,
) -> list[str]:  # fmt: skip
    """Give a network an adapter that is trained, and freeze all the rest. Its output stays as it is, to the last bit.

    Args:
        module: any network.
        rank: r of the updates; where a weight's own is smaller, that is what the update has.
        alpha: updates are scaled by alpha / r; None for r, which scales by 1.
        targets: patterns of names (`matching`) of linear and convolution layers.
        name: of the adapter; None for "lora", and "lora2" ... where there are some.
        generator: of the first A.

    Returns:
        the names of the adapted projections.

    Raises:
        ValueError: for a value that does not fit, a pattern that fits no layer, an adapter that is there already, or
            merged ones. Nothing is changed then.

    Example:
        >>> from flowlib.nets import DiT
        >>> net = DiT(width=16, depth=1, heads=2)
        >>> add_lora(net, rank=2, targets=["qkv.v"])
        ['blocks.0.attention.qkv.v']
        >>> sum(p.numel() for p in net.parameters() if p.requires_grad)  # 2 (16 + 16)
        64
    """
    check_count("rank", rank)
    alpha = check_number("alpha", rank if alpha is None else alpha, 0, low_open=True)
    name = _free_name(module, name)
    known = places(module)
    chosen = matching(known, targets)
    module.requires_grad_(False)
    for one in chosen:
        layer, block, rows = known[one]
        attach(layer, LowRank(layer._parameters["weight"], rows, rank, alpha, name, block, generator))  # type: ignore[arg-type]
    return chosen


def _free_name(module: nn.Module, name: str | None) -> str:
    """The name of another adapter; a ValueError if it is taken, or those that are there are merged."""
    if _merged(module):
        raise ValueError("module has merged adapters: unmerge them first")
    taken = adapters(module)
    if name in taken:
        raise ValueError(f"name must be new, and there is an adapter {name!r} already")
    free = ("lora" if i == 1 else f"lora{i}" for i in range(1, len(taken) + 2))
    return next(one for one in free if one not in taken) if name is None else name


def adapters(module: nn.Module) -> list[str]:
    """The names of a network's adapters that are not merged, in the order in which they were added."""
    updates = (update for layer in _adapted(module) for update in layer.lora)  # type: ignore[union-attr]
    return list(dict.fromkeys(update.name for update in updates))


def _adapted(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, Adapted)]


def _merged(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if "unmerged" in layer.__dict__]


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Put the updates of all adapters into the weights: the network is as plain as it was before, and as fast.

    What it was is kept beside, outside the state dict, for `unmerge`.

    Raises:
        ValueError: for a network without adapters, or whose adapters are merged.
    """
    if _merged(module):
        raise ValueError("module must be merged once, and its adapters are merged already")
    if not (layers := _adapted(module)):
        raise ValueError("module has no adapters to merge")
    for layer in layers:
        total, weight, updates = layer.weight, layer._parameters["weight"], layer.lora
        assert isinstance(weight, Tensor)
        layer.__dict__["unmerged"] = weight.detach().clone(), updates  # a tuple, which no state dict looks into
        del layer.lora
        layer.__class__ = type(layer).__bases__[1]
        weight.copy_(total)  # type: ignore[arg-type]


@torch.no_grad()
def unmerge(module: nn.Module) -> None:
    """Take the updates out of the weights, which are what they were before `merge`, to the last bit.

    Raises:
        ValueError: for a network whose adapters are not merged.
    """
    if not (layers := _merged(module)):
        raise ValueError("module has no merged adapters")
    for layer in layers:
        weight, updates = layer.__dict__.pop("unmerged")
        own = layer._parameters["weight"]
        assert isinstance(own, Tensor)
        own.copy_(weight)
        for update in updates:
            attach(layer, update.to(own))


def lora_state(module: nn.Module, name: str | None = None) -> dict[str, Tensor]:
    """An adapter alone: "LAYER.A" (r, columns) and "LAYER.B" (rows, r) of each projection, and "alpha".

    Args:
        module: the network.
        name: of the adapter; None for the only one.

    Raises:
        ValueError: if there is none of that name, or it is merged; without a name, if there are several.
    """
    if name is None and len(known := adapters(module)) == 1:
        name = known[0]
    state: dict[str, Tensor] = {}
    for layer_name, layer in module.named_modules():
        for update in layer.lora if isinstance(layer, Adapted) else ():
            if update.name == name:
                place = f"{layer_name}.{update.block}" if update.block else layer_name
                state |= {f"{place}.A": update.A.detach().clone(), f"{place}.B": update.B.detach().clone()}
                state["alpha"] = torch.tensor(update.alpha, dtype=torch.float64)
    if not state:
        raise ValueError(f"name must be one of the adapters {', '.join(adapters(module)) or '(none)'}, got {name!r}")
    return state


def load_lora(module: nn.Module, state: Mapping[str, Tensor], weight: float = 1.0, *, name: str | None = None) -> None:
    """Give a network a finished adapter beside those it has: updates add up, each times its weight.

    Everything is frozen: one that is to be trained beside it comes from `add_lora`, afterwards.

    Args:
        module: a network like the one that the adapter was made for.
        state: from `lora_state`.
        weight: w of the updates; 0 for none, below 0 for the opposite.
        name: of the adapter here, as in `add_lora`.

    Raises:
        ValueError: for a state of another network or of several ranks, and as in `add_lora`. Nothing is changed then.
    """
    check_number("weight", weight)
    name = _free_name(module, name)
    known, pairs = places(module), pairs_of(state)
    for one, (first, second) in pairs.items():
        if one not in known:
            raise ValueError(f"the LoRA is of another network: this one has no layer {one}")
        layer, _, rows = known[one]
        expected = (rows.stop - rows.start, layer._parameters["weight"][0].numel())  # type: ignore[index]
        if (found := (len(second), first.shape[1])) != expected:
            raise ValueError(f"the LoRA is of another network: its {one} is {found}, this one's {expected}")
    module.requires_grad_(False)
    for one, (first, second) in pairs.items():
        layer, block, rows = known[one]
        given = len(first), float(state["alpha"]), name, block
        update = LowRank(layer._parameters["weight"], rows, *given, torch.Generator())  # type: ignore[arg-type]
        update.strength = weight
        update.requires_grad_(False)
        update.A.copy_(first)
        update.B.copy_(second)
        attach(layer, update)
