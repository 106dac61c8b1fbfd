"""The commands that make runs and use them: demo, train, sample, evaluate."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flowlib.cli.machine import set_threads, share_work
from flowlib.plotting import format_table

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(help="Source of all randomness.", min=0)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/mnist.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the processor; one a core by default.", min=1)]
Method = Annotated[
    str | None,
    typer.Option(
        help="heun by default; euler, midpoint, rk4, dopri5 (adaptive) ..., ddim, sde, ddpm, ddpm-large, ddpm-learned."
    ),
]


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps, instead of the recipe's.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Learn real handwritten digits in a minute and draw new ones. Needs no network and no data set.

    \b
    Examples:
      flowlib demo
      flowlib demo --out elsewhere --seed 1
    """
    from flowlib.cli.demo import demo as run_demo
    from flowlib.data import mnist

    typer.echo("Training a flow on scikit-learn's 1,500 handwritten digits ...")
    made = run_demo(out, steps=steps, seed=seed, device=device)
    typer.echo(f"Trained for {made.run.step} steps in {made.seconds:.0f} s. Look at:\n")
    for path, what in made.pictures.items():
        typer.echo(f"  {path}   {what}")
    typer.echo(f"\nA classifier of real digits reads {made.read_right:.0%} of the new ones as the label asked for.")
    typer.echo(f"\nNext:\n  flowlib sample {out} --label 3 --scale 2 --out threes.png")
    found = mnist.find()
    if found is None:
        typer.echo("  flowlib data fetch mnist   then  flowlib train mnist   for digits of 28 x 28 pixels")
    else:
        typer.echo(f"  flowlib train mnist   for digits of 28 x 28 pixels: MNIST was found in {found}")


def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe: see `flowlib recipes`.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME by default.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Other data: a data set, or a folder of images, with a sub-folder for each label, or none."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps, instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the recipe's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if there is one; with --steps to more.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    device: Device = "auto",
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints; 20 in a run.")] = None,
    log_every: Annotated[int | None, typer.Option(help="Steps between lines of metrics; 200 in a run.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw a picture at each quarter of the run.")] = True,
    threads: Threads = None,
    processes: Annotated[
        int, typer.Option(help="Processes that share each batch, as torchrun starts them; each with one thread.", min=1)
    ] = 1,
) -> None:
    """Train a recipe. A run that was stopped or killed goes on with --resume, to the same bits.

    A run that has ended goes on with --resume --steps MORE: its learning rate then follows the schedule of that many
    steps, from the step that it has reached.

    \b
    Examples:
      flowlib train mnist
      flowlib train mnist --data my_pictures --out runs/mine
      flowlib train mnist --out runs/wide --set net.channels=[64,128] --set batch_size=128
      flowlib train mnist --resume
      flowlib train mnist --processes 2
      torchrun --nproc-per-node 2 -m flowlib train mnist
    """
    if processes > 1 and "RANK" not in os.environ:
        raise typer.Exit(share_work(processes))
    from flowlib.recipes import find_recipe, override
    from flowlib.runs import train as run_training
    from flowlib.runs.folder import RECIPE, read_record
    from flowlib.training.checkpoint import latest_step
    from flowlib.training.trainer import CHECKPOINTS

    set_threads(threads)
    out = Path("runs") / name if out is None else out
    if resume and (out / RECIPE).exists():
        recipe = read_record(out).recipe
        if recipe.name != name:
            raise ValueError(f"{out} holds a run of {recipe.name!r}, not of {name!r}: choose another --out")
    else:
        recipe = find_recipe(name)
    named = {"steps": steps, "seed": seed, "data": data}
    given = [f"{key}={value}" for key, value in named.items() if value is not None]
    recipe = override(recipe, [*(settings or []), *given])
    try:
        run = run_training(
            recipe, out, resume=resume, overwrite=overwrite, device=device, log_every=log_every,
            checkpoint_every=checkpoint_every, pictures=pictures,
        )  # fmt: skip
    except KeyboardInterrupt:
        saved = latest_step(out / CHECKPOINTS)
        state = "nothing is saved yet" if saved is None else f"step {saved} of {recipe.training.steps} is saved"
        typer.echo(f"flowlib: interrupted; {state}; go on with: flowlib train {name} --out {out} --resume", err=True)
        raise typer.Exit(130) from None
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes one speaks
        typer.echo(f"Trained {name} for {run.step} steps: {out}\nNext:")
        if hasattr(recipe.system, "sample"):
            typer.echo(f"  flowlib sample {out} --out samples.png")
        typer.echo(f"  flowlib evaluate {out}")


def sample(
    run: RunFolder,
    label: Annotated[list[int] | None, typer.Option(help="A label; may be repeated. All labels by default.")] = None,
    count: Annotated[int | None, typer.Option(help="Samples in all; 10 of each label by default.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Guidance scale: 1, the default, is none; more is closer to the label.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; 50 by default.")] = None,
    method: Method = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="File to write: .png, .gif (the way there), .npz or .pt.")] = Path(
        "samples.png"
    ),
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Samples at a time, to bound memory.")] = 500,
) -> None:
    """Draw samples from a run.

    \b
    Examples:
      flowlib sample runs/mnist
      flowlib sample runs/mnist --label 3 --count 16 --scale 2 --out threes.png
      flowlib sample runs/mnist --method sde --steps 250 --count 10000 --out samples.npz
    """
    from flowlib.data import open_data
    from flowlib.runs import export_samples, load_run
    from flowlib.runs.export import FORMATS

    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out must end in {', '.join(FORMATS)}, got {str(out)!r}")
    trained = load_run(run, device)
    system = trained.recipe.system
    moving = True if out.suffix.lower() == ".gif" else None
    wish = {"scale": scale, "steps": steps, "method": method, "trajectory": moving}
    given = _taken(system, "Sampling", wish)
    y = None
    if hasattr(system, "guides"):
        y = system.guides(trained.spec, label or [], count, lambda: open_data(trained.recipe.data, "test"))
    if y is None and label:
        raise ValueError(f"label {label[0]} was given, but the run in {run} takes no guide")
    if y is None:
        given["count"] = (10 if len(trained.shape) == 3 else 1000) * max(1, trained.classes) if count is None else count
    states = trained.sample(y, seed=seed, batch_size=batch_size, **given).cpu()
    drawn = states.shape[1] if moving else len(states)
    each = drawn // max(1, len(set(label or range(trained.classes))))
    columns = 10 if y is None or y.ndim > 1 else max(1, each)
    export_samples(states, None if y is None else y.cpu(), out, columns=columns)
    typer.echo(f"{drawn} samples: {out}")


def evaluate(
    run: RunFolder,
    samples: Annotated[int, typer.Option(help="Samples to measure.")] = 10_000,
    scale: Annotated[
        list[float] | None, typer.Option(help="A guidance scale; may be repeated. 1 and 2 by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; 50 by default.")] = None,
    method: Method = None,
    seed: Seed = 0,
    likelihood: Annotated[
        int | None,
        typer.Option(metavar="N", help="Also the bits/dim of N test images (runs on pixels): of a chain, its bound."),
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Samples at a time, to bound memory.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Also write the table, as JSON.")] = None,
) -> None:
    """Measure a run beside real data: its system's own table.

    Digits: accuracy of the labels, Fréchet distance to the test set and its ratio to that of training images,
    precision, recall, inception score. On MNIST by the shipped evaluator; on the 8 x 8 digits on pixels, with labels
    read by a support vector machine. Points: sliced Wasserstein and energy distance to the test set. And the cost:
    network evaluations a sample (nfe) and samples a second.

    \b
    Examples:
      flowlib evaluate runs/mnist
      flowlib evaluate runs/mnist --samples 2000 --scale 1 --scale 1.5 --scale 2 --likelihood 100
    """
    import json

    from flowlib.runs import evaluate_run, load_run

    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    trained = load_run(run, device)
    wish = {"scales": tuple(scale) if scale else None, "steps": steps, "method": method, "likelihood": likelihood}
    given = _taken(trained.recipe.system, "Reporting", wish)
    rows = evaluate_run(trained, samples=samples, seed=seed, batch_size=batch_size, **given)
    typer.echo(format_table(rows))
    if out is not None:
        out.write_text(json.dumps(list(rows), indent=2), "utf-8")


def _taken(system: Any, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's options that were given; a ValueError if a system's request has no such field."""
    from flowlib.systems.system import name_of

    given = {name: value for name, value in options.items() if value is not None}
    fields = getattr(getattr(system, kind, None), "__dataclass_fields__", {})
    for name in given:
        if name not in fields:
            option = {"scales": "--scale", "trajectory": "--out *.gif: it has no way there"}.get(name, f"--{name}")
            raise ValueError(f"a run of the system {name_of(system)!r} takes no {option}")
    return given
