"""The divergence of a velocity in x, exactly or by an unbiased estimate."""

import torch
from torch import Tensor

from flowlib.gradients import differentiable, recorded
from flowlib.solvers import Velocity


def divergence(
    f: Velocity, x: Tensor, t: Tensor, probe: Tensor | None = None, graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Return `f(x, t)` (B, ...) and its divergence in x (B,), for samples of any shape.

    Without a `probe` exactly, by one backward pass for each of the sample's components; with one (B, ...) as the
    unbiased estimate probe . (J probe) (Hutchinson 1989; Grathwohl et al. 2019), by one backward pass. With `graph`
    both can be differentiated again.

    Example:
        >>> import torch
        >>> from flowlib.divergence import divergence
        >>> divergence(lambda x, t: 3 * x, torch.ones(2, 4), torch.tensor(0.5))[1]
        tensor([12., 12.])
    """
    with differentiable():
        x = x if graph and x.requires_grad else recorded(x.detach()).requires_grad_()
        value = f(x, t)
        if probe is not None:
            product = torch.autograd.grad((value * probe).sum(), x, create_graph=graph)[0]
            return value if graph else value.detach(), (product * probe).flatten(1).sum(1)
        flat = value.flatten(1)
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for i in range(flat.shape[1]):
            gradient = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True, create_graph=graph)[0]
            total = total + gradient.flatten(1)[:, i]
    return value if graph else value.detach(), total
