"""What a system is, and the registry that finds one by name.

A published system is one module of this folder: a frozen dataclass of its settings, registered under a name, with the
methods of `System`. Trainer, runs and command line know it by that name alone, so that a new one changes no standing
file. Systems from elsewhere are found too: those of files that FLOWLIB_SYSTEMS names, and of installed packages with an
entry point "flowlib.systems".
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.data import Data, Dataset, Spec
from flowlib.training import Task, Training

Row = dict[str, float | str]  # of a table
Parts = Mapping[str, nn.Module]  # finished models that a system stands on, frozen, by name
SYSTEMS: dict[str, type["System"]] = {}
Kind = TypeVar("Kind", bound=type)


class Splits(NamedTuple):
    """Data to train on, and data that no training sees."""

    train: Dataset
    test: Dataset


@dataclass(frozen=True)
class Stage:
    """One training of a system. Stages follow each other; the last one trains what a run keeps.

    Attributes:
        name: of its folder, where there are several.
        task: what is trained; or a function of the stage's settings that makes it when its turn has come, for a task
            that stands on what the stage before has learned, or draws random numbers of its own.
        training: how; None for the recipe's own settings.
        finish: is given the averaged module once it is trained.
    """

    name: str
    task: Task | Callable[[Training], Task]
    training: Training | None = None
    finish: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What samples are asked for; a system may have a request of its own, with more to say.

    Attributes:
        spec: of the data that the system learned.
        y: guides, one a sample, on the module's device; None for none.
        count: samples, as many as there are guides.
        seed: one seed and request is one set of samples.
        batch_size: samples at a time, to bound memory.
        precision: "auto" | "bf16" | "fp32"; None for that of the training, which is `usual`.
    """

    spec: Spec
    y: Tensor | None = None
    count: int = 1
    seed: int = 0
    batch_size: int = 500
    precision: str | None = None
    usual: str = "auto"

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_count("seed", self.seed, 0)
        check_count("batch_size", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What is to be measured: how many samples, and as in `SampleRequest` how they are drawn."""

    spec: Spec
    samples: int = 10_000
    seed: int = 0
    batch_size: int = 500
    usual: str = "auto"

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_count("seed", self.seed, 0)
        check_count("batch_size", self.batch_size)


class System(Protocol):
    """The settings of a published system, checked on construction, and what can be done with them.

    `parts` are what it stands on: names, and where each is: a run's folder or "zoo:NAME". They are given to the methods
    as frozen modules. `build`, `stages` and `report` are asked of every system. A system may also have

        sample(module, parts, request) -> Tensor        of which `Sampling` is the request's class, or `SampleRequest`
        guides(spec, labels, count, data) -> Tensor     what `flowlib sample` asks for, where that is no label; `data`
                                                        is a function that loads the test data
        illustrate(module, data, parts, title) -> Figure   a picture of how far it is, in place of samples
        Sampling, Reporting                             classes of its own for the two requests
        graphs(module, spec) -> Sequence[Graph]         what `flowlib export` writes (`flowlib.systems.graphs`)
        noise(module, spec, count, seed) -> Tensor      where sampling starts
        takes_net                                       true: `train(recipe, net=...)` gives it the part "net"
        leaves                                          names of files that a command of its puts into a run's folder,
                                                        which are replaced when the run is
        needs                                           {setting: (another one, value)}: it says nothing unless that has
                                                        this value; True is for any that is not 0, empty or false
        stands_on                                       the names of the parts that it may have; a recipe refuses others
    """

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        """The untrained networks, for data of `spec`. Layers draw their weights from the global generator, which is
        seeded from `generator` while this runs.

        Raises:
            ValueError: if the networks do not take such data.
        """
        ...

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        """The trainings of `module`, what `build` made, on the training data, which are on the module's device."""
        ...

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        """A table of how good the trained module is: what `flowlib evaluate` prints."""
        ...


@dataclass(frozen=True)
class Command:
    """A command that a system brings: `flowlib NAME RUN --options`.

    Attributes:
        name: of the command.
        request: a frozen dataclass of its options: a field is an option, its default that of the option, and its
            metadata {"help": ...} the help, and {"option": "--not"} what it is called where that is not its name;
            {"with": "edit"} or {"without": "edit"} that it says nothing unless, or if, that other one is given, and is
            then refused. A field "out" with a suffix is a file, whose place is looked at first. The request may check
            itself and raise a ValueError. Or a function that makes it, once all systems are known.
        run: (run, request) -> lines to print, None for none. `run` is the loaded run, with `module`, `spec`, `parts`.
        help: one sentence.
        anywhere: whether it takes runs of other systems too, and not only of those that bring it.
        model: the run that it takes where none is named, such as "zoo:scenes-text": the run is then no argument, but
            the option --model.
    """

    name: str
    request: type | Callable[[], type]
    run: Callable[[Any, Any], Sequence[str] | None]
    help: str = ""
    anywhere: bool = False
    model: str | None = None


def register(name: str, commands: Sequence[Command] = ()) -> Callable[[Kind], Kind]:
    """Make a class of settings known as the system `name`, with the commands that it brings.

    Raises:
        ValueError: for a class that is no dataclass, if the name is taken, for a setting that is called like one of
            `Training` or like a part of a recipe, or if `needs` names what is no setting.
    """

    def add(kind: Kind) -> Kind:
        known = SYSTEMS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"there is a system {name!r} already: {known.__module__}.{known.__qualname__}")
        if not hasattr(kind, "__dataclass_fields__"):
            raise ValueError(f"the system {name!r} must be a dataclass: write @register above @dataclass")
        own = {part.name for part in dataclasses.fields(kind)}
        if taken := sorted(own & {"name", "data", "system", "training", "commands"}):
            raise ValueError(f"settings of the system {name!r} are called like what every recipe has: {taken}")
        if shared := sorted(own & {part.name for part in dataclasses.fields(Training)}):
            raise ValueError(f"settings of the system {name!r} are called like those of a training: {shared}")
        needs = getattr(kind, "needs", {})
        if strange := sorted({*needs, *(other for other, _ in needs.values())} - own):
            raise ValueError(f"what the system {name!r} needs are no settings of its: {strange}")
        kind.name, kind.commands = name, tuple(commands)  # type: ignore[attr-defined]
        SYSTEMS[name] = kind
        return kind

    return add


def name_of(system: System) -> str:
    """The name that a system's class was registered under.

    Raises:
        ValueError: for something that is no settings of a registered system.
    """
    kind = type(system)
    if SYSTEMS.get(getattr(kind, "name", "")) is not kind:
        raise ValueError(f"system must be the settings of a registered system, got {system!r}")
    return kind.name  # type: ignore[attr-defined]


def parts_of(system: System) -> Mapping[str, str]:
    """The parts that a system stands on."""
    return getattr(system, "parts", {})


def check_parts(system: System) -> None:
    """A ValueError for a part that is none of those that the system's class says it `stands_on`, if it says so."""
    known: Sequence[str] | None = getattr(system, "stands_on", None)
    if known is not None and (unknown := sorted(set(parts_of(system)) - set(known))):
        kind = name_of(system)
        stands = f"may stand on {', '.join(known)}" if known else "stands on no others"
        raise ValueError(f"parts: the system {kind!r} {stands}, got {', '.join(unknown)}")


def no_parts() -> Any:
    """The field `parts` of a system that may stand on others."""
    return field(default_factory=dict)
