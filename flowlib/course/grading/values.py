"""Values that leave the place where they were made: copied for another namespace, or described in a message."""

import copy
from typing import Any

_LONGEST = 2000  # characters of a message


def copies(values: dict[str, Any]) -> dict[str, Any]:
    """Values that may be changed without harm to the originals, as far as they can be copied."""
    import torch

    known: dict[int, Any] = {}
    made = {}
    for name, value in values.items():
        if name.startswith("__"):
            continue
        try:
            made[name] = value.clone_state() if isinstance(value, torch.Generator) else copy.deepcopy(value, known)
        except Exception:  # what cannot be copied is shared
            made[name] = value
    return made


def described(error: BaseException) -> dict[str, Any]:
    """An error as the protocol has it, in text that can be sent: its words are the student's."""
    try:
        said = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else str(error)
    except BaseException:  # an exception of the student's own
        said = ""
    return {"ename": _sendable(type(error).__name__), "evalue": _sendable(said), "traceback": []}


def _sendable(text: str) -> str:
    return text[:_LONGEST].encode("utf-8", "replace").decode()
