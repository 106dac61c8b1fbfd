"""Which example shows a name, and the lines of those that its entry in the API reference borrows from its file."""

import doctest
import importlib
import inspect
import re
import textwrap
from typing import Any


def is_documented(value: object) -> bool:
    """Whether a value has a docstring of its own to show it, as constants and modules have not."""
    return inspect.isclass(value) or inspect.isfunction(value)


def shown_by(value: Any) -> str:
    """What holds the example of a function or class: its own path, that of its file or of its folder; "" if none."""
    if uses(value.__doc__):
        return f"{value.__module__}.{value.__qualname__}"
    for place in (value.__module__, value.__module__.rpartition(".")[0]):
        if re.search(rf"\b{value.__name__}\b", uses(importlib.import_module(place).__doc__)):
            return place
    return ""


def uses(text: str | None) -> str:
    """The code of the examples of a docstring, and what they print; imports show nothing."""
    found = doctest.DocTestParser().get_examples(text or "")
    return "".join(one.source + one.want for one in found if not one.source.startswith(("import ", "from ")))


def borrowed(value: Any, page: str) -> list[str]:
    """The lines of the example that a value's file has for it, unless the page of that name begins with them.

    Raises:
        ValueError: if the file's examples do not stand in a section of their own, "Example:".
    """
    if not is_documented(value) or shown_by(value) != value.__module__ or value.__module__ == f"flowlib.{page}":
        return []
    text = importlib.import_module(value.__module__).__doc__ or ""
    section = re.search(r"^Example:\n((?: .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    if section is None:
        raise ValueError(f"the examples of {value.__module__} must stand in a section 'Example:'")
    example = textwrap.indent(textwrap.dedent(section[1]).strip("\n"), "   ")
    return ["   .. rubric:: Example", "", *example.split("\n"), ""]
