"""What the scripts share: their options, timing, results that are kept on disk, and tables."""

import argparse
import json
import math
import re
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from flowlib.cli.machine import set_threads
from flowlib.files import write_whole
from flowlib.plotting import format_table

Runs = Mapping[str, Callable[[], object]]
Scores = dict[str, float]
Found = TypeVar("Found")
OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"choices": ["digits", "mnist"], "help": "what is learned"},
    "seeds": {"nargs": "+", "type": int, "help": "a training for each"},
    "steps": {"type": int, "help": "training steps; of networks of another size, what the same operations pay for"},
    "small": {"action": "store_true", "help": "a network of 0.3 of the operations"},
    "samples": {"type": int, "help": "images to measure, on MNIST at least 129"},
    "sampling_steps": {"type": int, "help": "of the sampler"},
    "repetitions": {"type": int, "help": "rounds of each comparison"},
    "batch_size": {"type": int, "help": "samples at a time"},
    "threads": {"type": int, "help": "threads of torch (default: its own choice)"},
    "seed": {"type": int, "help": "source of all randomness"},
    "out": {"type": Path, "help": "folder of the runs and results"},
    "write": {"type": Path, "help": "also write the tables to this file, as Markdown"},
}


class Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it was written, and behind each option its default, where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        bare = action.default is None or action.default is False
        return action.help if bare else super()._get_help_string(action)


def parser_of(description: str | None, **defaults: object) -> argparse.ArgumentParser:
    """A parser with those of `OPTIONS` that have a default here; None and False are no default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=Help)
    add_options(parser, **defaults)
    return parser


def add_options(parser: argparse.ArgumentParser, **defaults: object) -> None:
    """Those of `OPTIONS` that have a default here."""
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **OPTIONS[name])


def prepare(arguments: argparse.Namespace) -> None:
    """As many threads as were asked for, and the global seed, from which layers draw their weights."""
    set_threads(arguments.threads or torch.get_num_threads())  # which a trainer then keeps to
    torch.manual_seed(arguments.seed)


def seeded(seed: int) -> torch.Generator:
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


def interleave(runs: Runs, repetitions: int, warmup: int = 1) -> dict[str, list[float]]:
    """The seconds of each of `repetitions` calls of each run, after `warmup` calls that are not timed.

    The runs take turns, and each round starts with another one, so that a slow minute slows all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(-warmup, repetitions):
        for name in turns(list(runs), repetition):
            start = time.perf_counter()
            runs[name]()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def clock() -> float:
    """Seconds that the processor has worked for this process, over its threads: whatever else the machine does."""
    return time.process_time() / torch.get_num_threads()


def turns(names: Sequence[str], repetition: int) -> list[str]:
    """The names in turn, starting with another one in each repetition."""
    first = repetition % len(names)
    return [*names[first:], *names[:first]]


def ratio(values: Mapping[str, list[float]], name: str, base: str) -> float:
    """The median over rounds of how many times as large a value of `name` was as one of `base`."""
    return statistics.median(a / b for a, b in zip(values[name], values[base], strict=True))


def kept(
    path: Path, settings: Mapping[str, object], compute: Callable[..., Found], *given: object, **named: object
) -> Found:
    """What `compute(*given, **named)` finds, plain data; from `path` if it was found with the same settings before."""
    wanted = json.loads(json.dumps(settings))
    if path.exists():
        content = json.loads(path.read_text("utf-8"))
        if content["settings"] == wanted:
            return content["found"]
    found = compute(*given, **named)
    write_whole(path, json.dumps({"settings": wanted, "found": found}, indent=1).encode())
    return found


def slug(text: str) -> str:
    """A text as a name of files: small letters, digits and dots, with hyphens between."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and standard deviation over seeds; the mean alone of one seed, or where it is infinite."""
    mean = f"{statistics.mean(values):{form}}"
    alone = len(values) == 1 or not all(map(math.isfinite, values))  # of which `stdev` knows nothing
    return mean if alone else f"{mean} ± {statistics.stdev(values):{form}}"


def publish(rows: Sequence[Mapping[str, object]], script: str, arguments: Sequence[str], path: Path | None) -> None:
    """Print a table, and write it to `path` as `write_tables` does."""
    print(format_table(rows), flush=True)
    if path is not None:
        write_tables([format_table(rows)], script, arguments, path)


def write_tables(tables: Sequence[str], script: str, arguments: Sequence[str], path: Path) -> None:
    """Write tables as Markdown with the command that made them, less where its files were to lie.

    A run that is named by an absolute path lies so on one machine alone: it is left out too.
    """
    named = [
        i
        for i, word in enumerate(arguments)
        if word in ("--out", "--write", "--figure") or (word == "--run" and Path(arguments[i + 1]).is_absolute())
    ]
    told = [word for i, word in enumerate(arguments) if i not in named and i - 1 not in named]
    lines = [f"Made by `python benchmarks/{script} {shlex.join(told)}`.", *(f"```\n{text}\n```" for text in tables)]
    write_whole(path, ("\n\n".join(lines) + "\n").encode())
    print(f"\nwritten to {path}")
