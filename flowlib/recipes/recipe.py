"""Recipes: everything that decides what a training run computes, in one frozen value.

A recipe and a machine fix the weights to the last bit. What decides nothing about the result (where the run is kept,
how often it is saved) is not part of it. Recipes are plain data, and travel as JSON beside the weights they made.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from flowlib.chains import named_chain
from flowlib.checks import check_choice, check_count, check_number
from flowlib.fields import Model
from flowlib.nets import MLP, DiT, UNet
from flowlib.paths import PREDICTIONS, GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.training import Training
from flowlib.training.settings import FirstStage, check_flag


class Network(NamedTuple):
    """A network by name: its class, and which of its arguments follow from the shape of a sample."""

    kind: Callable[..., nn.Module]
    fit: Callable[[tuple[int, ...]], dict[str, int]]
    ndim: int  # dimensions of a sample


NETS = {
    "unet": Network(UNet, lambda shape: {"in_channels": shape[0]}, 3),
    "dit": Network(DiT, lambda shape: {"in_channels": shape[0], "image_size": shape[1]}, 3),
    "mlp": Network(MLP, lambda shape: {"dim_in": shape[0]}, 1),
}


@dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """What a flow is trained on, with which network, on which path, by which loss.

    Attributes:
        name: what the recipe is called.
        data: the name of a data set, as `flowlib.data.load` takes it.
        net: "unet" | "dit" | "mlp", with its arguments in `net_args`, except for sizes that follow from the data.
        guided: whether the network is given the labels.
        schedule: a name in `flowlib.schedules.SCHEDULES`, the path's.
        chain: T of a discrete chain at whose steps times are drawn, DDPM's linear one for "vp", improved DDPM's for
            "cosine"; 0 for continuous time.
        predicts: what the network predicts; `measure`: the kind in which its error is measured, None for the same.
        time: "uniform" or "logit-normal", the latter with `time_mean` and `time_std`.
        dropout: the probability that a sample's guide is dropped, in [0, 1].
        coupling: how noise and data are paired, "independent" or "optimal-transport" (for a network without guide:
            pairing across labels makes the noise depend on the label).
        stable_until: the time before which the loss regresses on stable targets (`flowlib.stable`), among `references`
            data of the same label; 0 for never.
        dequantise: whether pixels are trained on with uniform noise within the bins of their values, as a likelihood
            in bits/dim wants it.
        loss: "simple", the error of the prediction; or improved DDPM's "hybrid" or "vlb" on a chain, whose network of
            twice the channels learns the variance too.
        importance: whether these two draw their steps by the second moment of their losses.
        first_stage: for a latent model, the autoencoder that is trained before.
    """

    name: str
    data: str
    net: str = "unet"
    net_args: Mapping[str, Any] = field(default_factory=dict)
    guided: bool = True
    schedule: str = "linear"
    chain: int = 0
    predicts: str = "velocity"
    measure: str | None = None
    time: str = "logit-normal"
    time_mean: float = 0.0
    time_std: float = 1.0
    dropout: float = 0.1
    coupling: str = "independent"
    stable_until: float = 0.0
    references: int = 1000
    dequantise: bool = False
    loss: str = "simple"
    importance: bool = False
    first_stage: FirstStage | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("name", "data"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a name, got {getattr(self, name)!r}")
        check_choice("net", self.net, NETS)
        object.__setattr__(self, "net_args", _check_arguments(self.net, self.net_args))
        check_flag("guided", self.guided)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("predicts", self.predicts, PREDICTIONS)
        if self.measure is not None:
            check_choice("measure", self.measure, PREDICTIONS)
        check_choice("time", self.time, ["uniform", "logit-normal"])
        if check_count("chain", self.chain, 0):
            named_chain(self.schedule, self.chain)  # which may not exist for so few steps
            if self.time != "uniform":
                raise ValueError(f"time must be 'uniform' on a chain, got {self.time!r}")
        check_number("time_mean", self.time_mean)
        check_number("time_std", self.time_std, 0, low_open=True)
        check_number("dropout", self.dropout, 0, 1)
        check_choice("coupling", self.coupling, ["independent", "optimal-transport"])
        if self.coupling == "optimal-transport" and self.guided:
            raise ValueError("coupling must be 'independent' for a guided network; guided=false allows another")
        check_count("references", self.references)
        if check_number("stable_until", self.stable_until, 0, 1, high_open=True):
            for name, value in {"coupling": "independent", "dequantise": False, "loss": "simple"}.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value!r} with stable targets, got {getattr(self, name)!r}")
        if check_flag("dequantise", self.dequantise) and self.first_stage is not None:
            raise ValueError("dequantise must be false with a first stage, whose latents have no bins")
        if check_choice("loss", self.loss, ["simple", "hybrid", "vlb"]) != "simple":
            needs = {"predicts": "noise", "measure": None, "coupling": "independent", "dequantise": False}
            for name, value in {**needs, "first_stage": None}.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"{name} must be {value!r} for the loss {self.loss!r}, got {getattr(self, name)!r}"
                    )
            if not self.chain:
                raise ValueError(f"chain must be T, such as 1000, for the loss {self.loss!r}; got 0")
        if check_flag("importance", self.importance) and self.loss == "simple":
            raise ValueError("importance must be false for the loss 'simple', whose terms are alike")
        if self.first_stage is not None and not isinstance(self.first_stage, FirstStage):
            raise ValueError(f"first_stage must be a FirstStage or None, got {self.first_stage!r}")

    def model(self, shape: tuple[int, ...], classes: int) -> Model:
        """The untrained model for samples of `shape` with `classes` labels; its weights draw from the global generator.

        Raises:
            ValueError: if the network does not take such samples.
        """
        network = NETS[self.net]
        if len(shape) != network.ndim:
            raise ValueError(f"net {self.net!r} does not take samples of shape {shape}, which {self.data!r} has")
        net = network.kind(**network.fit(shape), **self.net_args, classes=classes if self.guided else None)
        schedule = named_chain(self.schedule, self.chain) if self.chain else SCHEDULES[self.schedule]()
        return Model(net, GaussianPath(schedule), self.predicts)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data for JSON; `from_dict` is the way back."""
    return dataclasses.asdict(recipe)


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_dict` wrote; a ValueError names what is unknown, missing or of the wrong type."""
    values = dict(values)
    if isinstance(values.get("first_stage"), Mapping):
        values["first_stage"] = _make(FirstStage, values["first_stage"], "first_stage.")
    return _make(Recipe, values, "")


def _make(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    names = [part.name for part in dataclasses.fields(kind)]
    for key in values:
        check_choice("a recipe's setting", prefix + key, [prefix + name for name in names])
    try:
        return kind(**values)
    except TypeError as error:  # a setting without a default is missing
        raise ValueError(f"the recipe is incomplete: {error}") from None


def _check_arguments(net: str, given: object) -> dict[str, Any]:
    """The arguments of a network, with lists as tuples, checked for name and type before anything is built."""
    if not isinstance(given, Mapping):
        raise ValueError(f"net_args must map names to values, got {given!r}")
    network = NETS[net]
    derived = {"classes", "words", "length", *network.fit((1,) * network.ndim)}  # data sets have labels, no texts
    allowed = {name: part.default for name, part in inspect.signature(network.kind).parameters.items()}
    known = [name for name in allowed if name not in derived]
    result = {}
    for name, value in given.items():
        check_choice(f"an argument of {net!r}", name, known)
        if isinstance(allowed[name], bool):
            check_flag(name, value)
            result[name] = value
            continue
        several = isinstance(allowed[name], tuple)
        if several and not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list of integers, got {value!r}")
        numbers = [check_count(name, number, 0) for number in (value if several else [value])]
        result[name] = tuple(numbers) if several else numbers[0]
    return result
