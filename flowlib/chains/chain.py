"""Discrete chains of noise levels, and the bridge to continuous time, both ways.

The DDPM family counts the other way: k = T is noise, k = 0 data, and `t = 1 - k/T` maps its steps to the time of the
library. It writes beta_k and alpha_k for what is called `var_k` and `1 - var_k` here, because alpha and beta are the
path's levels: the path's alpha_t^2 is `abar_k`, the product of all `1 - var_i` up to k, and beta_t^2 is `1 - abar_k`.

A chain is a `Schedule`, exact at its grid times and defined between them. `Chain.of` leads back: it reads the abar_k of
any schedule off a grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlib.checks import check_count, check_number, check_tensor
from flowlib.precision import double
from flowlib.schedules import Schedule

Steps = int | Sequence[int] | Tensor  # how many of a chain's steps to take, or which


class Chain(Schedule):
    """The Markov chain x_k = sqrt(1 - var_k) x_(k-1) + sqrt(var_k) eps, k = 1 ... T (Ho et al. 2020, equation 2).

    As a schedule, it is the VP SDE whose rate -d log(abar)/dt is constant within each step: the chain is that SDE, seen
    at the grid times only. alpha' and beta' jump there, where they are those of the step towards the data; beta' is
    infinite at t = 1.

    Args:
        var: (T,) floats in (0, 1), the variances var_1 ... var_T of the noise that each step adds.

    Attributes:
        var: (T + 1,) float64, indexed by k; var_0 = 0.
        log_abar: (T + 1,) float64, indexed by k; log abar_0 = 0. Its `expm1` keeps what 1 - abar_k would cancel.
        levels: the same as numbers.

    Raises:
        ValueError: for variances of another shape or outside (0, 1).

    Example:
        >>> from flowlib.chains import Chain
        >>> chain = Chain.linear(1000)  # DDPM's
        >>> round(chain.levels[1000], 2)  # log abar_T: nearly nothing of the data is left
        -10.12
    """

    def __init__(self, var: Tensor) -> None:
        check_tensor("var", var, batch=False)
        if var.ndim != 1 or not bool(((var > 0) & (var < 1)).all()):
            raise ValueError(
                f"var must be (T,) numbers in (0, 1), got shape {tuple(var.shape)}, {float(var.min())} "
                f"to {float(var.max())}"
            )
        zero = torch.zeros(1, dtype=torch.float64)
        self.var = torch.cat([zero, var.detach().cpu().double()])
        self.log_abar = torch.log1p(-self.var).cumsum(0)
        self.levels: list[float] = self.log_abar.tolist()

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> "Chain":
        """DDPM's chain: var_k from `first` to `last` in equal steps, times 1000 / T (Ho et al. 2020, section 4).

        The factor keeps abar_T where it is for another T (Nichol & Dhariwal 2021). T must exceed 1000 `last`: a
        variance of 1 or more leaves no signal.

        Raises:
            ValueError: for a T that is too small, or variances outside (0, 1).
        """
        check_count("steps", steps)
        check_number("first", first, 0, low_open=True)
        check_number("last", last, first)
        if last * 1000 / steps >= 1:
            raise ValueError(f"steps must be above {1000 * last:g}, where the last variance would be 1; got {steps}")
        return cls(torch.linspace(first, last, steps, dtype=torch.float64) * (1000 / steps))

    @classmethod
    def of(cls, schedule: Schedule, steps: int = 1000, max_var: float = 0.999) -> "Chain":
        """The chain of any schedule: abar_k = alpha^2 / (alpha^2 + beta^2) at t = 1 - k/T, for k = 1 ... T.

        Its state is x_t / sqrt(alpha_t^2 + beta_t^2), which is x_t itself where variance is preserved. Of `Cosine()`
        this is improved DDPM's chain (Nichol & Dhariwal 2021, section 3.2), with var_k clipped at `max_var`: the last
        one would be 1.

        Raises:
            ValueError: for something that is no schedule, or a number that does not fit.
        """
        if not isinstance(schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(schedule).__name__}")
        check_count("steps", steps)
        check_number("max_var", max_var, 0, 1, low_open=True, high_open=True)
        t = 1 - torch.arange(1, steps + 1, dtype=torch.float64) / steps
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        # As a difference of logarithms, which is accurate at both ends of time; abar_T may be 0.
        log_abar = 2 * torch.log(alpha) - torch.log(alpha**2 + beta**2)
        var = -torch.expm1(torch.diff(log_abar, prepend=torch.zeros(1, dtype=torch.float64)))
        return cls(var.clamp(max=max_var))

    def __repr__(self) -> str:
        return f"Chain(T={self.steps}, var={float(self.var[1]):.3g} ... {float(self.var[-1]):.3g})"

    @property
    def steps(self) -> int:
        """T."""
        return len(self.var) - 1

    @property
    def abar(self) -> Tensor:
        """(T + 1,) float64, the share of the variance that is signal, indexed by k; abar_0 = 1."""
        return torch.exp(self.log_abar)

    def time(self, k: int | Tensor) -> Tensor:
        """t = 1 - k/T, float64, shaped like k."""
        return 1 - double(torch.as_tensor(k)) / self.steps

    def stride(self, steps: Steps, power: float = 1.0) -> Tensor:
        """A sub-sequence T = k_0 > ... > k_steps = 0 (Song et al. 2021, section 4.2), integers, shape (steps + 1,).

        They are T (i / steps)^power, rounded: evenly spread, or denser towards the data for power > 1 (ibid., appendix
        D.2, uses 2 for one data set). Entries that rounding makes equal are an error. A list is taken as it is.

        Raises:
            ValueError: unless 1 <= steps <= T and all entries differ; for a list that does not fall from T to 0.
        """
        if isinstance(steps, Tensor | Sequence) and not isinstance(steps, str):
            listed = torch.as_tensor(steps)
            whole = listed.ndim == 1 and len(listed) > 1 and not (listed.is_floating_point() or listed.is_complex())
            k = listed.cpu().long()
            if not whole or int(k[0]) != self.steps or int(k[-1]) != 0 or not bool((k.diff() < 0).all()):
                raise ValueError(f"steps must be a number, or integers that fall from {self.steps} to 0; got {steps}")
            return k
        if check_count("steps", steps) > self.steps:
            raise ValueError(f"steps must be at most {self.steps}, the steps of the chain; got {steps}")
        check_number("power", power, 0, low_open=True)
        k = (self.steps * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** power).round().long()
        if not bool((k.diff() < 0).all()):
            raise ValueError(f"steps = {steps} with power = {power} rounds two steps of {self.steps} to the same one")
        return k

    def spread(self, steps: int) -> Tensor:
        """The sub-sequence of Nichol & Dhariwal (2021, section 4): from T to 1, evenly spread, then 0; (steps + 1,).

        The last step of `stride` leads from T / steps to 0, that of this one from 1: another bound in bits.

        Raises:
            ValueError: unless 2 <= steps <= T.
        """
        if check_count("steps", steps, 2) > self.steps:
            raise ValueError(f"steps must be at most {self.steps}, the steps of the chain; got {steps}")
        k = 1 + torch.linspace(self.steps - 1, 0, steps, dtype=torch.float64).round().long()
        return torch.cat([k, torch.zeros(1, dtype=torch.long)])

    def _cell(self, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step k that a position in (k - 1, k] lies in, and -log abar at both its ends."""
        table = -self.log_abar.to(position.device)
        k = position.ceil().clamp(1, self.steps).long()
        return k, table[k - 1], table[k]

    def _decay(self, t: Tensor) -> Tensor:
        """-log abar between the grid times, float64."""
        position = (1 - double(t)) * self.steps
        k, low, high = self._cell(position)
        return low + (position - (k - 1)) * (high - low)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._decay(t) / 2).to(t)

    def beta(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._decay(t))).to(t)

    def dalpha(self, t: Tensor) -> Tensor:
        # A grid time that was rounded, to float32 even, still belongs to the step that goes on from it.
        wide = double(t)
        _, low, high = self._cell((1 - wide) * self.steps - 1e-3)
        return (self.alpha(wide) * (self.steps * (high - low) / 2)).to(t)

    def dbeta(self, t: Tensor) -> Tensor:
        wide = double(t)
        return (-self.alpha(wide) * self.dalpha(wide) / self.beta(wide)).to(t)
