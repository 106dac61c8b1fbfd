"""The zoo: trained runs that come with the package, small enough to lie in it.

    run = load_pretrained("judge")         # as load_run("zoo:judge")

A run in the zoo is two files in `flowlib/weights`: its averaged weights in half precision, compressed, less what a run
that it stands on has there already, and a JSON with the SHA-256 of the whole, its recipe, the command that trained it,
the seconds that took, on what, and what `flowlib evaluate` measured.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowlib.files import write_whole
from flowlib.recipes import RECIPES
from flowlib.runs.folder import Record, content_of, read_record, record_of
from flowlib.runs.places import RunError
from flowlib.systems.system import Row, parts_of
from flowlib.training import read_metrics
from flowlib.training.checkpoint import load_average
from flowlib.training.trainer import CHECKPOINTS, METRICS
from flowlib.weights import FOLDER, compress, describe_weights, read_weights, shared_tensors, weights_file

PREFIX = "zoo:"
LIMIT = 3 * 2**20  # bytes of one file


def is_zoo(source: Path | str) -> bool:
    """Whether a run is named, as "zoo:judge", and not the folder of one."""
    return str(source).startswith(PREFIX)


def names(folder: Path = FOLDER) -> list[str]:
    """The runs in the zoo."""
    found = sorted(path.stem for path in folder.glob("*.json"))
    return [name for name in found if "run" in describe_weights(name, folder)]


def check_name(name: str, folder: Path = FOLDER) -> str:
    """Return `name` if there is a run of that name in the zoo; a RunError if not."""
    if name in names(folder):
        return name
    way = f"; `flowlib train {name}` makes one, whose folder stands for it" if name in RECIPES else ""
    raise RunError(f"the zoo has no {name!r}, it has {', '.join(names(folder))}{way}")


def entry(source: str, folder: Path = FOLDER) -> tuple[Record, dict[str, Tensor]]:
    """The record of a run in the zoo, and its weights in full precision.

    Raises:
        RunError: if there is none of that name, or its files are damaged or of another version.
    """
    name = check_name(source.removeprefix(PREFIX), folder)
    record = record_of(describe_weights(name, folder)["run"], f"{folder / name}.json")
    try:
        weights = read_weights(name, folder)
    except (ValueError, FileNotFoundError) as error:
        raise RunError(str(error)) from None
    full = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    return record, full


def digest(source: str, folder: Path = FOLDER) -> str:
    """The SHA-256 of a run's weights as it is on record; errors as in `check_name`."""
    return str(describe_weights(check_name(source.removeprefix(PREFIX), folder), folder)["sha256"])


def describe_run(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What `describe_weights` says of a run; a RunError unless all is there that a list of runs tells.

    Raises:
        RunError: if there is none of that name, or its description is damaged.
    """
    described = describe_weights(check_name(name, folder), folder)
    kinds = {"command": str, "machine": str, "steps": int, "seconds": int | float, "figures": list, "run": dict}
    for key, kind in kinds.items():
        if not isinstance(described.get(key), kind):
            raise RunError(f"{folder / name}.json is damaged: it says no {key}; reinstall flowlib")
    record_of(described["run"], f"{folder / name}.json")
    return described


def rows(folder: Path = FOLDER) -> list[Row]:
    """A row for each run in the zoo: name, system, data, size, and what its training took."""
    table: list[Row] = []
    for name in names(folder):
        described = describe_run(name, folder)
        recipe = described["run"]["recipe"]
        size = weights_file(name, folder).stat().st_size / 2**20
        row: Row = {"name": f"{PREFIX}{name}", "system": recipe["system"]["system"], "data": recipe["data"]}
        table.append(
            row | {"MiB": round(size, 2), "steps": str(described["steps"]), "minutes": described["seconds"] / 60}
        )
    return table


def check_packable(run: Path) -> tuple[Record, int, dict[str, Tensor]]:
    """The record, the steps and the weights of a run, if it may be in the zoo; a RunError if not, as `pack` says."""
    record = read_record(run)
    name, (steps, weights) = record.recipe.name, load_average(run / CHECKPOINTS)
    if RECIPES.get(name) != record.recipe or record.digest is not None or steps != record.recipe.training.steps:
        raise RunError(f"the run in {run} is not what `flowlib train {name}` makes: the zoo takes no other")
    return record, steps, weights


def pack(run: Path, figures: Sequence[Mapping[str, Any]], folder: Path = FOLDER) -> list[Path]:
    """Put a trained run into the zoo, under the name of its recipe.

    Args:
        run: the run's folder.
        figures: the rows of its report.
        folder: the zoo's.

    Returns:
        the two files.

    Raises:
        RunError: if there is no such run, or it is not that of a named recipe as it stands, trained to its end: no one
            else could train it again by its name.
        ValueError: if its file would have more than 3 MiB, or its weights leave the range of half precision.
    """
    from safetensors.torch import save

    record, steps, weights = check_packable(run)
    name = record.recipe.name
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    if not all(bool(torch.isfinite(value).all()) for value in half.values()):
        raise ValueError(f"weights of {run} are too large for half precision")
    half = {key: value.contiguous().clone() for key, value in half.items()}
    bases = [source.removeprefix(PREFIX) for source in parts_of(record.recipe.system).values() if is_zoo(source)]
    shared = shared_tensors(half, {base: read_weights(base, folder) for base in bases})
    kept = {key for keys in shared.values() for key in keys}
    content = compress(save({key: value for key, value in half.items() if key not in kept}))
    if len(content) > LIMIT:
        raise ValueError(
            f"compressed weights of {run} are {len(content) / 2**20:.1f} MiB; the zoo takes up to {LIMIT / 2**20:.0f}"
        )
    stages = [run / stage for stage in record.stages] + [run]
    described = {
        "sha256": hashlib.sha256(save(half)).hexdigest(),
        **({"shared": shared} if shared else {}),
        "command": f"flowlib train {name}",
        "steps": steps,
        "seconds": round(sum(read_metrics(stage / METRICS)[-1]["seconds"] for stage in stages)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "figures": [dict(row) for row in figures],
        "run": content_of(record),
    }
    files = [weights_file(name, folder), folder / f"{name}.json"]
    write_whole(files[0], content)
    write_whole(files[1], (json.dumps(described, indent=1) + "\n").encode())
    return files
