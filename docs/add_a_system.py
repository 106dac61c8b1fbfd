# %% [markdown]
# # Add a system
#
# A system is one file. This page is such a file: a small system that stands outside the package, and that the command
# line trains, resumes, samples and measures without a change to any other file. Save it as `gaussians.py`, and:
#
# ```sh
# export FLOWLIB_SYSTEMS=gaussians.py        # several files are joined by : (on Windows by ;)
# flowlib train gaussians                    # stop it at any moment; --resume goes on to the same bits
# flowlib sample runs/gaussians --label 3
# flowlib evaluate runs/gaussians
# flowlib mean runs/gaussians --label 3      # the command that it brings
# ```
#
# A system of the package is the same file in `flowlib/systems/`, its recipes in `flowlib/recipes/`, its networks in
# `flowlib/nets/`. A package of your own names its module as an entry point in the group `flowlib.systems`.
#
# What does this one do? It fits a Gaussian to each label, component by component, by gradient descent on the negative
# log-likelihood. No network is needed to show where each thing goes.

# %%
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_number
from flowlib.data import Data, Dataset, Spec
from flowlib.plotting import picture_grid, save_figure
from flowlib.recipes import Recipe
from flowlib.systems.guides import choose_labels
from flowlib.systems.measuring import report_samples
from flowlib.systems.system import (
    Command,
    Parts,
    ReportRequest,
    Row,
    SampleRequest,
    Splits,
    Stage,
    register,
)
from flowlib.training import Task, Training, Turn
from flowlib.training.order import stream

# %% [markdown]
# **The networks** are a module like any other. What is to be kept with the weights is a parameter or a buffer of it.
# A network for the optimiser Muon also says which of its layers are `edges`: the first, the last, embeddings.


# %%
class Gaussians(nn.Module):
    """A Gaussian of independent components for each of `classes` labels."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(classes, *shape))
        self.log_std = nn.Parameter(torch.zeros(classes, *shape))

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x|y) in nats up to a constant, a mean over components: (B,)."""
        gap = (x - self.mean[y]) * torch.exp(-self.log_std[y])
        return -(0.5 * gap**2 + self.log_std[y]).flatten(1).mean(1)


# %% [markdown]
# **A command** is a request, a dataclass whose fields become options, and a function of a loaded run and the request
# that returns lines to print.


# %%
@dataclass(frozen=True, kw_only=True)
class MeanRequest:
    """What `flowlib mean` is asked for."""

    label: int = field(default=0, metadata={"help": "Of which label."})
    out: str = field(default="mean.png", metadata={"help": "File to write."})

    def __post_init__(self) -> None:
        check_count("label", self.label, 0)


def draw_mean(run, request: MeanRequest) -> Sequence[str]:  # type: ignore[no-untyped-def]
    """Draw the mean image of a label."""
    if request.label >= run.classes or len(run.shape) != 3:
        raise ValueError(f"label must lie in 0 ... {run.classes - 1} of images, got {request.label}")
    save_figure(picture_grid(run.module.mean[request.label][None].cpu()), request.out)
    return [f"the mean of label {request.label}: {request.out}"]


# %% [markdown]
# **The system** is its settings, checked when it is made, and a few methods. `register` gives it its name.
#
# - `build` makes the untrained module from the `Spec` of the data: their shape, how many labels. It gets no data, so
#   that a run can be loaded without any.
# - `stages` says what is trained, and how: here one task with one loss. The loss is told its `Turn`: which data are in
#   the batch, which part of it this process computes, and the generator of all random numbers. A loss may also return
#   several scalars by name, `"loss"` among them; a task may have several players, which take turns; a system may have
#   several stages.
# - `sample` is optional. `guides` says what to ask for when nobody says more than labels.
# - `report` is the table that `flowlib evaluate` prints.


# %%
@register("gaussians", commands=[Command("mean", MeanRequest, draw_mean, help="Draw the mean image of a label.")])
@dataclass(frozen=True, kw_only=True)
class GaussiansSystem:
    """A Gaussian for each label, with standard deviations of at least `floor`."""

    floor: float = 0.05

    def __post_init__(self) -> None:
        check_number("floor", self.floor, 0, low_open=True)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if not spec.classes:
            raise ValueError("a Gaussian for each label needs data with labels")
        return Gaussians(spec.classes, spec.shape)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Gaussians)

        def loss(turn: Turn) -> dict[str, Tensor]:
            batch = data.batch(turn.mine)
            noise = self.floor * turn.normal(*data.shape).to(batch["x"])  # no deviation then falls below the floor
            nats = -module.log_prob(batch["x"] + noise, batch["label"]).mean()
            return {"loss": nats, "deviation": module.log_std.exp().mean()}

        return [Stage("fit", Task(module, loss, data.count))]

    def guides(
        self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]
    ) -> Tensor | None:
        return choose_labels(spec, labels, count)

    def sample(self, module: nn.Module, parts: Parts, request: SampleRequest) -> Tensor:
        assert isinstance(module, Gaussians)
        if request.y is None:
            raise ValueError("y must be given: there is a Gaussian for each label and none for all")
        noise = torch.randn(request.count, *request.spec.shape, generator=stream(request.seed, "noise"))
        return module.mean[request.y] + module.log_std[request.y].exp() * noise.to(module.mean)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        return report_samples(self, module, data, parts, request, labelled=True)


# %% [markdown]
# **The recipe** says what is trained by default: `RECIPES` of the file, a tuple. `--set floor=0.1`, `--steps`,
# `--data FOLDER` change it, as they do every recipe.

# %%
RECIPES = (
    Recipe(
        name="gaussians",
        data="digits",
        system=GaussiansSystem(),
        training=Training(steps=300, batch_size=128, lr=0.05, ema=0.9, weight_decay=0.0),
    ),
)

# %% [markdown]
# **A system that stands on finished ones** has a field `parts`, for example `{"classifier": "runs/classifier"}`. Its
# methods get the loaded modules as `parts["classifier"]`, frozen. The hash of their weights becomes part of the run: if
# they change, the run says so in place of going on.
