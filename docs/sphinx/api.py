"""Pages of the API reference: which names are public, on which page each stands, and which lectures use it.

`python docs/sphinx/api.py` names those that have no example yet.

Public is what a folder's face (`__init__.pyi`) lists, what the files of the mathematics define without an underscore,
and every registered system.
"""

import ast
import importlib
import inspect
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from shown import borrowed, is_documented, shown_by

import flowlib
from flowlib.systems.discovery import all_systems

PACKAGE = Path(flowlib.__file__).parent

# The files of the mathematics, in the order of the lectures, and what each page is called.
MATHEMATICS = {
    "schedule": "What a schedule is",
    "schedules": "Schedules",
    "diffusion_schedules": "Schedules of diffusion models",
    "paths": "Paths and predictions",
    "field": "What a field is",
    "fields": "Fields, learned and exact",
    "times": "Times of training",
    "losses": "Losses",
    "regression": "What losses share",
    "stable": "Stable targets",
    "guidance": "Guidance",
    "rescaled": "Rescaled guidance",
    "autoguidance": "Autoguidance",
    "solvers": "Solvers",
    "samplers": "Samplers: the ODE",
    "sde": "Samplers: the SDE",
    "ddim": "Samplers: DDIM and single steps",
    "edm": "Times of EDM",
    "likelihood": "Likelihood",
    "continuous_bound": "Variational bound",
    "pixel_bits": "Pixels and bits",
}
FOLDERS = {
    "chains": "Chains: the discrete view",
    "nets": "Networks",
    "systems": "Systems",
    "recipes": "Recipes",
    "runs": "Runs",
    "training": "Training",
    "data": "Data",
    "metrics": "Metrics",
    "text": "Texts",
    "plotting": "Plotting",
}


def defined(module: str) -> list[str]:
    """The public functions and classes that a file of the mathematics defines, in its order."""
    content = vars(importlib.import_module(f"flowlib.{module}"))
    mine = (name for name, value in content.items() if getattr(value, "__module__", None) == f"flowlib.{module}")
    return [name for name in mine if not name.startswith("_") and callable(content[name])]


def face(stub: Path) -> dict[str, str]:
    """The names that a folder's face lists, each with the module that it comes from."""
    names = {}
    for node in ast.parse(stub.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: node.module or "" for one in node.names}
    return names


def pages() -> dict[str, tuple[str, list[str]]]:
    """For each page its title and the paths of its names, as users import them."""
    top = face(PACKAGE / "__init__.pyi")
    found = {}
    for module, title in MATHEMATICS.items():
        names = [name for name in defined(module) if not name.startswith("check_")]
        found[module] = (title, [f"flowlib.{name}" if name in top else f"flowlib.{module}.{name}" for name in names])
    for folder, title in FOLDERS.items():
        paths = [f"flowlib.{folder}.{name}" for name in face(PACKAGE / folder / "__init__.pyi")]
        found[folder] = (title, paths + (systems(paths) if folder == "systems" else []))
    return found


def systems(listed: Iterable[str]) -> list[str]:
    """The registered systems that the face does not list."""
    known = {path.rpartition(".")[2] for path in listed}
    return [f"{one.__module__}.{one.__name__}" for one in all_systems().values() if one.__name__ not in known]


def resolve(path: str) -> object:
    """The object that a path such as "flowlib.nets.UNet" names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def lacking(page: str) -> list[str]:
    """The names of a page that no example shows: none in their own docstring, in their file's or in their folder's."""
    values = {path: resolve(path) for path in pages()[page][1]}
    return [path for path, value in values.items() if is_documented(value) and not shown_by(value)]


def used_in(notebooks: Iterable[Path]) -> dict[str, list[str]]:
    """The lectures, by their names, that import each path."""
    lectures = defaultdict(list)
    for notebook in notebooks:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        names: dict[str, None] = {}
        for cell in cells:
            if cell["cell_type"] == "code":
                names |= dict.fromkeys(imported("".join(cell["source"])))
        for name in names:
            lectures[name].append(notebook.stem)
    return lectures


def imported(code: str) -> list[str]:
    """The paths of what a cell imports from the library."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flowlib":
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def identity(path: str) -> tuple[str, str] | None:
    """Where the object behind a path is defined, the same for every way to import it; None if it is no such object."""
    try:
        value = resolve(path)
    except (ImportError, AttributeError):
        return None
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__module__, value.__qualname__
    return None


def write(target: Path, notebooks: Iterable[Path]) -> dict[str, list[str]]:
    """Write the pages into `target`; for each lecture the paths of the names that it uses and that have an entry."""
    target.mkdir(parents=True, exist_ok=True)
    lectures_of = defaultdict(list)
    for path, lectures in used_in(notebooks).items():
        if (key := identity(path)) is not None:
            lectures_of[key] += [one for one in lectures if one not in lectures_of[key]]
    back = defaultdict(list)
    for page, (title, paths) in pages().items():
        text = [title, "=" * len(title), ""]
        twice = [] if f"flowlib.{page}" not in paths else ["   :no-index:"]  # a function is called like its file
        text += [f".. automodule:: flowlib.{page}", "   :no-members:", *twice, ""]
        for path in paths:
            key = identity(path)
            text += entry(path) + borrowed(resolve(path), page)
            if key in lectures_of:
                links = ", ".join(f":doc:`{one[:2]} </lectures/{one}>`" for one in sorted(lectures_of[key]))
                text += [f"   *Lectures:* {links}", ""]
                for one in lectures_of[key]:
                    back[one].append(path)
        (target / f"{page}.rst").write_text("\n".join(text), "utf-8")
    index = ["API reference", "=============", "", INTRODUCTION, ""]
    for caption, names in (
        ("The mathematics, in the order of the lectures", MATHEMATICS),
        ("Everything else", FOLDERS),
    ):
        index += [
            ".. toctree::",
            f"   :caption: {caption}",
            "   :maxdepth: 1",
            "",
            *(f"   {name}" for name in names),
            "",
        ]
    (target / "index.rst").write_text("\n".join(index), "utf-8")
    return back


def entry(path: str) -> list[str]:
    """The lines of a name: what autodoc makes of its docstring, or the value of a constant."""
    value = resolve(path)
    if inspect.ismodule(value):
        return [f".. automodule:: {path}", "   :members:", ""]
    if inspect.isclass(value):
        return [f".. autoclass:: {path}", "   :members:", ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {path}", ""]
    if isinstance(value, Mapping):
        return [f".. py:data:: {path}", "", f"   By name: {', '.join(f'``{name}``' for name in value)}.", ""]
    return [f".. py:data:: {path}", f"   :value: {value!r}", ""]


INTRODUCTION = """\
Every public name, from the docstrings of the code. What the mathematics defines is imported from ``flowlib`` or from
the file that its page names; everything else from its folder: ``from flowlib.nets import UNet``. Examples are run by
the tests. Time ``t`` runs from noise at 0 to data at 1; ``B`` is the number of samples of a batch."""

if __name__ == "__main__":  # what is left to do
    for page in pages():
        print(f"{page}: {', '.join(path.rpartition('.')[2] for path in lacking(page)) or 'all have an example'}")
