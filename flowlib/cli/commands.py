"""The commands that use runs: sample, evaluate, export."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flowlib.cli.options import Device, Land, Method, RunFolder, Seed
from flowlib.plotting import format_table


def sample(
    run: RunFolder,
    label: Annotated[
        list[str] | None, typer.Option(help="A label, its number or name; may be repeated. All labels by default.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Samples in all; 10 of each label by default.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Guidance scale: 1, the default, is none; more is closer to the label.")
    ] = None,
    weak: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A weaker run of the same data, which --scale leads away from: autoguidance."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; 50 by default.")] = None,
    method: Method = None,
    land: Land = None,
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
      flowlib sample runs/pets --label cats
      flowlib sample runs/mnist --weak runs/mnist-short --scale 1.5
      flowlib sample runs/mnist --method sde --steps 250 --count 10000 --out samples.npz
    """
    from flowlib.data import open_data
    from flowlib.files import check_place
    from flowlib.runs import export_samples, load_run
    from flowlib.runs.export import FORMATS
    from flowlib.systems.sampling import check_steps

    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out must end in {', '.join(FORMATS)}, got {str(out)!r}")
    check_place(out)
    check_steps(steps, method)
    trained = load_run(run, device)
    system = trained.recipe.system
    moving = True if out.suffix.lower() == ".gif" else None
    wish = {"scale": scale, "steps": steps, "method": method, "land": land, "trajectory": moving}
    given = _taken(system, "Sampling", wish)
    if weak is not None:
        given["wrap"] = _led_away(trained, weak, given.pop("scale", None))
    labels = [trained.spec.label(name) for name in label or ()] if trained.classes else []
    y = None
    if hasattr(system, "guides"):
        y = system.guides(trained.spec, labels, count, lambda: open_data(trained.recipe.data, "test").finite())
    if label and (y is None or not labels):
        kind = "guide" if y is None else "label"
        raise ValueError(f"label {label[0]} was given, but the run in {run} takes no {kind}")
    if y is None and scale not in (None, 1) and weak is None:
        raise ValueError(f"--scale says nothing here: samples of {run} are drawn without a guide")
    if y is None:
        given["count"] = (10 if len(trained.shape) == 3 else 1000) * max(1, trained.classes) if count is None else count
    states = trained.sample(y, seed=seed, batch_size=batch_size, **given).cpu()
    if lost := int((~states[-1 if moving else slice(None)].isfinite()).flatten(1).any(1).sum()):
        raise ValueError(f"{lost} samples have become infinite or no numbers: try another --scale, --method or --steps")
    if out.suffix.lower() in (".png", ".gif") and states.shape[1 + bool(moving) :] != trained.shape:
        shape = tuple(states.shape[1 + bool(moving) :])
        raise ValueError(f"--out must end in .npz or .pt: samples of shape {shape} are no pictures")
    drawn = states.shape[1] if moving else len(states)
    each = drawn // max(1, len(set(labels or range(trained.classes))))
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
    land: Land = None,
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

    from flowlib.files import check_place, write_whole
    from flowlib.runs import evaluate_run, load_run

    if out is not None:
        if not out.parent.is_dir():
            raise ValueError(f"--out: there is no folder {out.parent}")
        check_place(out)
    trained = load_run(run, device)
    wish = {
        "scales": tuple(scale) if scale else None,
        "steps": steps,
        "method": method,
        "land": land,
        "likelihood": likelihood,
    }
    given = _taken(trained.recipe.system, "Reporting", wish)
    rows = evaluate_run(trained, samples=samples, seed=seed, batch_size=batch_size, **given)
    typer.echo(format_table(rows))
    if out is not None:
        write_whole(out, json.dumps(list(rows), indent=2).encode())


def export(
    run: RunFolder,
    onnx: Annotated[Path, typer.Option(metavar="FILE", help="The graph to write, such as digits.onnx.")],
) -> None:
    """Write the network of a flow, or a SAM, as an ONNX graph, which runs without Python, and compare it with torch.

    Inputs are x, t and, with labels or captions, y; a batch has any size. The metadata say what is predicted, on which
    path, and how a caption becomes tokens. A SAM is two files, FILE-image and FILE-masks.

    \b
    Examples:
      flowlib export runs/digits --onnx digits.onnx
      flowlib export zoo:scenes-text --onnx painter.onnx
      flowlib export zoo:sam --onnx sam.onnx
    """
    from flowlib.files import check_place
    from flowlib.runs import export_onnx, load_run

    if onnx.suffix.lower() != ".onnx":
        raise ValueError(f"--onnx must be a file that ends in .onnx, got {str(onnx)!r}")
    check_place(onnx)
    for file, worst in export_onnx(load_run(run, "cpu"), onnx).items():
        typer.echo(f"{file}: {file.stat().st_size / 2**20:.2f} MiB, within {worst:.0e} of torch")


def _led_away(run: Any, source: Path, scale: float | None) -> Callable[[Any], Any]:
    """What makes the field of a run one that is guided by another, weaker run; a ValueError if the two do not fit."""
    from flowlib.autoguidance import Autoguidance
    from flowlib.field import Field
    from flowlib.systems.system import name_of

    if scale is None:
        raise ValueError("--weak goes with a --scale, such as 1.5")
    other = run.beside(source)
    for one in (run, other):
        if not isinstance(one.module, Field) or hasattr(one.module, "decode"):
            raise ValueError(
                f"--weak goes with flows of pixels or points, and {one.folder} is a {name_of(one.recipe.system)!r}"
            )
    if run.spec != other.spec:
        raise ValueError(f"--weak must name a run of the same data: {run.spec}, got {other.spec}")
    Autoguidance(run.module, other.module, scale)  # says what does not fit before anything is drawn
    return lambda field: Autoguidance(field, other.module, scale)


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
