"""The flow: a network on a Gaussian path, trained by the error of its prediction (Lipman et al. 2023, equation 9).

With a chain for its path and the noise as its prediction it is DDPM (Ho et al. 2020).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.chains import grid_time, named_chain
from flowlib.checks import check_choice, check_count, check_flag, check_number
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.losses import drop_guide, optimal_transport, prediction_error
from flowlib.nets import Memory, Recalling
from flowlib.nets.recalling import SHARPEST
from flowlib.paths import PREDICTIONS, GaussianPath
from flowlib.pixel_bits import fill_bins
from flowlib.schedules import SCHEDULES
from flowlib.stable import StableTargets
from flowlib.systems.guided import Guided
from flowlib.systems.system import Parts, Stage, register
from flowlib.times import TimeSampler, logit_normal_time, logit_uniform_time, uniform_time
from flowlib.training import Task, Training, Turn
from flowlib.training.order import stream

Draw = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor | None]]  # indices -> data and guides
TIMES: dict[str, Callable[["FlowSystem"], TimeSampler]] = {
    "uniform": lambda system: uniform_time,
    "logit-normal": lambda system: logit_normal_time(system.time_mean, system.time_std),
    "logit-uniform": lambda system: logit_uniform_time(system.time_low, system.time_high),
}


@register("flow")
@dataclass(frozen=True, kw_only=True)
class FlowSystem(Guided):
    """What a flow is learned on, with which network, on which path, by which loss.

    Attributes:
        schedule: a name in `flowlib.schedules.SCHEDULES`, the path's.
        chain: T of a discrete chain at whose steps times are drawn, DDPM's linear one for "vp", improved DDPM's for
            "cosine"; 0 for continuous time.
        predicts: what the network predicts; `measure`: the kind in which its error is measured, None for the same.
        time: "uniform"; "logit-normal", with `time_mean` and `time_std`; or "logit-uniform", between `time_low` and
            `time_high`, as a likelihood wants it.
        coupling: how noise and data are paired, "independent" or "optimal-transport", within each label if the network
            is guided by one; for no other guide, on which the noise would depend.
        stable_until: the time before which the loss regresses on stable targets (`flowlib.stable`), among `references`
            data of the same label; 0 for never.
        land: the time in (0, 1) from which the last step of the ODE lands on D, after even ones up to it; 0 for the
            last time of an even grid, where a v is predicted, and else for no landing.
        recall: the time in (1/4, 1] until which the network is also shown the mean of the training data that x may have
            come from (`flowlib.nets.Recalling`); 0 for no memory.
        dequantise: whether pixels are trained on with uniform noise within the bins of their values, as a likelihood
            in bits/dim wants it.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {
        **Guided.needs,
        **dict.fromkeys(("time_mean", "time_std"), ("time", "logit-normal")),
        **dict.fromkeys(("time_low", "time_high"), ("time", "logit-uniform")),
        "references": ("stable_until", True),
    }

    schedule: str = "linear"
    chain: int = 0
    predicts: str = "velocity"
    measure: str | None = None
    time: str = "logit-normal"
    time_mean: float = 0.0
    time_std: float = 1.0
    time_low: float = -3.0
    time_high: float = 6.5
    coupling: str = "independent"
    stable_until: float = 0.0
    references: int = 1000
    land: float = 0.0
    recall: float = 0.0
    dequantise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("predicts", self.predicts, PREDICTIONS)
        if self.measure is not None:
            check_choice("measure", self.measure, PREDICTIONS)
        check_choice("time", self.time, TIMES)
        if check_count("chain", self.chain, 0) and self.time != "uniform":
            raise ValueError(f"time must be 'uniform' on a chain, got {self.time!r}")
        path, start = self.path(), torch.zeros((), dtype=torch.float64)
        if self.predicts != "velocity" and not path.always("informative", self.predicts, start):
            raise ValueError(
                f"predicts must not be {self.predicts!r} on the schedule {self.schedule!r}, whose samples at t = 0 are "
                "pure noise, of which it says nothing: no sampler could start; take 'v', 'data', or a chain"
            )
        if self.net == "mixture" and (self.schedule, self.chain, self.predicts) != ("linear", 0, "velocity"):
            raise ValueError(
                "net 'mixture' gives a velocity on the linear path: schedule, chain and predicts must say so"
            )
        check_number("time_mean", self.time_mean)
        check_number("time_std", self.time_std, 0, low_open=True)
        check_number("time_low", self.time_low, -16, 16)
        check_number("time_high", self.time_high, self.time_low, 16, low_open=True)
        check_choice("coupling", self.coupling, ["independent", "optimal-transport"])
        if self.coupling == "optimal-transport" and self.guided and self.guide != "label":
            raise ValueError(
                "coupling must be 'independent' with a guide that is no label; guided=false allows another"
            )
        check_count("references", self.references)
        if check_number("stable_until", self.stable_until, 0, 1, high_open=True):
            for name, value in {"coupling": "independent", "dequantise": False}.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value!r} with stable targets, got {getattr(self, name)!r}")
        check_number("land", self.land, 0, 1, high_open=True)
        if check_number("recall", self.recall, 0, 1):
            check_number("recall", self.recall, SHARPEST, 1, low_open=True)
            wanted = {"schedule": "linear", "chain": 0, "predicts": "v", "stable_until": 0.0}
            wanted |= {"guide": "label"} if self.guided else {}
            for name, value in wanted.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value!r} with a memory, got {getattr(self, name)!r}")
            check_choice("net of a flow that recalls", self.net, ("unet", "dit"))
        check_flag("dequantise", self.dequantise)

    @property
    def lands(self) -> bool | float:  # type: ignore[override]
        """Where the ODE's last step lands on D: a v could be asked for at t = 1, but few or no times come near it."""
        return self.land or (self.predicts == "v" and self.time == "logit-normal")

    def path(self) -> GaussianPath:
        """The path; a ValueError for a chain that does not exist for so few steps."""
        return GaussianPath(named_chain(self.schedule, self.chain) if self.chain else SCHEDULES[self.schedule]())

    def model(self, shape: tuple[int, ...], spec: Spec, parts: Parts) -> Model:
        """The untrained model for samples of `shape`, of data of `spec`.

        Raises:
            ValueError: if the network does not take such samples.
        """
        if not self.recall:
            return Model(self.network(shape, spec, parts.get("net")), self.path(), self.predicts)
        net = self.network((2 * shape[0], *shape[1:]), spec)
        return Model(Recalling(net, Memory(shape, self.recall)), self.path(), self.predicts)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        return self.model(spec.shape, spec, parts)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Model)

        def draw(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
            batch = data.batch(index)
            return batch["x"], self.guide_of(batch, data.spec, generator)

        if self.dequantise and data.levels is None:
            raise ValueError(f"dequantise needs pixels: {data.name!r} has none")
        return [Stage("flow", lambda settings: self.task(module, module, draw, data.count, settings, data.levels))]

    def times(self) -> TimeSampler:
        """At which times the loss is computed."""
        if self.chain:
            return grid_time(self.chain)
        return TIMES[self.time](self)

    def dropped(self, model: Model, y: Tensor, generator: torch.Generator) -> Tensor:
        """The guides of a whole batch, some of them dropped."""
        return drop_guide(model, y, self.dropout, generator)

    def task(
        self, module: nn.Module, model: Model, draw: Draw, count: int | None, settings: Training,
        levels: int | None = None,
    ) -> Task:  # fmt: skip
        """Learning the flow of `model`, which is `module` or in it, from the data that `draw` gives (None: endless)."""
        time, stable, memory = self.times(), None, getattr(model.net, "memory", None)
        if memory is not None:
            if count is None:
                raise ValueError("recall needs data that end, which all can be remembered")
            memory.fit(*draw(torch.arange(count), stream(settings.seed, "memory")))
        if self.stable_until:
            shuffle = stream(settings.seed, "stable targets")
            known = draw(torch.arange(count or 10_000), shuffle)
            stable = StableTargets(*known, until=self.stable_until, count=self.references, generator=shuffle)

        def loss(turn: Turn) -> Tensor:
            generator, part = turn.generator, turn.part
            z, y = draw(turn.index, generator)
            guide = None if y is None else self.dropped(model, y, generator)[part]
            # Drawn for the whole batch, of which this process works on its part.
            t, noise = time(len(z), generator), torch.randn(z.shape, generator=generator)
            if self.dequantise and levels is not None:
                z = fill_bins(z, levels, generator)
            if self.coupling == "optimal-transport":
                noise = optimal_transport(noise, z.cpu(), None if y is None else y.cpu())
            z, t, noise = z[part], t[part].to(z), noise[part].to(z)
            if stable is not None:
                start = float(torch.rand((), generator=generator))
                z, noise = stable(model.path, turn.index[part].to(z.device), z, guide, t, noise, start)
            with nullcontext() if memory is None else memory.without(turn.index[part]):
                return prediction_error(model, z, guide, t, noise, self.measure).mean()

        return Task(module, loss, count, model.net)
