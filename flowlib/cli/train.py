"""The commands that make runs: demo, train."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flowlib.cli.machine import INTERRUPTED, Interrupted, set_threads, share_work, speaks
from flowlib.cli.options import Device, Seed, Threads, complete_recipe
from flowlib.files import quoted


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
    typer.echo(f"\nNext:\n  flowlib sample {quoted(out)} --label 3 --scale 2 --out threes.png")
    found = mnist.find()
    if found is None:
        typer.echo("  flowlib data fetch mnist   then  flowlib train mnist   for digits of 28 x 28 pixels")
    else:
        typer.echo(f"  flowlib train mnist   for digits of 28 x 28 pixels: MNIST was found in {found}")


def train(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A recipe: see `flowlib recipes`.", autocompletion=complete_recipe)
    ],
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
        if (status := share_work(processes)) == INTERRUPTED:
            raise Interrupted
        raise typer.Exit(status)
    from flowlib.recipes import find_recipe, override
    from flowlib.runs import train as run_training
    from flowlib.runs.folder import RECIPE, begun, read_record
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
    for text in settings or ():
        if named.get(text.partition("=")[0]) is not None:
            raise ValueError(f"{text.partition('=')[0]} is given twice, by --set and by an option of its own")
    recipe, place = override(recipe, [*(settings or []), *given]), quoted(out)
    before = begun(out)
    try:
        run = run_training(
            recipe, out, resume=resume, overwrite=overwrite, device=device, log_every=log_every,
            checkpoint_every=checkpoint_every, pictures=pictures,
        )  # fmt: skip
    except KeyboardInterrupt:
        if begun(out) == before:
            raise
        saved = latest_step(out / CHECKPOINTS)
        state = "nothing is saved yet" if saved is None else f"step {saved} of {recipe.training.steps} is saved"
        raise Interrupted(f"{state}; go on with: flowlib train {name} --out {place} --resume") from None
    if speaks():
        typer.echo(f"Trained {name} for {run.step} steps: {out}\nNext:")
        if hasattr(recipe.system, "sample"):
            typer.echo(f"  flowlib sample {place} --out samples.png")
        typer.echo(f"  flowlib evaluate {place}")
