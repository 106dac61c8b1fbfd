"""What a run's test images cost in bits, by the variational bound of its chain."""

from functools import partial

import torch
from torch import Tensor

from flowlib.chains import Clipped, chain_of, fixed_reverse, variational_bound
from flowlib.checks import check_choice, check_count
from flowlib.data import load
from flowlib.runs import Run, RunError
from flowlib.systems.improved_ddpm import LearnedVariance
from flowlib.systems.latent import LatentModel
from flowlib.training.devices import autocast
from flowlib.training.order import stream


def bound_of_test_set(
    run: Run,
    *,
    images: int = 100,
    variance: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> Tensor:
    """The variational bound of the first `images` test images under a chain without a label, bits/dim: (images, terms).

    Columns: the prior's term, then those of k = T first and k = 1 last. Each is from one draw of x_k, in float32. D is
    clipped to [-1, 1], as in Nichol & Dhariwal's evaluation and in `Run.sample`.

    Args:
        run: on the pixels of MNIST or of the 8x8 digits, with a chain.
        variance: "learned", "small" or "large"; by default what the network has learned, or else "large".
        steps: as in `variational_bound`; batch_size: images at a time.

    Raises:
        RunError: for a run on other data, a latent one, or one without a chain or without a learned variance.
        ValueError: for an argument that does not fit.
    """
    data = load(run.recipe.data, "test")
    if data.levels is None or isinstance(run.field, LatentModel) or not run.recipe.chain:
        raise RunError(
            f"a variational bound in bits/dim needs a run with a chain on pixels: {run.recipe.name!r} is none"
        )
    # D as a picture: at k = T an error of the noise is one of D that is 1 / alpha_T times as large.
    learned = partial(run.field.reverse, clip=1.0) if isinstance(run.field, LearnedVariance) else None
    if variance is None:
        variance = "large" if learned is None else "learned"
    if check_choice("variance", variance, ["learned", "small", "large"]) == "learned" and learned is None:
        raise RunError(f"variance 'learned' needs a run with a learned variance: {run.recipe.name!r} has none")
    chain = chain_of(run.field)
    reverse = learned if learned and variance == "learned" else fixed_reverse(Clipped(run.field), chain, variance)
    x = data.images[: check_count("images", images)].to(run.device)
    with autocast("fp32", run.device):
        bound = variational_bound(
            reverse, chain, x, steps=steps, levels=data.levels, generator=stream(seed, "bound"),
            batch_size=batch_size,
        )  # fmt: skip
    return torch.cat([bound.prior[:, None], bound.terms], dim=1)
