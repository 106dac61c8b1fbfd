"""What flowlib adds to the bare work: to a training step, to sampling, and to the import of torch.

    python benchmarks/overhead.py

A trainer's step is compared with forward, backward and optimiser step of the same network on fixed tensors; a sampler
with the network calls that it needs, made bare; importing all of `flowlib`'s names with importing
torch's. All in turns, in one run.

The ratio of two long times is uncertain by what else the machine does. So a sampler is also run with a network that
computes nothing: "own" is that time, of all that is not the network, over the bare calls. A ratio far above 1 + own
is not the sampler's work.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _common import interleave, parser_of, prepare, ratio
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, EnergyGuidance, Model, sample_ddim, sample_ode, sample_sde
from flowlib.data import Spec
from flowlib.nets import MLP
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs.run import build
from flowlib.training import Trainer
from flowlib.training.devices import autocast
from flowlib.training.optimisers import make_optimisers

CLASSES, COUNT = 10, 2048
SPECS = {"digits": Spec((1, 8, 8), CLASSES, 17), "mnist": Spec((1, 28, 28), CLASSES, 256)}
STEPS_GOAL, IMPORT_GOAL = 1.05, 1.10
UNET_GOAL, MLP_GOAL = 1.02, 1.10  # of sampling
PARTS = ["import", "sampling", "training"]


class Silent(nn.Module):
    """A network that computes nothing: its answer lies ready."""

    def __init__(self, shape: tuple[int, ...], null: int) -> None:
        super().__init__()
        self.null, self.answer = null, torch.randn(shape)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.answer[: len(x)]


def report(name: str, seconds: dict[str, list[float]], goal: float) -> None:
    """One line: both medians, the median ratio of the rounds, a sampler's own share, and whether the goal is met."""
    ours, bare = (1e3 * statistics.median(seconds[key]) for key in ("ours", "bare"))
    value = ratio(seconds, "ours", "bare")
    verdict = "reached" if value <= goal else "MISSED"
    own = f"{ratio(seconds, 'own', 'bare'):8.4f}" if "own" in seconds else f"{'':8}"
    print(f"{name:42} {ours:10.1f} {bare:10.1f} {value:8.3f} {own} {goal:6.2f}  {verdict}", flush=True)


def bare_step(recipe: Recipe) -> Callable[[], None]:
    """Forward, backward and optimiser step of a recipe's network, on one batch that lies ready."""
    net, training, shape = build(recipe, SPECS[recipe.name]).net.train(), recipe.training, SPECS[recipe.name].shape
    optimisers = make_optimisers(training, net)
    x, target = torch.randn(2, training.batch_size, *shape)
    t, y = torch.rand(training.batch_size), torch.randint(CLASSES, (training.batch_size,))

    def step() -> None:
        with autocast(training.precision, x.device):
            loss = nn.functional.mse_loss(net(x, t, y), target)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()

    return step


def trainer_step(recipe: Recipe, folder: Path) -> Callable[[], None]:
    """The trainer's step of the same recipe, on images that are noise."""
    images, labels = torch.randn(COUNT, *SPECS[recipe.name].shape), torch.randint(CLASSES, (COUNT,))
    model = build(recipe, SPECS[recipe.name])
    task = recipe.system.task(model, model, lambda index, _: (images[index], labels[index]), COUNT, recipe.training)
    return Trainer(task, recipe.training, folder / recipe.name).step


def energy(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    return -x.flatten(1).square().sum(1)


def energy_gradient(x: Tensor, t: Tensor, y: Tensor) -> None:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        torch.autograd.grad(energy(x, t, y).sum(), x)


def calls_of(net: nn.Module, run: Callable[[], object]) -> int:
    """How often a run calls the network."""
    made: list[int] = []
    handle = net.register_forward_hook(lambda *_: made.append(1))
    run()
    handle.remove()
    return len(made)


def sampling(
    name: str, net: nn.Module, shape: tuple[int, ...], calls: int, goal: float, batch: int, rounds: int
) -> None:
    """Every sampler, plain and guided, beside as many bare calls of the network as it makes.

    Classifier-free guidance calls it with twice the batch; an energy adds its gradient, which is computed bare too.
    """
    model, null = Model(net.eval()), net.null  # a velocity, which is known at both ends of time
    noise, y, t = torch.randn(batch, *shape), torch.randint(null, (batch,)), torch.full((batch,), 0.5)
    double = (torch.cat([noise, noise]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, null)]))
    one, unguided = (noise, t, y), (noise, t, torch.full_like(y, null))
    silent = Model(Silent((2 * batch, *shape), null))
    generator = torch.Generator().manual_seed(0)

    def bare(inputs: tuple[Tensor, Tensor, Tensor], gradients: bool = False) -> None:
        with torch.no_grad():
            for i in range(calls):
                net(*inputs)
                if gradients and i:  # at t = 0 no energy has a say
                    energy_gradient(*inputs)

    ode, ddim = partial(sample_ode, noise=noise, y=y), partial(sample_ddim, noise=noise, y=y)
    runs: dict[str, tuple[Callable[[], object], Callable[[Model], object]]] = {
        "ODE, euler": (lambda: bare(one), lambda model: ode(model, steps=calls, method="euler")),
        "ODE, heun": (lambda: bare(one), lambda model: ode(model, steps=calls // 2)),
        "SDE": (lambda: bare(one), lambda model: sample_sde(model, noise, y, steps=calls, generator=generator)),
        "DDIM": (lambda: bare(one), lambda model: ddim(model, steps=calls)),
        "DDIM of order 2": (lambda: bare(one), lambda model: ddim(model, steps=calls, order=2)),
        "DDIM, eta = 1": (lambda: bare(one), lambda model: ddim(model, steps=calls, eta=1.0, generator=generator)),
        "guidance, euler": (
            lambda: bare(double),
            lambda model: ode(ClassifierFreeGuidance(model, 2.0), steps=calls, method="euler"),
        ),
        "guidance, heun": (
            lambda: bare(double),
            lambda model: ode(ClassifierFreeGuidance(model, 2.0), steps=calls // 2),
        ),
        "guidance, DDIM": (lambda: bare(double), lambda model: ddim(ClassifierFreeGuidance(model, 2.0), steps=calls)),
        "energy, euler": (
            lambda: bare(unguided, gradients=True),
            lambda model: sample_ode(EnergyGuidance(model, energy), noise, None, steps=calls, method="euler"),
        ),
    }
    for sampler, (work, run) in runs.items():
        ours = partial(run, model)
        if (made := calls_of(net, ours)) != calls:
            raise RuntimeError(f"{sampler} called the network {made} times, not {calls}")
        alone = {} if sampler.startswith("energy") else {"own": partial(run, silent)}  # its gradient is work
        report(f"{sampler}, {name}", interleave({"bare": work, "ours": ours, **alone}, rounds), goal)


def training(repetitions: int) -> None:
    """A step of training of each recipe, in both precisions."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SPECS:
            for precision in ("fp32", "bf16"):
                recipe = change(find_recipe(name), steps=10**6, precision=precision)
                runs = {"bare": bare_step(recipe), "ours": trainer_step(recipe, Path(folder) / precision)}
                seconds = interleave(runs, repetitions, warmup=3)
                report(f"training step, {name}, {precision}", seconds, STEPS_GOAL)


def importing(module: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", f"from {module} import *"], check=True)


def main() -> None:
    parser = parser_of(__doc__, repetitions=15, batch_size=64, threads=None, seed=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    arguments = parser.parse_args()
    prepare(arguments)
    print(f"medians in ms, on {torch.get_num_threads()} thread(s)")
    print(f"{'':42} {'flowlib':>10} {'bare':>10} {'ratio':>8} {'own':>8} {'goal':>6}")
    if "import" in arguments.only:
        report("import", interleave({"bare": importing("torch"), "ours": importing("flowlib")}, 9), IMPORT_GOAL)
    if "sampling" in arguments.only:
        batch, rounds = arguments.batch_size, arguments.repetitions
        sampling("MLP", MLP(2, classes=2), (2,), 50, MLP_GOAL, batch, rounds)
        for name, spec in SPECS.items():
            sampling(f"{name} U-Net", build(find_recipe(name), spec).net, spec.shape, 10, UNET_GOAL, batch, rounds)
    if "training" in arguments.only:
        training(2 * arguments.repetitions)


if __name__ == "__main__":
    main()
