"""What test images cost in bits, by the variational bound of a chain."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowlib.chains import Clipped, chain_of, fixed_reverse, variational_bound
from flowlib.chains.chain import Steps
from flowlib.chains.decoder import step_before
from flowlib.checks import check_choice, check_count
from flowlib.data import Dataset
from flowlib.training.devices import autocast
from flowlib.training.order import stream


def bound_of_test_set(
    field: Any,
    test: Dataset,
    *,
    images: int = 100,
    variance: str | None = None,
    steps: Steps | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> Tensor:
    """The variational bound of the first `images` test images under a chain without a label, bits/dim: (images, terms).

    Columns: the prior's term, then those of k = T first and k = 1 last. Each is from one draw of x_k, in float32. D is
    clipped to [-1, 1], as in Nichol & Dhariwal's evaluation and in `sample_flow`.

    Args:
        field: a module with a chain for its path, on pixels.
        test: the data, whose pixels have `levels` values.
        images: how many of them.
        variance: "learned", "small" or "large"; by default what the network has learned, or else "large".
        steps: as in `variational_bound`; batch_size: images at a time.

    Raises:
        ValueError: for other data, a field of latents, one without a chain or without a learned variance, or an
            argument that does not fit.

    Example:
        >>> import torch
        >>> from flowlib.data import load
        >>> from flowlib.systems import FlowSystem, bound_of_test_set
        >>> digits = load("digits", "test")
        >>> system = FlowSystem(net_args={"channels": [8, 16]}, chain=50, schedule="vp", time="uniform")
        >>> field = system.build(digits.spec, {}, torch.Generator())  # untrained
        >>> bound = bound_of_test_set(field, digits, images=2)
        >>> bound.shape, bool(bound.sum(1).mean() > 4.09)  # log2(17) bits is what knowing nothing of a pixel costs
        (torch.Size([2, 51]), True)
    """
    if test.levels is None or hasattr(field, "decode") or not hasattr(field.path.schedule, "stride"):
        raise ValueError("a variational bound in bits/dim needs a field with a chain on pixels: this is none")
    # D as a picture: at k = T an error of the noise is one of D that is 1 / alpha_T times as large.
    chain, device = chain_of(field), next(field.parameters()).device
    before = step_before(chain, steps)
    learned = partial(field.reverse, clip=1.0, before=before) if hasattr(field, "reverse") else None
    if variance is None:
        variance = "large" if learned is None else "learned"
    if check_choice("variance", variance, ["learned", "small", "large"]) == "learned" and learned is None:
        raise ValueError("variance 'learned' needs a model that has learned its variance")
    fixed = None if variance == "learned" else fixed_reverse(Clipped(field), chain, variance, steps)
    reverse = learned if learned and fixed is None else fixed
    assert reverse is not None
    x = test.images[: check_count("images", images)].to(device)
    with autocast("fp32", device):
        bound = variational_bound(
            reverse, chain, x, steps=steps, levels=test.levels, generator=stream(seed, "bound"), batch_size=batch_size
        )
    return torch.cat([bound.prior[:, None], bound.terms], dim=1)
