"""The system ControlNet: what a run keeps, what it trains and what stays, its report, and painting under controls."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.data.controls import CONTROLS, pictures_of
from flowlib.data.pixels import read_mask, read_picture
from flowlib.nets import ControlNet
from flowlib.nets.lora import add_lora, lora_state
from flowlib.plotting import png_of
from flowlib.recipes import RECIPES, change, find_recipe
from flowlib.runs import evaluate_run, load_run, train
from flowlib.runs.run import build
from flowlib.systems.control_painting import parse_control
from flowlib.systems.controlnet import ControlNetSystem
from flowlib.systems.lora_files import LoRARecord, write_lora
from flowlib.systems.system import SYSTEMS
from flowlib.training import Turn
from flowlib.training.order import stream

TINY = {
    "net": "unet",
    "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16},
    "text_width": 16, "text_depth": 1, "text_heads": 2, "batch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painter") / "run"
    train(change(find_recipe("scenes-text"), **TINY, steps=8), folder, progress=False, pictures=False)
    return folder


def recipe(painter: Path, kind: str = "edges", **changes: object) -> object:
    return change(
        find_recipe(f"control-{kind}"), parts={"base": str(painter)}, **{"batch_size": 8, "steps": 4, **changes}
    )


@pytest.fixture(scope="module")
def runs(painter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of two kinds of control."""
    found = {}
    for kind in ("edges", "mask"):
        found[kind] = tmp_path_factory.mktemp("control") / kind
        train(recipe(painter, kind), found[kind], progress=False, pictures=False)  # type: ignore[arg-type]
    return found


def test_the_recipes_are_as_published() -> None:
    kinds = {name.removeprefix("control-") for name in RECIPES if name.startswith("control-")}
    assert kinds == set(CONTROLS)
    for kind in kinds:
        system = find_recipe(f"control-{kind}").system
        assert isinstance(system, ControlNetSystem)
        assert (system.control, system.trains, system.dropout) == (kind, "copy", 0.5)
        assert dict(system.parts) == {"base": "zoo:scenes-text"}
        base = load_run("zoo:scenes-text", "cpu")
        made = system.build(base.spec, {"base": base.module}, torch.Generator())
        assert 2 * sum(p.numel() for p in made.parameters()) < 3 * 2**20


def test_a_run_keeps_the_copy_alone_and_the_base_never_moves(painter: Path, runs: dict[str, Path]) -> None:
    base, run = load_run(painter), load_run(runs["edges"])
    weights = load_file(next(runs["edges"].glob("checkpoints/step-*/average.safetensors")))
    assert set(weights) == set(run.module.state_dict())
    assert not [name for name in weights if "decoder" in name or "text" in name]
    for name, value in run.parts["base"].state_dict().items():
        assert torch.equal(value, base.module.state_dict()[name])
    copied = dict(base.module.net.net.named_parameters())
    moved = [name for name, p in run.module.named_parameters() if name in copied and not torch.equal(p, copied[name])]
    assert any(name.startswith("encoders") for name in moved)
    assert any(name.startswith("midcoder") for name in moved)
    assert bool((run.module.zeros[0].weight != 0).any())
    figure = run.recipe.system.illustrate(run.module, Scenes(), run.parts, "two rows of controls")  # type: ignore[attr-defined]
    assert figure.axes


def test_what_is_trained_is_the_copy_everything_or_the_small_network(painter: Path, tmp_path: Path) -> None:
    base = load_run(painter).module
    before = {name: value.clone() for name, value in base.state_dict().items()}
    for trains in ("small", "all"):
        run = train(recipe(painter, trains=trains), tmp_path / trains, progress=False, pictures=False)  # type: ignore[arg-type]
        copied, own = dict(base.net.net.named_parameters()), dict(run.module.named_parameters())
        still = all(torch.equal(own[name], copied[name]) for name in own if name in copied)
        assert still == (trains == "small")
        assert bool((own["zeros.0.weight"] != 0).any())
        assert (run.module.unlocked is None) == (trains == "small")
        assert all(torch.equal(value, before[name]) for name, value in run.parts["base"].state_dict().items())
        if trains == "all":
            moved = [
                name
                for name, value in run.module.unlocked.state_dict().items()
                if not torch.equal(value, before[f"net.{name}"])
            ]
            assert any("decoders" in name for name in moved)
            assert any("text" in name for name in moved)


def test_what_is_drawn_anew_is_an_untrained_u_net_of_the_seed(painter: Path) -> None:
    base = load_run(painter)
    made = [
        build(recipe(painter, trains="anew", seed=seed), Scenes().spec, {"base": base.module}) for seed in (0, 0, 1)
    ]  # type: ignore[arg-type]
    fresh = dict(build(base.recipe, base.spec).named_parameters())
    first, again, other = (dict(module.named_parameters()) for module in made)
    drawn = [name for name in first if f"net.net.{name}" in fresh]
    assert drawn
    for name in drawn:
        own, untrained = first[name].detach(), fresh[f"net.net.{name}"].detach()
        assert torch.equal(own, again[name])
        assert bool(own.any()) == bool(untrained.any())  # zeros where an untrained one has zeros
        assert abs(float(own.abs().max() - untrained.abs().max())) <= 0.3 * float(untrained.abs().max())
    assert any(not torch.equal(first[name], other[name]) for name in drawn)
    copied = dict(base.module.net.net.named_parameters())
    assert not any(torch.equal(first[name], copied[name]) for name in drawn if "weight" in name and first[name].any())


def test_half_of_the_captions_are_dropped_and_no_control_is(painter: Path) -> None:
    made = recipe(painter, dropout=0.5)
    system, base = made.system, load_run(painter).module  # type: ignore[attr-defined]
    module = system.build(Scenes().spec, {"base": base}, torch.Generator())
    task = system.stages(module, Scenes(), {"base": base})[0].task(made.training)  # type: ignore[attr-defined]
    seen: list[torch.Tensor] = []
    handle = task.net.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    index = torch.arange(400)
    with torch.no_grad():
        task.loss(Turn(index, slice(None), stream(0, "draws")))
    handle.remove()
    length, null = base.net.tokenizer.length, base.net.null
    dropped = (seen[0][:, :length].long() == null).all(1).double().mean()
    assert abs(float(dropped) - 0.5) < 0.1  # four standard deviations
    controls = CONTROLS["edges"].of(Scenes().batch(index))
    assert torch.equal(seen[0][:, length:].unflatten(1, (1, 16, 16)), controls)


def test_strength_zero_is_the_base_to_the_bit_and_samples_follow_pictures(painter: Path, runs: dict[str, Path]) -> None:
    run, base = load_run(runs["mask"]), load_run(painter)
    system = run.recipe.system
    batch = Scenes(split="test").batch(torch.arange(3))
    controls = CONTROLS["mask"].of(batch)
    noise = base.noise(3, 1)
    field = system.field(run.module, run.parts, run.shape, 0.0)  # type: ignore[attr-defined]
    y = system.guide(field, batch["caption"], controls)  # type: ignore[attr-defined]
    assert torch.equal(field.u(noise, 0.3, y), base.module.u(noise, 0.3, base.module.net.tokenizer(batch["caption"])))
    full = system.field(run.module, run.parts, run.shape)  # type: ignore[attr-defined]
    assert not torch.equal(full.u(noise, 0.3, y), field.u(noise, 0.3, y))
    pictures = system.guides(run.spec, (), 3, lambda: Scenes(split="test").first(5))  # type: ignore[attr-defined]
    assert torch.equal(pictures, pictures_of(controls))
    drawn = run.sample(pictures, steps=2)
    assert drawn.shape == (3, 3, 16, 16)
    assert torch.equal(drawn, run.sample(system.guide(full, None, controls), steps=2))  # type: ignore[attr-defined]


def test_the_report_has_a_row_for_each_strength_and_one_without_captions(runs: dict[str, Path]) -> None:
    rows = evaluate_run(load_run(runs["edges"]), samples=24, strengths=(0.0, 1.0), steps=1)
    assert [row["samples"] for row in rows] == ["test scenes", "strength 0", "strength 1", "no caption"]
    for row in rows:
        assert {"edge F1", "mask IoU", "key points", "all"} <= set(row)
    assert float(rows[0]["edge F1"]) > 0.9
    assert float(rows[1]["edge F1"]) < 0.5


def test_a_flow_of_labels_is_controlled_too(tmp_path: Path) -> None:
    """Whose data bring their own edges."""
    scenes = Scenes().first(40)
    labels = scenes.batch(torch.arange(40))["objects"][:, 0, 0]
    data = Dataset(
        scenes.images, labels, classes=10, name="mine", more={"edges": scenes.batch(torch.arange(40))["edges"]}
    )
    flow = change(
        find_recipe("digits"), net_args={**TINY["net_args"], "attention": ()}, steps=2, batch_size=8, predicts="v"
    )  # type: ignore[dict-item]
    train(flow, tmp_path / "base", data=data, progress=False, pictures=False)
    made = recipe(tmp_path / "base", steps=2)
    run = train(made, tmp_path / "run", data=data, progress=False, pictures=False)  # type: ignore[arg-type]
    field = run.recipe.system.field(run.module, run.parts, run.shape)  # type: ignore[attr-defined]
    y = field.net.guide(torch.tensor([3, 10]), [torch.zeros(2, 1, 16, 16)])
    assert run.sample(y, steps=2, scale=2.0).shape == (2, 3, 16, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pictures of controls, and others that are none."""
    folder, batch = tmp_path_factory.mktemp("files"), Scenes(split="test").batch(torch.arange(1))
    made = {kind: pictures_of(control.of(batch)) for kind, control in CONTROLS.items()}
    made |= {"scene": batch["x"], "black": -torch.ones(1, 3, 16, 16), "wide": torch.ones(1, 3, 16, 24)}
    for name, picture in made.items():
        (folder / f"{name}.png").write_bytes(png_of(picture, side=32 if name != "wide" else 1))
    (folder / "text.png").write_text("no image")
    return {path.stem: path for path in folder.iterdir()} | {"missing": folder / "missing.png"}


def test_paint_follows_one_control_or_two_by_their_strengths(
    painter: Path, runs: dict[str, Path], files: dict[str, Path], tmp_path: Path
) -> None:
    nets = ["--control-net", str(runs["edges"]), "--control-net", str(runs["mask"])]

    def painted(*options: str) -> torch.Tensor:
        out = tmp_path / "out.png"
        arguments = ["paint", "a red seven", "--model", str(painter), "--steps", "2", "--out", str(out)]
        assert main([*arguments, *options]) == 0
        return read_picture(out, (3, 16, 16))

    plain = painted()
    edges, mask = f"edges={files['edges']}", f"mask={files['mask']}"
    assert torch.equal(painted("--control", f"{edges}:0", *nets[:2]), plain)
    one = painted("--control", edges, *nets[:2])
    assert not torch.equal(one, plain)
    assert torch.equal(painted("--control", f"{edges}:1", *nets[:2]), one)
    assert not torch.equal(painted("--control", f"{edges}:0.3", *nets[:2]), one)
    both = painted("--control", edges, "--control", mask, *nets)
    assert not torch.equal(both, one)
    assert torch.equal(painted("--control", edges, "--control", f"{mask}:0", *nets), one)
    assert painted("--control", f"edges={files['scene']}", *nets[:2]).shape == (3, 16, 16)  # Canny's edges


def test_a_hole_is_painted_under_a_control(
    painter: Path, runs: dict[str, Path], files: dict[str, Path], tmp_path: Path
) -> None:
    """The inpainter has the sizes of the painter that it started from, whose ControlNet it follows."""
    inpainter, out = tmp_path / "inpainter", tmp_path / "out.png"
    recipe = change(find_recipe("scenes-inpainter"), **TINY, steps=2, parts={"base": str(painter)})
    train(recipe, inpainter, progress=False, pictures=False)

    def painted(*options: str) -> torch.Tensor:
        edit = ["--edit", str(files["scene"]), "--mask", str(files["mask"]), "--inpainter", str(inpainter)]
        arguments = ["paint", "a red seven", "--model", str(painter), *edit, "--steps", "2", "--out", str(out)]
        assert main([*arguments, *options]) == 0
        return read_picture(out, (3, 16, 16))

    net, edges = ["--control-net", str(runs["edges"]), "--control"], f"edges={files['edges']}"
    plain, one = painted(), painted(*net, edges)
    assert torch.equal(painted(*net, f"{edges}:0"), plain)
    known = read_mask(files["mask"], files["scene"], (3, 16, 16)) == 0
    assert not torch.equal(one, plain)
    assert torch.equal(one * known, plain * known)
    assert bool(known.any())


def test_a_control_goes_around_a_lora(
    painter: Path, runs: dict[str, Path], files: dict[str, Path], tmp_path: Path
) -> None:
    base, out, lora = load_run(painter), tmp_path / "out.png", tmp_path / "lora.safetensors"
    add_lora(base.module, 2, targets=["*"])
    for name, value in base.module.named_parameters():
        if ".lora." in name:
            torch.nn.init.normal_(value, std=0.3, generator=torch.Generator().manual_seed(3))
    record = LoRARecord(base=str(painter), base_sha256=base.lineage[0], rank=2, alpha=2.0, targets=("*",))
    write_lora(lora, lora_state(base.module), record)

    def painted(*options: str) -> torch.Tensor:
        arguments = ["paint", "a red seven", "--model", str(painter), "--steps", "2", "--out", str(out), *options]
        assert main(arguments) == 0
        return read_picture(out, (3, 16, 16))

    net, edges = ["--control-net", str(runs["edges"]), "--control"], f"edges={files['edges']}"
    adapted, both = painted("--lora", str(lora)), painted(*net, edges, "--lora", str(lora))
    assert torch.equal(painted(*net, f"{edges}:0", "--lora", str(lora)), adapted)
    assert not torch.equal(both, adapted)
    assert not torch.equal(both, painted(*net, edges))


def test_bad_controls_are_one_line_and_write_nothing(
    painter: Path, runs: dict[str, Path], files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, net = tmp_path / "out.png", ["--control-net", str(runs["edges"])]
    base = ["paint", "a two", "--out", str(out), "--model", str(painter), "--steps", "1"]
    for arguments, says in (
        (["--control", "edges"], "--control must look like edges=sketch.png"),
        (["--control", f"depth={files['edges']}"], "the kind of a control must be one of edges, mask,"),
        (["--control", f"edges={files['edges']}:-1", *net], "the strength of --control edges must be"),
        (["--control", f"edges={files['edges']}:1e300", *net], "the strength of --control edges must be"),
        (["--control", f"edges={files['edges']}:nan", *net], "the strength of --control edges must be"),
        (["--control", f"edges={files['missing']}", *net], "is no file"),
        (["--control", f"edges={files['text']}", *net], "is no image"),
        (["--control", f"edges={files['wide']}", *net], "has 24 x 16 pixels, which is no multiple of 16 x 16"),
        (["--control", f"edges={files['black']}", *net], "is empty: draw edges white"),
        (["--control", f"mask={files['mask']}", *net], "is for 'edges': give one for each kind of --control"),
        (["--control", f"edges={files['edges']}", "--control-net", str(painter)], "must name runs of the system"),
        (["--control", f"scribble={files['scribble']}"], "the zoo has no 'control-scribble'"),
        (net, "--control-net needs a --control"),
        (["--control", f"edges={files['edges']}", *net, "--model", "zoo:scenes-text"], "of the sizes of the one that"),
        (["--control", f"edges={files['edges']}", "--model", str(runs["edges"])], "paint is no command for a run of"),
    ):  # fmt: skip
        assert main([*base, *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error, error
        assert error.count("\n") == 1
    assert not out.exists()


def test_a_strength_stands_behind_the_last_colon_if_it_is_a_number() -> None:
    assert parse_control("edges=a.png") == ("edges", Path("a.png"), 1.0)
    assert parse_control("mask=C:/a.png:2") == ("mask", Path("C:/a.png"), 2.0)
    assert parse_control("mask=C:/a.png") == ("mask", Path("C:/a.png"), 1.0)
    assert parse_control("edges=a=b.png:0.25") == ("edges", Path("a=b.png"), 0.25)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"control": "depth"}, "the kind of a control must be one of"),
        ({"trains": "none"}, "trains must be one of copy, all, small"),
        ({"dropout": 1.5}, "dropout must be"),
        ({"time_std": 0.0}, "time_std must be"),
        ({"parts": {}}, "parts must be a base alone"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SYSTEMS["controlnet"](**settings)


def test_a_base_without_a_unet_and_data_without_the_control_are_refused(painter: Path) -> None:
    base, system = load_run(painter), ControlNetSystem()
    with pytest.raises(ValueError, match="the part 'base' must be a run of glide or flow"):
        system.build(base.spec, {"base": ControlNet(base.module.net.net, 1)}, torch.Generator())
    bare = Dataset(torch.zeros(4, 3, 16, 16), captions=["a one"] * 4)
    with pytest.raises(ValueError, match="a ControlNet needs images with columns"):
        system.build(bare.spec, {"base": base.module}, torch.Generator())
