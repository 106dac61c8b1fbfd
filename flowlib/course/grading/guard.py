"""Undoes what a student's code may have done to Python, torch, numpy and the library before a check runs.

Before any of the student's code runs, `Guard` notes every function, class and constant of the modules that checks rest
on, the code inside those functions, and the settings of the process. `restore` puts back what differs. Its answer tells
which functions were replaced: of no matter before a check, but not while the check ran.

The limit, stated honestly: the answer and the check live in one process, and Python has no walls inside a process. Code
that is written to find the guard (through `gc`, through a thread that waits for the check) can defeat it. What is
prevented is what happens by accident and what a few lines of deliberate tampering can do; for more, an instructor
reads the code that scored, as ever.
"""

import builtins
import importlib
import os
import sys
import threading
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowlib.course.grading.settings import put_back_shell, settings, shell_state

# The packages that checks rest on, beside those that the checks import.
ROOTS = (
    *("builtins", "flowlib", "torch", "numpy", "scipy", "math", "cmath", "random", "statistics", "operator"),
    *("functools", "itertools", "inspect", "copy", "ast", "IPython", "types", "typing", "collections", "warnings"),
)
_SOLID = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, float)
_METHODS = (property, staticmethod, classmethod)
_ABSENT = object()


class Guard:
    """The state of the process as it is now, to be put back.

    Args:
        modules: names of modules to import first; what is not there is passed over.
        shell: the IPython shell whose transformers and callbacks belong to the state, or None.
    """

    def __init__(self, modules: Iterable[str] = (), shell: Any = None) -> None:
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception:  # "from a import b" need not name a module b
                continue
        roots = {*ROOTS, *(name.split(".")[0] for name in modules)} - {"matplotlib"}  # whose state is its figures
        self._modules = dict(sys.modules)
        self._builtins = (vars(builtins), dict(vars(builtins)))
        guarded = [m for name, m in self._modules.items() if name.split(".")[0] in roots and hasattr(m, "__dict__")]
        self._namespaces = [(m.__name__, vars(m), dict(vars(m))) for m in guarded if m is not builtins]
        self._classes: list[tuple[type, dict[str, Any]]] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType, Any, Any]] = []
        seen: set[int] = set()
        for _, _, saved in self._namespaces:
            for value in list(saved.values()):
                self._note(value, roots, seen)
        self._shell, self._shell_state = shell, shell_state(shell)
        self._settings = settings()
        tops = {name.split(".")[0] for name, _, _ in self._namespaces} - {"flowlib"}
        self._folders = tuple(
            str(Path(str(self._modules[top].__file__)).parent) + os.sep
            for top in tops
            if top in self._modules and getattr(self._modules[top], "__path__", None) and self._modules[top].__file__
        )

    def note(self, namespace: dict[str, Any]) -> None:
        """Guard the functions and classes of a namespace as well."""
        seen: set[int] = set()
        for value in list(namespace.values()):
            self._note(value, {str(getattr(value, "__module__", None)).split(".")[0]}, seen)

    def _note(self, value: Any, roots: set[str], seen: set[int]) -> None:
        if id(value) in seen or not isinstance(
            value, type | types.FunctionType | staticmethod | classmethod | property
        ):
            return
        seen.add(id(value))
        if isinstance(value, type):
            if str(value.__module__).split(".")[0] in roots and value.__flags__ & (1 << 9):  # of the heap: changeable
                self._classes.append((value, dict(vars(value))))
                for inner in list(vars(value).values()):
                    self._note(inner, roots, seen)
            return
        function = _function(value)
        if function is not None:
            keywords = function.__kwdefaults__
            self._functions.append((function, function.__code__, function.__defaults__, keywords and dict(keywords)))

    def restore(self) -> list[str]:
        """Put everything back; the names of the functions, classes and modules that had been replaced."""
        live, saved = self._builtins
        changed = [f"builtins.{key}" for key in dict.keys(saved) if dict.get(live, key, _ABSENT) is not saved[key]]
        dict.update(live, saved)  # first of all: what follows uses them
        changed = [name for name in changed if name != "builtins._"]
        for key in list(live.keys() - saved.keys()):
            if key != "_":
                del live[key]
        self._restore_settings()
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                changed.append(name)
        for name, live, saved in self._namespaces:
            changed += [
                f"{name}.{key}" for key, value in _restore_namespace(name, live, saved) if self._odd(key, value)
            ]
        for kind, saved in self._classes:
            changed += [f"{kind.__name__}.{key}" for key, value in _restore_class(kind, saved) if self._odd(key, value)]
        for function, code, defaults, keywords in self._functions:
            if function.__code__ is not code:
                function.__code__ = code
                changed.append(function.__qualname__)
            if function.__defaults__ is not defaults:
                function.__defaults__ = defaults
            if function.__kwdefaults__ != keywords:
                function.__kwdefaults__ = keywords and dict(keywords)
        return changed

    def _odd(self, key: str, value: Any) -> bool:
        """Whether no package would do so itself: torch's compiler puts wrappers in the place of torch's functions."""
        if isinstance(value, types.ModuleType):  # what stood for a module until it was needed
            return sys.modules.get(value.__name__) is not value
        function = _function(value)
        if function is None or not function.__code__.co_filename.startswith(self._folders):
            return True
        return function.__name__ != key and "<locals>" not in function.__qualname__

    def _restore_settings(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        threading.settrace(None)
        threading.setprofile(None)
        for put_back, value in self._settings:
            put_back(value)
        if self._shell is not None:
            put_back_shell(self._shell, self._shell_state)


def _function(value: Any) -> types.FunctionType | None:
    """The Python function of a method, a property or a function."""
    function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return function if isinstance(function, types.FunctionType) else None


def _restore_namespace(name: str, live: dict[str, Any], saved: dict[str, Any]) -> list[tuple[str, Any]]:
    """Put a module's names back; what was there instead of a function, class or module."""
    changed = []
    mine = name.split(".")[0] == "flowlib"
    for key, value in saved.items():
        now = live.get(key, _ABSENT)
        if now is not value and (mine or isinstance(value, _SOLID) or callable(value)):
            live[key] = value
            if callable(value) or isinstance(value, types.ModuleType):
                changed.append((key, now))
    if len(live) != len(saved):  # a new name may hide a built-in one
        for key in live.keys() - saved.keys():
            if hasattr(builtins, key) and not key.startswith("__"):
                changed.append((key, live.pop(key)))
    return changed


def _restore_class(kind: type, saved: dict[str, Any]) -> list[tuple[str, Any]]:
    """Put a class's methods back; what was there instead, or hid an inherited one."""
    changed = []
    now = vars(kind)
    for key, value in saved.items():
        if now.get(key, _ABSENT) is not value and (callable(value) or isinstance(value, _METHODS)):
            changed.append((key, now.get(key)))
            type.__setattr__(kind, key, value)
    if len(now) != len(saved):
        for key in now.keys() - saved.keys():
            hides = any(key in vars(base) for base in kind.__mro__[1:])
            if hides and (callable(now[key]) or isinstance(now[key], _METHODS)):
                changed.append((key, now[key]))
                type.__delattr__(kind, key)
    return changed
