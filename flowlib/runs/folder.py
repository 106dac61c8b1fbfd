"""What a run's folder says of itself: `recipe.json`, with the recipe, the data and the parts that it stands on."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flowlib
from flowlib.data import Spec
from flowlib.files import write_whole
from flowlib.recipes import Recipe, change, from_dict, to_dict
from flowlib.runs.places import RunError, clear
from flowlib.systems.discovery import all_systems
from flowlib.training.checkpoint import latest_step, load
from flowlib.training.journal import read_metrics
from flowlib.training.trainer import CHECKPOINTS, METRICS

RECIPE, SAMPLES = "recipe.json", "samples"


@dataclass(frozen=True)
class Record:
    """What is on record of a run.

    Attributes:
        recipe: what it is trained by.
        spec: of its data.
        digest: the hash of its data, where they have no name that stands for them; None else.
        parts: the hash of each finished model that it stands on.
        net: the class of a network that was given as a module; None else.
        stages: the names of its earlier stages, each of which has a folder in the run's.
    """

    recipe: Recipe
    spec: Spec
    digest: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    net: str | None = None
    stages: tuple[str, ...] = ()


def read_record(folder: Path) -> Record:
    """What is on record of the run in a folder.

    Raises:
        RunError: without a run, or for a record that is damaged or of another version.
        ValueError: for systems from elsewhere that cannot be imported.
    """
    path = folder / RECIPE
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run: there is no {path}; `flowlib train` makes one") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged, or of another version of flowlib: {error}") from None
    return record_of(content, str(path))


def record_of(content: Any, source: str) -> Record:
    """The record that `content_of` made plain data of; errors as in `read_record`, which name `source`."""
    all_systems()  # whose errors are not the record's
    try:
        recipe = from_dict(content["recipe"])
        spec, digest, parts, net, stages = (content[name] for name in ("spec", "digest", "parts", "net", "stages"))
        if not all(isinstance(text, str | None) for text in (digest, net)):
            raise ValueError("digest and net must be texts, or null")
        if not isinstance(parts, dict) or not all(isinstance(text, str) for text in parts.values()):
            raise ValueError(f"parts must be hashes by name, got {parts!r}")
        if not isinstance(stages, list) or not all(isinstance(name, str) for name in stages):
            raise ValueError(f"stages must be names, got {stages!r}")
        return Record(recipe, Spec(**spec), digest, parts, net, tuple(stages))
    except KeyError as error:
        raise RunError(f"{source} is damaged, or of another version of flowlib: {error} is missing") from None
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{source} is damaged, or of another version of flowlib: {error}") from None


def content_of(record: Record) -> dict[str, Any]:
    """A run's record as plain data for JSON."""
    content: dict[str, Any] = {"flowlib": flowlib.__version__, "recipe": to_dict(record.recipe)}
    content |= {"spec": dataclasses.asdict(record.spec), "digest": record.digest, "parts": record.parts}
    return content | {"net": record.net, "stages": record.stages}


def write_record(folder: Path, record: Record) -> None:
    """Put a run's record into its folder; a WriteError if that fails."""
    write_whole(folder / RECIPE, json.dumps(content_of(record), indent=2).encode())


def begun(folder: Path) -> int | None:
    """When the record of the run in a folder was written, in ns of the system's clock; None where there is none.

    A training writes it as soon as all before its first step has gone well, a resumed one too.
    """
    path = folder / RECIPE
    return path.stat().st_mtime_ns if path.is_file() else None


def prepare_folder(folder: Path, record: Record, *, resume: bool, overwrite: bool) -> None:
    """Make `folder` ready for a run: a new one, or with `resume` the one that lies there.

    A run may go on with more steps than it was made for: its learning rates then follow the schedule of the new number
    of steps from the step that it has reached, as its record says from then on.

    Args:
        folder: of the run.
        record: of the run.
        resume, overwrite: as in `flowlib.runs.train`.

    Raises:
        RunError: if a run lies there and neither `resume` nor `overwrite` is given, or it is another recipe's, on other
            data or other parts. A record alone, of a run that never began, is no run.
        CheckpointError: with `resume`, if the checkpoint cannot be read.
        WriteError: if the folder cannot be written.
    """
    made = _made_by(record)
    if not (folder / RECIPE).exists():
        for name in sorted(made - _left_by(record)):
            if (folder / name).exists():  # someone else's, not ours to delete
                raise RunError(f"{folder} holds no run, but {name!r}, which a run would replace: choose another --out")
    elif overwrite:
        clear(folder, made | _made_in(folder))
    elif resume:
        _check_same(folder, read_record(folder), record)
        _check_state(folder, record)  # what cannot go on keeps its record
        if (latest_step(folder / CHECKPOINTS) or 0) < record.recipe.training.steps:
            clear(folder, _left_by(record))  # of the weights as they were
    elif any((folder / name).exists() for name in made | _made_in(folder)):
        raise RunError(f"{folder} holds a run: add --resume to go on, --overwrite to replace it, or another --out")
    write_record(folder, record)


def _check_state(folder: Path, record: Record) -> None:
    """A ValueError unless the run that lies there can go on from where it is."""
    for place in (*(folder / name for name in record.stages), folder):
        step, steps = latest_step(place / CHECKPOINTS), record.recipe.training.steps
        if step is not None and place == folder and step > steps:
            raise RunError(f"the run in {folder} is damaged: its checkpoint is of step {step:,} of {steps:,}")
        if step is not None:
            load(place / CHECKPOINTS)
        if (place / METRICS).exists():
            read_metrics(place / METRICS)


def _made_by(record: Record) -> set[str]:
    """Names of all that a run puts into its folder beside its record."""
    return {METRICS, CHECKPOINTS, SAMPLES, *record.stages} | _left_by(record)


def _left_by(record: Record) -> set[str]:
    """Names of what a command of the system puts there at the end."""
    return set(getattr(record.recipe.system, "leaves", ()))


def _made_in(folder: Path) -> set[str]:
    """The same of the run that lies there; nothing where its record cannot be read."""
    try:
        inside = (name for name in _made_by(read_record(folder)) if Path(name).name == name)
        return {name for name in inside if name not in ("", "..")}
    except ValueError:
        return set()


def _check_same(folder: Path, before: Record, now: Record) -> None:
    steps = before.recipe.training.steps, now.recipe.training.steps
    if steps[1] < steps[0]:
        raise RunError(f"the run in {folder} has steps = {steps[0]} and cannot go on with {steps[1]}: only with more")
    old, new = _flat(to_dict(change(before.recipe, steps=steps[1]))), _flat(to_dict(now.recipe))
    for key in old.keys() | new.keys():
        if old.get(key) != new.get(key):
            name = key.removeprefix("training.").removeprefix("system.")
            raise RunError(f"the run in {folder} has {name} = {old.get(key)!r} and cannot go on with {new.get(key)!r}")
    if before.digest != now.digest:
        raise RunError(f"the data of the run in {folder} have changed since: {now.recipe.data} is not what it was")
    for name, digest in now.parts.items():
        if before.parts.get(name) != digest:
            raise RunError(f"the part {name!r} of the run in {folder} has changed since: it has other weights")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, those of `net_args` as one."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict) and not prefix
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat
