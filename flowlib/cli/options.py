"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(help="Source of all randomness.", min=0)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/mnist.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the processor; one a core by default.", min=1)]
Method = Annotated[
    str | None,
    typer.Option(
        help="heun by default; euler, midpoint, rk4, dopri5 (adaptive) ..., ddim, sde, ddpm, ddpm-large, ddpm-learned."
    ),
]
