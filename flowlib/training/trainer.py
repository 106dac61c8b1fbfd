"""The trainer: steps of any task, with everything around them that makes a run safe to stop and to go on.

A step is, for each player, forward, backward, clip, optimise; then the average moves. Its data are a function of the
step and its random numbers come from one generator that is saved, so a run that goes on from a checkpoint computes the
same bits as one never stopped. Losses stay on the device and are read when they are logged: the processor never waits
in between.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from flowlib.checks import check_count
from flowlib.training import checkpoint
from flowlib.training.distributed import World
from flowlib.training.ema import EMA
from flowlib.training.journal import Journal
from flowlib.training.order import DataOrder, stream
from flowlib.training.seat import Seat
from flowlib.training.settings import Training
from flowlib.training.task import Task, Turn
from flowlib.training.threads import Threads

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """A loss or gradient that is no longer finite; the last checkpoint is from before."""


class Trainer:
    """Trains a task as its settings say, and keeps the run in a folder.

    Args:
        task: what is trained; its module is moved to the device.
        settings: how.
        folder: gets `metrics.jsonl` and `checkpoints`. If a checkpoint lies there, training goes on from it.
        world: the processes that share the work; the leading one writes.
        device: where to compute.
        log_every: steps between lines of metrics; by default some 200 in a run.
        checkpoint_every: steps between checkpoints; by default 20 in a run.
        illustrate: called with the averaged module and the step at each quarter of the run, to draw samples on the way.

    Raises:
        ValueError: if the batch cannot be shared evenly, or players share a name.
        CheckpointError: if the checkpoint in the folder is damaged, or of another version or architecture.
    """

    def __init__(
        self,
        task: Task,
        settings: Training,
        folder: Path,
        *,
        world: World | None = None,
        device: torch.device | None = None,
        log_every: int | None = None,
        checkpoint_every: int | None = None,
        illustrate: Callable[[nn.Module, int], None] | None = None,
    ) -> None:
        self.task, self.settings, self.folder = task, settings, Path(folder)
        self.world = World() if world is None else world
        self.device = torch.device("cpu") if device is None else device
        self.log_every = check_count("log_every", max(1, settings.steps // 200) if log_every is None else log_every)
        self.checkpoint_every = check_count(
            "checkpoint_every", -(-settings.steps // 20) if checkpoint_every is None else checkpoint_every
        )
        self.illustrate = illustrate if self.world.leads else None
        self.quarters = {-(-settings.steps * k // 4) for k in (1, 2, 3, 4)}
        self.part = self.world.share(settings.batch_size)
        task.module.to(self.device).train()
        names = [player.name for player in task.players]
        if len(set(names)) < len(names):
            raise ValueError(f"players must have different names, got {names}")
        self.ema = EMA(task.module, settings.ema)
        self.seats = [Seat(player, settings, self.world, self.device) for player in task.players]
        self.optimisers = [optimiser for seat in self.seats for optimiser in seat.optimisers]
        self.order = DataOrder(task.count, settings.batch_size, settings.seed)
        self.draws = stream(settings.seed, "draws")
        self.done, self.seconds = 0, 0.0
        if checkpoint.latest_step(self.folder / CHECKPOINTS) is not None:
            self._restore()
        if settings.compile and task.net is not None:
            task.net.compile()
        self._sums: dict[str, Tensor] = {}  # of all named scalars since the last line of metrics

    def run(self, progress: bool | None = None) -> nn.Module:
        """Train to the last step, and return the averaged module, in evaluation mode.

        Args:
            progress: whether to show a progress bar; None: on a terminal.

        Raises:
            DivergedError: if the loss or the gradient is no longer finite.
            WriteError: if the folder cannot be written; the last checkpoint is intact.
        """
        steps, leads = self.settings.steps, self.world.leads
        journal = Journal(self.folder / METRICS, self.done) if leads else None
        hidden = not leads or (None if progress is None else not progress)
        # So that a GPU repeats its bits too.
        cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        bar = tqdm(total=steps, initial=self.done, desc=self.folder.name, unit="step", disable=hidden)
        with bar, cudnn, logging_redirect_tqdm(), Threads(self.device) as threads:
            logged, clock = self.done, time.perf_counter()
            while self.done < steps:
                begun = time.perf_counter()
                self.step()
                threads.after_step(time.perf_counter() - begun)
                saves = self.done % self.checkpoint_every == 0 or self.done == steps
                bar.update()
                if saves or self.done % self.log_every == 0 or self.done in self.quarters:
                    entry = self._metrics(self.done - logged, time.perf_counter() - clock)
                    if journal is not None:
                        journal.write(entry, sync=saves)
                    bar.set_postfix({"loss": f"{entry['loss']:.4f}", "samples/s": round(entry["samples_per_second"])})
                    logged = self.done
                    if self.illustrate is not None and self.done in self.quarters:
                        self.illustrate(self.ema.module, self.done)
                    if saves and leads:
                        self.save()
                    clock = time.perf_counter()
        self.world.wait()
        return self.ema.module

    def step(self) -> None:
        """One step: each player's move, then the average's."""
        index = self.order.batch(self.done).to(self.device)
        turn = Turn(index, self.part, self.draws, self.done, self.settings.steps, self.world.gather)
        for seat in self.seats:
            for name, value in seat.move(turn).items():
                self._sums[name] = self._sums[name] + value if name in self._sums else value
        self.done += 1
        self.ema.update(self.done)

    def save(self) -> None:
        """Write a checkpoint; a WriteError if that fails, with the one before intact."""
        state = {
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "draws": self.draws.get_state(),
            "seconds": self.seconds,
        }
        weights, average = self.task.module.state_dict(), self.ema.module.state_dict()
        checkpoint.save(self.folder / CHECKPOINTS, checkpoint.Checkpoint(self.done, weights, average, state))

    def _restore(self) -> None:
        folder = self.folder / CHECKPOINTS
        saved = checkpoint.load(folder)
        checkpoint.load_weights(self.task.module, saved.weights, folder)
        checkpoint.load_weights(self.ema.module, saved.average, folder)
        for optimiser, state in zip(self.optimisers, saved.state["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.draws.set_state(saved.state["draws"])
        self.done, self.seconds = saved.step, saved.state["seconds"]
        _log.info("going on from step %d of %d in %s", self.done, self.settings.steps, self.folder)

    def _metrics(self, steps: int, seconds: float) -> dict[str, float]:
        """The means over the last `steps`, which took `seconds`, as a line of metrics."""
        means = self.world.mean(torch.stack(list(self._sums.values())) / steps).tolist()
        scalars = dict(zip(self._sums, means, strict=True))
        self._sums.clear()
        wrong = [name for name, value in scalars.items() if not abs(value) < float("inf")]  # NaN too
        if wrong:
            rates = [
                str(seat.settings.lr) for seat in self.seats if any(name.startswith(seat.prefix) for name in wrong)
            ]
            raise DivergedError(
                f"training diverged: in steps {self.done - steps + 1} to {self.done} "
                f"{' and '.join(f'{name} was {scalars[name]}' for name in wrong)}; a smaller lr (it is "
                f"{' and '.join(rates)}) or clip may help"
            )
        if "loss" not in scalars:  # of several players, who have one each
            scalars = {"loss": sum(value for name, value in scalars.items() if name.endswith("_loss")), **scalars}
        self.seconds += seconds
        rate = steps * self.settings.batch_size / seconds
        entry = {"step": self.done, "lr": self.optimisers[0].param_groups[0]["lr"], **scalars}
        return {**entry, "samples_per_second": round(rate, 1), "seconds": round(self.seconds, 3)}
