"""What a recipe says of a chain, the name of its schedule and its T; and the times that such a chain is trained at."""

import torch
from torch import Tensor

from flowlib.chains.chain import Chain
from flowlib.checks import check_count
from flowlib.schedules import SCHEDULES
from flowlib.times import TimeSampler, uniform_time


def named_chain(name: str, steps: int) -> Chain:
    """The chain of T = `steps` that belongs to a name in `SCHEDULES`: "vp" is DDPM's linear one, whose limit VP is.

    Raises:
        ValueError: for a T that does not fit.

    Example:
        >>> from flowlib.chains import named_chain
        >>> named_chain("cosine", 100).steps
        100
    """
    return Chain.linear(steps) if name == "vp" else Chain.of(SCHEDULES[name](), steps)


def grid_time(steps: int) -> TimeSampler:
    """Times 1 - k/T for k uniform in 1 ... T = `steps`: those that DDPM trains at. Stratified like `uniform_time`.

    Raises:
        ValueError: unless steps >= 1.

    Example:
        >>> from flowlib.chains import grid_time
        >>> sorted(set(grid_time(4)(100, None).tolist()))
        [0.0, 0.25, 0.5, 0.75]
    """
    check_count("steps", steps)

    def draw(count: int, generator: torch.Generator | None = None) -> Tensor:
        k = 1 + (uniform_time(count, generator).double() * steps).floor()
        return (1 - k / steps).float()

    return draw
