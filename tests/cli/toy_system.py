"""A system from elsewhere that brings two commands, for test_system_commands.py, which gives it by FLOWLIB_SYSTEMS."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from flowlib.checks import check_count
from flowlib.recipes import Recipe
from flowlib.systems.system import Command, register
from flowlib.training import Task, Training


@dataclass(frozen=True, kw_only=True)
class CountRequest:
    """What `flowlib count` is asked for."""

    path: Path = field(metadata={"help": "Where to write.", "argument": True})
    top: int = field(default=3, metadata={"help": "How many to count."})
    loud_words: bool = field(default=False, metadata={"help": "Whether to shout."})
    tone: str = field(default="", metadata={"help": "Of the shouting.", "with": "loud_words"})
    hush: list[str] = field(default_factory=list, metadata={"help": "A word.", "option": "--not", "without": "tone"})
    out: Path = field(default=Path("counted.txt"), metadata={"help": "A file."})

    def __post_init__(self) -> None:
        check_count("top", self.top)


def count(run, request: CountRequest):  # type: ignore[no-untyped-def]
    """Lines that say what came in."""
    kinds = type(request.path).__name__.removeprefix("Posix"), type(request.top).__name__, type(request.loud_words)
    yield f"{kinds[0]} {kinds[1]} {kinds[2].__name__} of {type(run.module).__name__} with {run.classes} labels"
    yield "LOUD" if request.loud_words else f"quiet {request.top} {request.path.name}"


@dataclass(frozen=True)
class NoRequest:
    """Nothing to say."""


COMMANDS = [
    Command("count", CountRequest, count, help="Count what is there."),
    Command("anything", NoRequest, lambda run, _: [run.recipe.name], help="Take any run.", anywhere=True),
]


@register("toy-counter", commands=COMMANDS)
@dataclass(frozen=True, kw_only=True)
class Counter:
    """A linear layer."""

    size: int = 2

    def build(self, spec, parts, generator):  # type: ignore[no-untyped-def]
        return nn.Linear(self.size, self.size)

    def stages(self, module, data, parts):  # type: ignore[no-untyped-def]
        from flowlib.systems.system import Stage

        return [Stage("only", Task(module, lambda turn: module(torch.ones(1, self.size)).square().mean(), None))]

    def report(self, module, data, parts, request):  # type: ignore[no-untyped-def]
        return [{"size": self.size}]


RECIPES = (Recipe(name="toy-counter", data="moons", system=Counter(), training=Training(steps=2)),)
