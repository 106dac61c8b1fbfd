"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

# The recipes of this package, for completion, which does not wait until torch and the recipes are imported.
RECIPE_NAMES = (
    "autoencoder",
    "captioner",
    "captioner-descriptive",
    "captioner-short",
    "checkerboard",
    "classifier",
    "clip-conv",
    "clip-conv-2",
    "clip-noised",
    "clip-noised-agree",
    "clip-vit",
    "control-edges",
    "control-keypoints",
    "control-mask",
    "control-scribble",
    "dalle",
    "ddpm-cosine",
    "ddpm-linear",
    "denoiser",
    "digits",
    "digits-likelihood",
    "dvae",
    "first-stage",
    "gan",
    "iddpm-hybrid",
    "iddpm-vlb",
    "inpainting",
    "judge",
    "judge-32",
    "lora-glyph",
    "lora-striped",
    "mae",
    "mnist",
    "mnist-dit",
    "mnist-hour",
    "mnist-latent",
    "mnist-likelihood",
    "mnist-recall",
    "moons",
    "recaption",
    "recaption-given",
    "recaption-short",
    "sam",
    "scenes",
    "scenes-inpainter",
    "scenes-likelihood",
    "scenes-secondary",
    "scenes-text",
    "scenes-upsampler",
    "superresolution",
    "unclip",
    "unclip-prior",
    "unclip-prior-autoregressive",
    "vae",
    "words",
)


def complete_recipe(begun: str) -> list[str]:
    """The names of recipes that begin so."""
    return [name for name in RECIPE_NAMES if name.startswith(begun)]


Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(help="Source of all randomness.", min=0)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/mnist.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the processor; one a core by default.", min=1)]
Land = Annotated[
    float | None,
    typer.Option(
        metavar="TIME",
        help="Time in (0, 1) from which a fixed-step method's last step lands on the mean of the data.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="heun by default; euler, midpoint, rk4, dopri5 (adaptive) ..., ddim, sde, ddpm, ddpm-large, ddpm-learned."
    ),
]
