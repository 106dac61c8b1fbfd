"""The last step of a chain as a decoder of data, whose variance must not vanish: the step from k to 0."""

import torch
from torch import Tensor

from flowlib.chains.ancestral import Reverse, reverse
from flowlib.chains.chain import Chain, Steps
from flowlib.chains.gaussians import Step, forward, posterior
from flowlib.checks import check_choice
from flowlib.fields import Field


def decoder_variance(
    chain: Chain, x: Tensor, k: Step, j: Step, small: Tensor, large: Tensor, before: int | None = None
) -> Tensor:
    """The smaller variance, but where j = 0 and it vanishes: there that of the step before, as in Nichol & Dhariwal's
    code. That leads to k from `before`, by default from 2k, as on an even stride; without one, k = T, it is `large`.

    Example:
        >>> import torch
        >>> from flowlib.chains import Chain, decoder_variance, forward, posterior
        >>> chain, x = Chain.linear(100), torch.zeros(1, 1).double()
        >>> small, large = posterior(chain, x, x, 1, 0)[1], forward(chain, x, 1, 0)[1]
        >>> bool(small == 0), bool(decoder_variance(chain, x, 1, 0, small, large) == posterior(chain, x, x, 2, 1)[1])
        (True, True)
    """
    if isinstance(j, int) and j:
        return small
    start, end = torch.as_tensor(k), torch.as_tensor(j)
    if not bool((end == 0).any()):
        return small
    ahead = (2 * start).clamp(max=chain.steps) if before is None else torch.full_like(start, before)
    none = ahead == start
    _, earlier = posterior(chain, x, x, ahead, start - none.long())
    return torch.where(_mask(end == 0, x), torch.where(_mask(none, x), large, earlier), small)


def step_before(chain: Chain, steps: Steps | None) -> int | None:
    """Where the last step but one of a sub-sequence leads from; None if it has one step only, or none is given."""
    k = [] if steps is None else chain.stride(steps).tolist()
    return k[-3] if len(k) > 2 else None


def fixed_reverse(field: Field, chain: Chain, variance: str = "large", steps: Steps | None = None) -> Reverse:
    """DDPM's reversal with a fixed variance, as a decoder too: at j = 0 both are `decoder_variance`, on these `steps`.

    Raises:
        ValueError: for another variance than "small" or "large".

    Example:
        >>> import torch
        >>> from flowlib import GaussianPath, MixtureField
        >>> from flowlib.chains import Chain, fixed_reverse
        >>> chain = Chain.linear(100)
        >>> field = MixtureField(torch.full((1, 2), 0.3).double(), 1e-3, path=GaussianPath(chain))
        >>> mean, variance = fixed_reverse(field, chain)(torch.randn(1, 2).double(), None, 1, 0)  # the last step
        >>> mean.round(decimals=2), bool((variance > 0).all())  # decodes to the data, with a variance that is not 0
        (tensor([[0.3000, 0.3000]], dtype=torch.float64), True)
    """
    check_choice("variance", variance, ["small", "large"])
    before = step_before(chain, steps)

    def step(x: Tensor, y: Tensor | None, k: int, j: int) -> tuple[Tensor, Tensor]:
        mean, small = reverse(field, chain, x, y, k, j)
        large = forward(chain, x, k, j)[1]
        small = decoder_variance(chain, x, k, j, small, large, before)
        return mean, small if variance == "small" else torch.where(_mask(torch.as_tensor(j) == 0, x), small, large)

    return step


def _mask(mask: Tensor, x: Tensor) -> Tensor:
    """A mask () or (B,) on x's device, of shape () or (B, 1, ..., 1)."""
    return mask.to(x.device).reshape(mask.shape + (1,) * (x.ndim - 1) * mask.ndim)
