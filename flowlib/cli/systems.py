"""Commands that systems bring. Their names are read off the sources, so that help does not wait for torch."""

import ast
import dataclasses
import inspect
import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

import flowlib
from flowlib.cli.machine import Interrupted

VARIABLE = "FLOWLIB_SYSTEMS"


@cache
def declared() -> dict[str, str]:
    """The commands that systems declare as `Command("name", ..., help="...")`: their help, by name."""
    folder = Path(flowlib.__file__).parent / "systems"
    own = [Path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    paths = [*sorted(folder.rglob("*.py")), *_of_packages(), *own]
    return dict(found for path in paths for found in _commands(path))


def _of_packages() -> Iterator[Path]:
    """The sources of the modules that installed packages name as systems; of a package, all that lies in it."""
    for entry in entry_points(group="flowlib.systems"):
        try:
            spec = find_spec(entry.module)
        except ImportError:
            continue  # whoever imports it says what is wrong
        if spec is not None and spec.submodule_search_locations:
            yield from sorted(path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.py"))
        elif spec is not None and spec.origin is not None:
            yield Path(spec.origin)


def _commands(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # whoever imports it says what is wrong
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Command"
        if called and node.args and isinstance(node.args[0], ast.Constant):  # type: ignore[attr-defined]
            texts = [word.value for word in node.keywords if word.arg == "help"]  # type: ignore[attr-defined]
            known = bool(texts) and isinstance(texts[0], ast.Constant)
            yield str(node.args[0].value), str(texts[0].value) if known else ""  # type: ignore[attr-defined]


class SystemCommands(TyperGroup):
    """The commands of the command line, and behind them those of the systems."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in declared() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        return _build(cmd_name) if found is None and cmd_name in declared() else found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As ever, but without importing a system for the sake of its help."""
        rows = []
        for name in self.list_commands(ctx):
            command = super().get_command(ctx, name)
            rows.append((name, declared()[name] if command is None else command.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _build(name: str) -> Any:
    """The command `name` of a system: the fields of its request are its options."""
    from flowlib.runs import load_run
    from flowlib.runs.folder import begun
    from flowlib.systems.discovery import all_systems
    from flowlib.systems.system import name_of

    brings = [(kind, one) for kind in all_systems().values() for one in kind.commands if one.name == name]  # type: ignore[attr-defined]
    if not brings:  # declared, but of no system
        return None
    kinds, command = tuple(kind for kind, _ in brings), brings[0][1]
    made: Any = command.request if isinstance(command.request, type) else command.request()

    def act(**options: Any) -> None:
        folder, device = options.pop("run" if command.model is None else "model"), options.pop("device")
        request = made(**options)
        _check_options(request)
        run = load_run(folder, device)
        if not command.anywhere and not isinstance(run.recipe.system, kinds):
            raise ValueError(f"{name} is no command for a run of the system {name_of(run.recipe.system)!r}: {folder}")
        before = begun(request.out) if hasattr(request, "resume") else None
        try:
            for line in command.run(run, request) or ():
                typer.echo(line)
        except KeyboardInterrupt:
            if not hasattr(request, "resume") or begun(request.out) == before:
                raise
            how = " and --resume" if not request.resume else ""
            instead = " instead of --overwrite" if request.overwrite else ""
            raise Interrupted(f"go on with the same command{how}{instead}") from None

    parameters = []
    if command.model is None:
        parameters.append(_parameter("run", Path, inspect.Parameter.empty, "Folder of a run, or zoo:NAME.", True))
    hints = get_type_hints(made)
    for part in dataclasses.fields(made):
        default = part.default if part.default_factory is dataclasses.MISSING else part.default_factory()
        empty = inspect.Parameter.empty if default is dataclasses.MISSING else default
        meta = part.metadata
        text, first, option = meta.get("help", ""), meta.get("argument", False), meta.get("option")
        parameters.append(_parameter(part.name, hints[part.name], empty, text, first, option))
    if command.model is not None:
        parameters.append(_parameter("model", Path, Path(command.model), "Folder of a run, or zoo:NAME.", False))
    parameters.append(_parameter("device", str, "auto", "Where to compute: auto, cpu, cuda ...", False))
    act.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    act.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    act.__doc__ = command.help
    one = typer.Typer(rich_markup_mode=None, add_completion=False)
    one.command(name)(act)
    return typer.main.get_command(one)


def _check_options(request: Any) -> None:
    """What no request can check alike: blank texts, options that say nothing beside the others, where the file lies.

    Raises:
        ValueError: for an option, naming it.
        WriteError: if no file can be put at `out`.
    """
    from flowlib.files import check_place

    parts = {part.name: part for part in dataclasses.fields(request)}
    for part in parts.values():
        value = getattr(request, part.name)
        usual = part.default if part.default_factory is dataclasses.MISSING else part.default_factory()
        if value == usual:
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.strip():
                raise ValueError(f"{_option(part)} must not be blank")
            if isinstance(text, str) and not _readable(text):
                raise ValueError(f"{_option(part)} must be text in UTF-8, got {text!r}")
        for key, there, says in (("with", True, "only goes"), ("without", False, "does not go")):
            if key in part.metadata and bool(getattr(request, part.metadata[key])) != there:
                other = parts[part.metadata[key]]
                if there and other.default:  # which is set to nothing
                    says = f"does not go with {_option(other)} {getattr(request, other.name)}"
                    raise ValueError(f"{_option(part)} {says}")
                raise ValueError(f"{_option(part)} {says} with {_option(other)}")
    out = getattr(request, "out", None)
    if isinstance(out, Path) and out.suffix:
        check_place(out)


def _readable(text: str) -> bool:
    """Whether a text of the command line was one: bytes that are none become half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _option(part: dataclasses.Field[Any]) -> str:
    """What a field is called on the command line."""
    name = part.name.replace("_", "-")
    return part.metadata.get("option") or (name if part.metadata.get("argument") else f"--{name}")


def _parameter(
    name: str, kind: Any, default: Any, text: str, argument: bool, option: str | None = None
) -> inspect.Parameter:
    words = () if option is None else (option,)
    how = typer.Argument(help=text, metavar=name.upper()) if argument else typer.Option(*words, help=text)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, how])
