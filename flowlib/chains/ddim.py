"""DDIM beside its sampler: encoding data, and DDPM's clipping (Song et al. 2021, arXiv:2010.02502).

The eta family itself is the core's `sample_ddim`. Its eta = 1 is DDPM's ancestral sampling with the posterior's
variance; DDPM's larger variance is not a member, because it adds noise without taking eps_hat back. Sub-sequences of a
chain's steps are `sample_ddim(times=chain.time(chain.stride(steps)))`.

Example:
    >>> import torch
    >>> from flowlib import MixtureField, sample_ddim
    >>> from flowlib.chains import encode_ddim
    >>> field, z = MixtureField(torch.eye(2), std=0.5), torch.tensor([[1.0, 0.5]])
    >>> latent = encode_ddim(field, z, steps=100)
    >>> sample_ddim(field, latent, steps=100).round(decimals=1)  # the way back
    tensor([[1.0000, 0.5000]])
"""

from torch import Tensor

from flowlib.checks import check_number, check_tensor
from flowlib.ddim import ddim_step
from flowlib.field import Field, FieldOf, check_field
from flowlib.requests import guide_of, in_parts, prepare, time_steps


def encode_ddim(
    field: Field,
    z: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 50,
    times: Tensor | None = None,
    trajectory: bool = False,
    batch_size: int | None = None,
) -> Tensor:
    """The latent of data: DDIM's steps at eta = 0 from t = 1 to t = 0 (Song et al. 2021, section 4.3 and eq. 14).

    `sample_ddim` with the same times leads back, up to an error of order 1 / steps: each way takes D and eps_hat at the
    end of a step that it comes from.

    Args:
        field: any field that determines D and eps_hat at the last of `times`: at t = 1 one that predicts "data" does
            not, and neither does a finite data set. End `times` before 1 for these.
        z: data (B, ...).
        y: guides (B,), or None for the null guide.
        steps: of a uniform grid.
        times: (N + 1,) increasing times in [0, 1] to use instead; they are gone through backwards.
        trajectory: return all states (N + 1, B, ...), the data first, instead of the latent (B, ...).
        batch_size: work through the samples so many at a time.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_field(field)
    check_tensor("z", z)
    with prepare(field, z, y, steps, times, batch_size) as grid:
        start, back = field.path.schedule.beta(grid.times[0]), grid.points[::-1]

        def solve(part: slice) -> list[Tensor]:
            x, guide = z[part], guide_of(y, part)
            states = [x]
            for i, _, _ in time_steps(grid):
                x = ddim_step(field, x, guide, back[i], back[i + 1])
                states = [*states, x] if trajectory else [x]
            return [*states[:-1], states[-1] / start]  # a sampler starts from beta_0 times the noise that it is given

        return in_parts(solve, len(z), batch_size, trajectory)


class Clipped(FieldOf):
    """A field whose D = E[z|x] is clipped to [-limit, limit], the range of the data, and eps_hat moved accordingly.

    What DDPM's code does in each step of its sampler, here for every sampler: with few steps, an error of eps_hat at
    k = T is an error of D 1 / alpha_T = 157 times as large. At t = 1, where x is the data, only D is known. Adaptive
    solvers of the ODE want a smooth field, which this is not.

    Raises:
        ValueError: for something that is no field, or a limit that is not positive.

    Example:
        >>> import torch
        >>> from flowlib import VP, GaussianPath, MixtureField
        >>> from flowlib.chains import Clipped
        >>> field = MixtureField(torch.full((1, 2), 3.0), std=0.1, path=GaussianPath(VP()))
        >>> Clipped(field).data(torch.zeros(1, 2), 0.5)
        tensor([[1., 1.]])
    """

    predicts = "data"

    def __init__(self, field: Field, limit: float = 1.0) -> None:
        super().__init__(field)
        self.limit = check_number("limit", limit, 0, low_open=True)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        return self.field.data(x, t, y).clamp(-self.limit, self.limit)
