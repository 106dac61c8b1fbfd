"""Errors across two processes: the name of a built-in class, a name, and words. An error that comes back is itself."""

import builtins
from typing import Any

from flowlib.course.grading.links import Links
from flowlib.course.grading.wire import Broken

_LONGEST = 2000  # characters of a message


def described(links: Links, error: BaseException) -> list[Any]:
    """An error: the names of its classes, the nearest first, its words, and its number if the other side made it."""
    known = links.theirs_of(error)
    number = None if known is not None else links.offer(error)
    names = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    return [_sendable(names), words(error), ["mine", number] if known is None else ["yours", known]]


def error(links: Links, said: Any) -> BaseException:
    """The error of `described`, to be raised here."""
    names, text, (whose, number) = said
    if whose == "yours":
        mine = links.mine[number]
        return mine if isinstance(mine, BaseException) else Broken("an error of no number")
    kind: Any = next((vars(builtins)[name] for name in names if _is_error(vars(builtins).get(name))), Exception)
    if issubclass(kind, UnicodeError):
        kind = ValueError
    if names[0] != kind.__name__ and str(names[0]).isidentifier():
        kind = type(str(names[0])[:80], (kind,), {})
    made = kind(str(text))
    links.take(number, made)
    return made


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException) and "Group" not in kind.__name__


def words(error: BaseException) -> str:
    """What an error says, in text that can be sent: its words may be a student's."""
    try:
        said = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else str(error)
        if isinstance(error, KeyError) and len(error.args) == 1:
            said = str(error.args[0])  # which the other side's KeyError puts in quotes once more
        return _sendable(said)
    except BaseException:  # an exception of the student's own
        return ""


def _sendable(text: Any) -> Any:
    if isinstance(text, list):
        return [_sendable(part) for part in text]
    return text[:_LONGEST].encode("utf-8", "replace").decode()
