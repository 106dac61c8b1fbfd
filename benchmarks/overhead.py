"""What flowlib adds to the bare work: to a training step, to sampling, and to the import of torch.

    python benchmarks/overhead.py

A trainer's step is compared with forward, backward and optimiser step of the same network on fixed tensors; a sampler
with the network calls that it needs, made bare; importing all of `flowlib`'s names with importing
torch's. All in turns, in one run.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _common import interleave, ratio
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, Model, sample_ode, sample_sde
from flowlib.data import Spec
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs.run import build
from flowlib.training import Trainer
from flowlib.training.devices import autocast
from flowlib.training.optimisers import make_optimisers

CLASSES, COUNT = 10, 2048
SPECS = {"digits": Spec((1, 8, 8), CLASSES, 17), "mnist": Spec((1, 28, 28), CLASSES, 256)}
STEPS_GOAL, CALLS_GOAL, IMPORT_GOAL = 1.05, 1.02, 1.10


def report(name: str, seconds: dict[str, list[float]], goal: float) -> None:
    """One line: both medians, the median ratio of the rounds, and whether it is at most the goal."""
    ours, bare = (1e3 * statistics.median(seconds[key]) for key in ("ours", "bare"))
    value = ratio(seconds, "ours", "bare")
    verdict = "reached" if value <= goal else "MISSED"
    print(f"{name:42} {ours:10.1f} {bare:10.1f} {value:8.3f} {goal:6.2f}  {verdict}", flush=True)


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


def bare_calls(net: nn.Module, x: Tensor, t: Tensor, y: Tensor, count: int) -> None:
    with torch.no_grad():
        for _ in range(count):
            net(x, t, y)


def sampling(model: Model, shape: tuple[int, ...], batch: int, repetitions: int) -> None:
    """Heun's method, the SDE, and Heun's method with guidance, whose every call has a batch of twice the size."""
    noise, y, t = torch.randn(batch, *shape), torch.randint(CLASSES, (batch,)), torch.full((batch,), 0.5)
    guided = ClassifierFreeGuidance(model, 2.0)
    generator = torch.Generator().manual_seed(0)
    double = (torch.cat([noise, noise]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, CLASSES)]))
    one = (noise, t, y)
    runs: dict[str, tuple[Callable[[], Tensor], tuple[Tensor, Tensor, Tensor], int]] = {
        "sample_ode, heun": (lambda: sample_ode(model, noise, y, steps=5), one, 10),
        "sample_sde": (lambda: sample_sde(model, noise, y, steps=10, generator=generator), one, 10),
        "guidance, heun": (lambda: sample_ode(guided, noise, y, steps=5), double, 10),
    }
    for name, (run, inputs, calls) in runs.items():
        calls_made = 0

        def count(*_: object) -> None:
            nonlocal calls_made
            calls_made += 1

        handle = model.net.register_forward_hook(count)
        run()
        handle.remove()
        if calls_made != calls:
            raise RuntimeError(f"{name} called the network {calls_made} times, not {calls}")
        bare = {"bare": lambda i=inputs, c=calls: bare_calls(model.net, *i, c), "ours": run}
        report(f"{name}, {shape[1]} x {shape[2]}", interleave(bare, repetitions), CALLS_GOAL)


def importing(module: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", f"from {module} import *"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15, help="rounds of each comparison (default 15)")
    parser.add_argument("--batch-size", type=int, default=64, help="samples in sampling (default 64)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    print(f"medians in ms, on {torch.get_num_threads()} thread(s)")
    print(f"{'':42} {'flowlib':>10} {'bare':>10} {'ratio':>8} {'goal':>6}")
    report("import", interleave({"bare": importing("torch"), "ours": importing("flowlib")}, 9), IMPORT_GOAL)
    for name, spec in SPECS.items():
        # A velocity, whatever the recipe predicts: it is known at both ends of time, so that Heun's calls are 2 a step.
        model = Model(build(find_recipe(name), spec).net.eval())
        sampling(model, spec.shape, args.batch_size, args.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        for name in SPECS:
            for precision in ("fp32", "bf16"):
                recipe = change(find_recipe(name), steps=10**6, precision=precision)
                runs = {"bare": bare_step(recipe), "ours": trainer_step(recipe, Path(folder) / precision)}
                seconds = interleave(runs, 2 * args.repetitions, warmup=3)
                report(f"training step, {name}, {precision}", seconds, STEPS_GOAL)


if __name__ == "__main__":
    main()
