"""The page of the zoo: of each trained run a picture where it draws, its command, and what it was measured at."""

import io
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from flowlib.cli import main
from flowlib.runs.zoo import names
from flowlib.weights import FOLDER, describe_weights

# The systems whose runs draw from noise, labels or captions alone. The others match, read or change pictures.
DRAWS = ("flow", "disco", "glide", "inpainter", "dalle")

INTRODUCTION = """\
# The zoo: trained runs that come with the package

`zoo:NAME` stands wherever a command asks for a run's folder, and `load_pretrained("NAME")` loads one in Python. Each is
the run of a recipe as it stands, with the seed of the recipe: nothing is hand-picked. Pictures are drawn when this site
is built, with seed 0. The figures are those that `flowlib evaluate` measured when the weights were made.

```python
from flowlib.runs import load_pretrained

run = load_pretrained("scenes")
pictures = run.sample(count=16, seed=0)  # (16, 3, 16, 16) in [-1, 1]
```
"""


def write(target: Path, kept: Path) -> None:
    """Write zoo.md into `target` and the pictures beside it; `kept` holds those that were drawn before."""
    (target / "zoo").mkdir(parents=True)
    kept.mkdir(parents=True, exist_ok=True)
    text = INTRODUCTION
    for name in names():
        known = describe_weights(name)
        recipe = known["run"]["recipe"]
        size = (FOLDER / f"{name}.safetensors").stat().st_size / 2**20
        text += f"\n## {name}\n\n"
        picture = kept / f"{name}-{known['sha256'][:16]}.png"
        command = ["sample", f"zoo:{name}", "--count", "24"]
        if recipe["system"]["system"] in DRAWS:
            if not picture.exists():
                draw([*command, "--out", str(picture)])
            shutil.copy(picture, target / "zoo" / f"{name}.png")
            text += f"![What {name} draws: small pictures side by side](zoo/{name}.png)\n\n"
            text += f"`flowlib {' '.join(command)}`\n\n"
        text += (
            f"System `{recipe['system']['system']}`, data `{recipe['data']}`, {size:.2f} MiB in half precision. "
            f"Made by `{known['command']}`: {known['steps']:,} steps, {known['seconds'] / 60:.0f} minutes on "
            f"{known['machine']}.\n\n"
        )
        text += table(known["figures"])
    (target / "zoo.md").write_text(text, "utf-8")


def draw(command: list[str]) -> None:
    """Let the command line draw; an error if it cannot."""
    with redirect_stdout(io.StringIO()):
        status = main(command)
    if status:
        raise RuntimeError(f"flowlib {' '.join(command)}: exit status {status}")


def table(rows: list[Mapping[str, Any]]) -> str:
    """Rows of a report as a Markdown table; columns that a row lacks stay empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        lines.append(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
        )
    return "\n".join(lines) + "\n"
