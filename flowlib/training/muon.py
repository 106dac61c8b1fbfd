"""Muon: momentum whose update of each weight matrix is made orthogonal (Jordan et al. 2024).

Adam scales each entry of a matrix on its own. Muon replaces the momentum M = U S V^T by about U V^T, so that every
direction in which the gradient points moves equally far. torch.optim.Muon takes matrices only. A convolution kernel is
one too, with a row for each output channel, and convolutions are most of a U-Net.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flowlib.checks import check_number


def orthogonalise(matrix: Tensor, steps: int = 5, half: bool = True) -> Tensor:
    """About U V^T for a matrix (rows, columns) = U S V^T: singular values between 0.7 and 1.2, float32.

    Newton-Schulz iterations of an odd polynomial, whose coefficients are Jordan's, chosen for a steep slope at zero.
    bfloat16 (`half`) is enough, because only the directions matter. But two trainings whose gradients differ in the
    last bit, as those summed by one process and by two do, are then farther apart after 50 steps than the 1e-4 that
    `tests/training/test_distributed.py` allows in float32.
    """
    x = matrix.bfloat16() if half else matrix.float()
    x = x / x.norm().clamp_min(1e-30)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(steps):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return (wide if x.shape[0] <= x.shape[1] else wide.T).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters with two or more dimensions (the first is the rows).

    Args:
        params: the parameters, each with ndim >= 2.
        lr: the step; an update has root mean square about lr / sqrt(columns).
        momentum: in [0, 1).
        weight_decay: decoupled, as in AdamW.
        half: whether updates are made orthogonal in bfloat16, or else in float32.

    Raises:
        ValueError: for a vector among the parameters, or a number out of its range.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0,
        half: bool = True,
    ) -> None:  # fmt: skip
        check_number("lr", lr, 0)
        check_number("momentum", momentum, 0, 1, high_open=True)
        check_number("weight_decay", weight_decay, 0)
        params = list(params)
        if any(p.ndim < 2 for p in params):
            raise ValueError("Muon takes matrices and kernels only: give vectors and scalars to AdamW")
        self.half = half
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - momentum)
                update = orthogonalise(p.grad.lerp(state["momentum"], momentum).flatten(1), half=self.half)
                # A tall matrix's orthogonal factor changes its output less for each input: this evens it out.
                gain = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.mul_(1 - lr * group["weight_decay"]).add_(update.view_as(p), alpha=-lr * gain)
