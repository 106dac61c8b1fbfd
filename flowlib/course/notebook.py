"""What notebooks import: the library's source on the page, trainings that are kept, hints, whose an answer is.

from flowlib.course.notebook import exercise, fast, seeded, show_source, trained, unaided

Importing it also gives figures the course's style.
"""

import hashlib
import inspect
import json
import os
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import torch

import flowlib
from flowlib.checks import check_choice
from flowlib.course.extension import follow
from flowlib.course.unaided import unaided as unaided
from flowlib.data import Dataset
from flowlib.plotting.style import STYLE
from flowlib.recipes import Recipe, change, find_recipe, to_dict
from flowlib.runs import Run, RunError, load_run, train
from flowlib.training import CheckpointError, Training, read_metrics
from flowlib.training.trainer import METRICS

FAST_STEPS = 20

matplotlib.rcParams.update(STYLE)

fast: bool = os.environ.get("FLOWLIB_FAST", "") not in ("", "0")
"""Whether notebooks run shortened, as tests do: few steps and samples, and nothing asserted that needs the full run."""


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers that are the same in every run of a page."""
    return torch.Generator().manual_seed(seed)


def show_source(*objects: Callable[..., Any] | type) -> None:
    """Show the source of functions, methods or classes of the library, highlighted, under the name of their file.

    Raises:
        ValueError: for an object that is not one of the library's functions or classes.
    """
    for item in objects:
        module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
        if module is None or name is None or module.split(".")[0] != "flowlib":
            raise ValueError(f"objects must be functions or classes of flowlib, got {item!r}")
        # The name goes with the output, so that a stored page whose code has changed since is noticed.
        _show(source_page(module, name), {"flowlib": {"source": f"{module}:{name}"}})


def source_page(module: str, name: str) -> str:
    """What `show_source` shows of `name` in `module`, as Markdown; AttributeError or ImportError if it is gone."""
    item: Any = __import__(module, fromlist=["_"])
    for part in name.split("."):
        item = getattr(item, part)
    item = inspect.unwrap(item)
    source = textwrap.dedent(inspect.getsource(item)).rstrip()
    path = Path(inspect.getsourcefile(item) or "").relative_to(Path(flowlib.__file__).parent.parent).as_posix()
    return f"[`{path}`](../{path})\n\n```python\n{source}\n```"


def trained(recipe: str | Recipe, *, data: str | Dataset | None = None, **changes: Any) -> Run:
    """Train a recipe as `flowlib train` does, or load what an earlier call with the same recipe has left.

    A training that was interrupted goes on where it was. Runs are kept in the user's cache, or in the folder that the
    environment variable FLOWLIB_RUNS names. When `fast`, a training takes 20 steps.

    Args:
        recipe: a recipe, or the name of one.
        data: the name of other data than the recipe's, or a set of your own; a run on it is found again by its digest.
        changes: fields of the recipe to replace, such as `steps=500`; another `net` starts with no arguments.

    Returns:
        the run on the CPU, ready to be sampled.

    Raises:
        ValueError: for an unknown recipe or field, or a value that does not fit, naming it.
        WriteError: if the cache cannot be written.
    """
    from filelock import FileLock

    own = data if isinstance(data, Dataset) else None
    if data is not None:
        changes["data"] = data if own is None else own.name
    recipe = resolve(recipe, **changes)
    key = {"flowlib": flowlib.__version__, "recipe": to_dict(recipe)} | ({} if own is None else {"data": own.digest()})
    content = json.dumps(key, sort_keys=True)
    folder = runs_folder() / f"{recipe.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # two notebooks may ask for the same run at once
        run = _finished(folder, recipe)
        if run is None:
            run = _train(recipe, folder, own)
    seconds = read_metrics(folder / METRICS)[-1]["seconds"]
    print(f"{recipe.name}: {recipe.training.steps:,} steps, {seconds:.0f} s of training")
    return run


def resolve(recipe: str | Recipe, **changes: Any) -> Recipe:
    """The recipe that `trained` trains: with its changes, and shortened when `fast`. Errors as in `trained`."""
    recipe = change(find_recipe(recipe) if isinstance(recipe, str) else recipe, **changes)
    if not fast:
        return recipe
    stages = {  # earlier trainings, which have settings of their own
        part.name: replace(stage, steps=min(stage.steps, FAST_STEPS))
        for part in fields(recipe.system)  # type: ignore[arg-type]
        if isinstance(stage := getattr(recipe.system, part.name), Training)
    }
    return change(recipe, steps=min(recipe.training.steps, FAST_STEPS), **stages)


def runs_folder() -> Path:
    """Where `trained` keeps its runs."""
    import pooch

    named = os.environ.get("FLOWLIB_RUNS")
    return Path(named) if named else Path(pooch.os_cache("flowlib")) / "runs"


def _finished(folder: Path, recipe: Recipe) -> Run | None:
    try:
        run = load_run(folder, "cpu")
    except (RunError, CheckpointError):
        return None
    return run if run.step == recipe.training.steps else None


def _train(recipe: Recipe, folder: Path, data: Dataset | None) -> Run:
    common: dict[str, Any] = {"data": data, "pictures": False, "progress": not fast}
    try:
        train(recipe, folder, resume=True, **common)
    except (RunError, CheckpointError):  # a damaged run in a cache is nothing to keep
        train(recipe, folder, overwrite=True, **common)
    return load_run(folder, "cpu")


class Exercise:
    """The hints of an exercise.

    Args:
        name: of the exercise, such as "01_flows_and_diffusions".

    Raises:
        ValueError: if there is no such exercise.
    """

    def __init__(self, name: str) -> None:
        folder = files("flowlib.course") / "hints"
        names = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
        check_choice("exercise", name, names)
        self._hints: dict[str, list[str]] = json.loads((folder / f"{name}.json").read_text("utf-8"))
        self._asked: Counter[str] = Counter()

    def hint(self, question: str) -> None:
        """Show a hint for a question, such as "01.2"; each call says one level more, up to the last.

        Raises:
            ValueError: if the exercise has no such question.
        """
        levels = self._hints[check_choice("question", question, self._hints)]
        self._asked[question] = level = min(self._asked[question] + 1, len(levels))
        _show(f"**Hint {level} of {len(levels)}.** {levels[level - 1]}", {})


def exercise(name: str) -> Exercise:
    """The exercise of that name, which gives hints: `hint = exercise("01_flows_and_diffusions").hint`.

    In a notebook a line says from now on, after each check, how much is right (`flowlib.course.extension`).

    Raises:
        ValueError: if there is no such exercise.
    """
    found = Exercise(name)
    follow(name.partition("_")[0])
    return found


def _show(text: str, metadata: dict[str, Any]) -> None:
    """Show Markdown in a notebook, or print it elsewhere."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text), metadata=metadata)
