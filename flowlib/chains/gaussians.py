"""The Gaussians of a chain: a jump of it forwards, and where it came from once its end is known (Ho et al. 2020).

The DDPM family counts the other way: k = T is noise, k = 0 data, and `t = 1 - k/T`.

Example:
    >>> import torch
    >>> from flowlib.chains import forward, named_chain, posterior
    >>> chain, x = named_chain("vp", 1000), torch.ones(1, 2)
    >>> mean, variance = forward(chain, x, 1000)  # nearly nothing is left of x
    >>> bool(mean.abs().max() < 0.01), bool((variance > 0.999).all())
    (True, True)
    >>> posterior(chain, torch.zeros(1, 2), x, 500)[0].shape
    torch.Size([1, 2])
"""

from numbers import Integral

import torch
from torch import Tensor

from flowlib.chains.chain import Chain
from flowlib.checks import check_tensor
from flowlib.precision import double_device

Step = int | Tensor


def forward(chain: Chain, x: Tensor, k: Step, j: Step = 0) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_k | x_j): sqrt(abar_k / abar_j) x_j and 1 - abar_k / abar_j (Ho et al., equation 4).

    With j = 0 that is the chain in one jump, N(sqrt(abar_k) x_0, 1 - abar_k); with j = k - 1, one step of it.

    Args:
        chain: of T steps.
        x: x_j, shape (B, ...).
        k, j: 0 <= j <= k <= T, each an integer or a tensor of B integers.

    Returns:
        the mean, shaped like x, and the variance, of shape () or (B, 1, ..., 1).

    Raises:
        ValueError: for steps outside that range, or no floats.
    """
    check_tensor("x", x, finite=False)
    ratio = _log_abar("k", chain, k, x) - _log_abar("j", chain, j, x)
    if k < j if _numbers(k, j) else bool((ratio > 0).any()):
        raise ValueError(f"k must not be less than j, got k = {k} and j = {j}")
    return torch.exp(ratio / 2).to(x) * x, -torch.expm1(ratio).to(x)


def posterior(chain: Chain, x: Tensor, x_0: Tensor, k: Step, j: Step | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_j | x_k, x_0), where the chain came from if it ended in x_0 (Ho et al., equations 6, 7).

    With v = 1 - abar_k / abar_j, the variance of x_k given x_j: the mean is
    (sqrt(abar_j) v x_0 + sqrt(abar_k / abar_j) (1 - abar_j) x_k) / (1 - abar_k), the variance v (1 - abar_j) /
    (1 - abar_k), which is 0 for j = 0.

    Args:
        chain: of T steps.
        x, x_0: x_k and the data point, both (B, ...).
        k, j: 0 <= j < k <= T, each an integer or a tensor of B integers; j is k - 1 by default.

    Returns:
        the mean, shaped like x, and the variance, of shape () or (B, 1, ..., 1).

    Raises:
        ValueError: for steps outside that range, or shapes that differ.
    """
    check_tensor("x", x, finite=False)
    check_tensor("x_0", x_0, finite=False)
    if x.shape != x_0.shape:
        raise ValueError(f"x_0 must have the shape of x, {tuple(x.shape)}, got {tuple(x_0.shape)}")
    log_k = _log_abar("k", chain, k, x)
    j = k - 1 if j is None else j
    log_j = _log_abar("j", chain, j, x)
    if k <= j if _numbers(k, j) else not bool((log_k < log_j).all()):
        raise ValueError(f"k must be greater than j, got k = {k} and j = {j}")
    added, noise_j, noise_k = (-torch.expm1(part) for part in (log_k - log_j, log_j, log_k))
    of_data = torch.exp(log_j / 2) * added / noise_k
    of_state = torch.exp((log_k - log_j) / 2) * noise_j / noise_k
    return of_data.to(x) * x_0 + of_state.to(x) * x, (added * noise_j / noise_k).to(x)


def step_time(chain: Chain, k: Step) -> float | Tensor:
    """The time of step k: of an integer the number 1 - k/T, by which a sampler's grid knows it."""
    return 1 - k / chain.steps if _numbers(k) else chain.time(k)


def _numbers(*steps: Step) -> bool:
    """Whether all are integers, about which no device need be asked."""
    return all(isinstance(k, Integral) and not isinstance(k, bool) for k in steps)


def _log_abar(name: str, chain: Chain, k: Step, x: Tensor) -> Tensor:
    """log abar_k as float64, of shape () or (B, 1, ..., 1), on x's device, or on the CPU if that has no float64."""
    device = double_device(x.device)
    if _numbers(k):
        if not 0 <= k <= chain.steps:
            raise ValueError(f"{name} must lie in 0 ... {chain.steps}, got {k}")
        return torch.full((), chain.levels[k], dtype=torch.float64, device=device)
    index = torch.as_tensor(k)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"{name} must be an integer or a tensor of integers, got {k!r}")
    if index.shape not in ((), (len(x),)):
        raise ValueError(f"{name} must have shape () or ({len(x)},), got {tuple(index.shape)}")
    index = index.long()
    if int(index.min()) < 0 or int(index.max()) > chain.steps:
        raise ValueError(f"{name} must lie in 0 ... {chain.steps}, got {int(index.min())} ... {int(index.max())}")
    level = chain.log_abar[index.cpu()].to(device)
    return level if level.ndim == 0 else level.reshape(-1, *[1] * (x.ndim - 1))
