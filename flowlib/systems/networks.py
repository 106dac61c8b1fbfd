"""Networks by name: the settings that every system with a network net(x, t, y) shares."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

from torch import nn

from flowlib.checks import check_choice, check_count, check_flag, check_number
from flowlib.data import Spec
from flowlib.nets import MLP, DiT, PixelMixture, UNet
from flowlib.systems.guides import GUIDES

OWN = "own"  # the name of a network that was given as a module


class Network(NamedTuple):
    """A network by name: its class, and which of its arguments follow from the shape of a sample and its pixels."""

    kind: Callable[..., nn.Module]
    fit: Callable[[tuple[int, ...], int], dict[str, int]]
    ndim: int  # dimensions of a sample
    pixels: bool = False  # whether samples must be pixels, whose values are few


NETS = {
    "unet": Network(UNet, lambda shape, _: {"in_channels": shape[0]}, 3),
    "dit": Network(DiT, lambda shape, _: {"in_channels": shape[0], "image_size": shape[1]}, 3),
    "mixture": Network(PixelMixture, lambda shape, levels: {"in_channels": shape[0], "levels": levels}, 3, True),
    "mlp": Network(MLP, lambda shape, _: {"dim_in": shape[0]}, 1),
}


@dataclass(frozen=True, kw_only=True)
class Networked:
    """Which network, whether it is given a guide, and how often that is dropped.

    Attributes:
        net: "unet" | "dit" | "mixture" (of pixels, for a velocity on the linear path) | "mlp", with its arguments in
            `net_args`, except for sizes that follow from the data; or "own", a module that is given as the part
            "net" (`train(recipe, net=...)`).
        net_args: the network's arguments.
        guided: whether the network is given a guide.
        guide: what that is: "label", "words", "inpainting" or "superresolution" (`flowlib.systems.guides`).
        dropout: the probability that a sample's guide is dropped, in [0, 1].
        parts: finished models that the system stands on, by name.
    """

    takes_net: ClassVar[bool] = True
    stands_on: ClassVar[tuple[str, ...]] = ()
    readable: ClassVar[tuple[str, ...]] = tuple(GUIDES)  # the guides that a system can be given
    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"guide": ("guided", True), "dropout": ("guided", True)}

    net: str = "unet"
    net_args: Mapping[str, Any] = field(default_factory=dict)
    guided: bool = True
    guide: str = "label"
    dropout: float = 0.1
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("net", self.net, [*NETS, OWN])
        object.__setattr__(self, "net_args", check_arguments(self.net, self.net_args))
        check_flag("guided", self.guided)
        check_choice("guide", self.guide, self.readable)
        check_number("dropout", self.dropout, 0, 1)

    def network(self, shape: tuple[int, ...], spec: Spec, own: nn.Module | None = None) -> nn.Module:
        """The untrained network for samples of `shape`, of data of `spec`; its weights draw from the global generator.

        Args:
            shape: of a sample.
            spec: of the data, which decides on the guide.
            own: the module to take, where `net` is "own".

        Raises:
            ValueError: if the network does not take such samples or has no such guide.
        """
        if self.net == OWN:
            if own is None:
                raise ValueError(
                    "net is 'own': give the module, as in train(recipe, net=...), load_run(folder, net=...)"
                )
            return own
        if NETS[self.net].pixels and (spec.levels is None or shape != spec.shape):
            raise ValueError(f"net {self.net!r} needs pixels, which these data or samples are not")
        make = partial(self._make, levels=spec.levels)
        return GUIDES[self.guide].network(make, shape, spec) if self.guided else make(shape, classes=None)

    def _make(self, shape: tuple[int, ...], levels: int | None = None, **guide: int | None) -> nn.Module:
        network = NETS[self.net]
        if len(shape) != network.ndim:
            raise ValueError(f"net {self.net!r} does not take samples of shape {tuple(shape)}, which the data have")
        known = inspect.signature(network.kind).parameters
        for name in guide:
            if name not in known:
                raise ValueError(f"guide {self.guide!r} is nothing for the net {self.net!r}: it takes no {name}")
        return network.kind(**network.fit(shape, levels or 0), **self.net_args, **guide)


def check_arguments(net: str, given: object) -> dict[str, Any]:
    """The arguments of a network, with lists as tuples, checked for name and type before anything is built."""
    if not isinstance(given, Mapping):
        raise ValueError(f"net_args must map names to values, got {given!r}")
    if net == OWN:
        if given:
            raise ValueError(f"net_args must be empty for a network of your own, got {dict(given)}")
        return {}
    network = NETS[net]
    derived = {
        "classes",
        "words",
        "length",
        "context_dim",
        "beside",
        *network.fit((1,) * network.ndim, 2),
    }  # these follow from the data
    allowed = {name: part.default for name, part in inspect.signature(network.kind).parameters.items()}
    known = [name for name in allowed if name not in derived]
    result: dict[str, Any] = {}
    for name, value in given.items():
        check_choice(f"an argument of {net!r}", name, known)
        if isinstance(allowed[name], bool):
            result[name] = check_flag(name, value)
            continue
        several = isinstance(allowed[name], tuple)
        if several and not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list of integers, got {value!r}")
        numbers = [check_count(name, number, 0) for number in (value if several else [value])]
        result[name] = tuple(numbers) if several else numbers[0]
    return result
