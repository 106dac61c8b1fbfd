"""The registry: systems by name, from this package and from elsewhere, and what cannot be registered."""

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowlib.recipes import Recipe
from flowlib.systems import SYSTEMS, FlowSystem, find_system, register
from flowlib.systems.discovery import VARIABLE, all_systems, plugins
from flowlib.systems.system import name_of
from flowlib.training import Training


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(all_systems())
    yield
    SYSTEMS.clear()
    SYSTEMS.update(before)


def test_systems_are_found_by_name_and_know_it() -> None:
    assert find_system("flow") is FlowSystem
    assert name_of(FlowSystem()) == "flow"
    assert {"flow", "latent-flow", "improved-ddpm", "gan", "vae", "classifier"} <= set(all_systems())
    assert all(find_system(name).name == name for name in all_systems())  # type: ignore[attr-defined]


def test_an_unknown_system_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(ValueError, match=r"system must be one of .*flow, .*FLOWLIB_SYSTEMS\); got 'magic'"):
        find_system("magic")


def test_a_taken_name_is_refused_and_the_first_one_stays() -> None:
    @dataclass(frozen=True)
    class Other:
        size: int = 3

    with pytest.raises(ValueError, match=r"there is a system 'flow' already: flowlib\.systems\.flow\.FlowSystem"):
        register("flow")(Other)
    assert find_system("flow") is FlowSystem


def test_a_class_that_is_defined_again_takes_its_own_place() -> None:
    """As when a cell of a notebook runs twice."""

    def define(size: int) -> type:
        @register("toy-again")
        @dataclass(frozen=True)
        class Again:
            side: int = size

        return Again

    first, second = define(1), define(2)
    assert first is not second
    assert find_system("toy-again") is second
    with pytest.raises(ValueError, match="system must be the settings of a registered system"):
        name_of(first())
    assert name_of(second()) == "toy-again"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lr", r"settings of the system 'toy' are called like those of a training: \['lr'\]"),
        ("steps", r"called like those of a training: \['steps'\]"),
        ("name", r"settings of the system 'toy' are called like what every recipe has: \['name'\]"),
        ("system", r"called like what every recipe has: \['system'\]"),
        ("data", r"called like what every recipe has: \['data'\]"),
    ],
)
def test_a_setting_that_would_hide_another_is_refused(name: str, message: str) -> None:
    kind = dataclasses.make_dataclass("Toy", [("size", int, 1), (name, int, 3)], frozen=True)
    with pytest.raises(ValueError, match=message):
        register("toy")(kind)
    assert "toy" not in all_systems()


@pytest.mark.parametrize("needs", [{"size": ("width", 3)}, {"width": ("size", True)}])
def test_what_needs_no_setting_is_refused(needs: dict[str, tuple[str, object]]) -> None:
    kind = dataclasses.make_dataclass("Toy", [("size", int, 1)], frozen=True, namespace={"needs": needs})
    with pytest.raises(ValueError, match=r"what the system 'toy' needs are no settings of its: \['width'\]"):
        register("toy")(kind)
    assert "toy" not in all_systems()


def test_what_is_no_dataclass_is_refused() -> None:
    with pytest.raises(ValueError, match="the system 'toy' must be a dataclass: write @register above @dataclass"):

        @register("toy")
        class Toy:
            size: int = 3


def test_a_recipe_takes_registered_settings_alone() -> None:
    @dataclass(frozen=True)
    class Loose:
        size: int = 3

    for wrong in (Loose(), 3, FlowSystem):
        with pytest.raises(ValueError, match="system must be the settings of a registered system, got"):
            Recipe(name="r", data="digits", system=wrong, training=Training(steps=1))  # type: ignore[arg-type]


GOOD = """
from dataclasses import dataclass
from flowlib.recipes import Recipe
from flowlib.systems.system import register
from flowlib.training import Training

@register("{name}")
@dataclass(frozen=True, kw_only=True)
class Toy:
    size: int = 3

RECIPES = (Recipe(name="{name}", data="digits", system=Toy(), training=Training(steps=1)),)
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_of_the_environment_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / f"registry_{name}.py", GOOD.format(name=f"toy-{name}")) for name in ("b", "a")]
    monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, files)))
    assert [module.RECIPES[0].name for module in plugins()] == ["toy-b", "toy-a"]
    assert plugins()[0] is plugins()[0]  # a file runs once
    assert find_system("toy-a")().size == 3  # type: ignore[attr-defined]
    monkeypatch.setenv(VARIABLE, "")
    assert plugins() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"FLOWLIB_SYSTEMS names .*bad\d\.py, which is no file"),
        ("import nothing_of_this_name", r"bad\d\.py cannot be imported: ModuleNotFoundError: No module named 'nothing"),
        ("class", r"bad\d\.py cannot be imported: SyntaxError: "),
        ("1 / 0", r"bad\d\.py cannot be imported: ZeroDivisionError: division by zero"),
        (GOOD.format(name="flow"), r"bad\d\.py cannot be imported: ValueError: there is a system 'flow' already"),
        (GOOD.format(name="toy").replace("size", "lr"), r"bad\d\.py cannot be imported: ValueError: settings of the"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, message: str
) -> None:
    path = tmp_path / f"bad{len(text or '') % 10}.py"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(VARIABLE, str(path))
    for _ in range(2):  # and again when it is asked for again
        with pytest.raises(ValueError, match=message):
            find_system("flow")


def test_two_files_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one's class would look like the first one's, defined again."""
    files = [write(tmp_path / folder / "registry_twin.py", GOOD.format(name="toy-twin")) for folder in ("a", "b")]
    monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, files)))
    with pytest.raises(ValueError, match=r"FLOWLIB_SYSTEMS names two files that are called registry_twin.py"):
        all_systems()


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        value = "some_package.systems"

        def load(self) -> None:
            raise ImportError("no torch for you")

    monkeypatch.setattr("flowlib.systems.discovery.entry_points", lambda group: [Entry()])
    with pytest.raises(ValueError, match=r"some_package.systems cannot be imported: ImportError: no torch for you"):
        plugins()
