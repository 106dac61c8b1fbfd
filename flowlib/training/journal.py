"""The metrics of a run, one JSON object a line: step, lr, loss, other scalars, samples_per_second, seconds."""

import json
import os
from pathlib import Path
from typing import Any

from flowlib.files import WriteError, write_whole


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal, oldest first; a last line that was cut short by a crash is not one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if another line is no entry.

    Example:
        >>> from pathlib import Path
        >>> from flowlib.training import read_metrics
        >>> lines = '{"step": 10, "loss": 0.5}\\n{"step": 20, "lo'  # after a crash
        >>> size = Path("metrics.jsonl").write_text(lines)
        >>> read_metrics(Path("metrics.jsonl"))
        [{'step': 10, 'loss': 0.5}]
    """
    lines = Path(path).read_bytes().split(b"\n")  # what follows the last newline was never finished
    try:
        entries = [json.loads(line) for line in lines[:-1]]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: a line of it is no JSON ({error})") from None
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise ValueError(f"{path} is damaged: line {number} is no entry with a step")
    return entries


class Journal:
    """Appends entries to a file, first cutting off those after the step that a run goes on from."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        entries = read_metrics(path) if path.exists() else []
        kept = [entry for entry in entries if entry["step"] <= step]
        write_whole(path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())

    def write(self, entry: dict[str, Any], sync: bool = False) -> None:
        """Append one line, and with `sync` wait until all lines are on the disk.

        Raises:
            WriteError: if it cannot be written.
        """
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(f"{self.path} cannot be written ({error.strerror or error})") from error
