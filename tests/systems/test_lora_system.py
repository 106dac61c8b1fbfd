"""Adapting a painter: only the adapter is trained, saved and put on again; and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from flowlib.cli import main
from flowlib.data import Scenes, Spec, styles
from flowlib.data import load as load_data
from flowlib.nets.lora import add_lora, lora_state
from flowlib.plotting import png_of
from flowlib.recipes import change, find_recipe
from flowlib.runs import evaluate_run, load_run, train
from flowlib.systems.adapting import put_on, settings_of
from flowlib.systems.lora import LoRASystem
from flowlib.systems.lora_files import LoRARecord, read_lora, write_lora
from flowlib.systems.lora_report import style_distance
from flowlib.systems.weighted import split_number
from flowlib.training import Trainer
from flowlib.training.checkpoint import load as load_checkpoint

TINY = {
    "net": "unet",
    "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16, "gates": True},
    "text_width": 16, "text_depth": 1, "text_heads": 2, "batch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painter") / "run"
    train(change(find_recipe("scenes-text"), **TINY, steps=12), folder, progress=False, pictures=False)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in a style, of 16 x 16 pixels, without captions."""
    folder = tmp_path_factory.mktemp("images") / "pictures"
    folder.mkdir()
    for i, x in enumerate(styles.styled("inverted", 6).images):
        (folder / f"{i}.png").write_bytes(png_of(x[None], side=16))
    return folder


@pytest.fixture(scope="module")
def adapted(painter: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "run"
    arguments = [
        "--images",
        str(images),
        "--caption",
        "a sks seven",
        "--rank",
        "2",
        "--steps",
        "4",
        "--batch-size",
        "4",
    ]
    assert main(["adapt", str(painter), *arguments, "--out", str(out)]) == 0
    return out


def test_the_base_stays_and_the_adapter_alone_is_saved(painter: Path, adapted: Path) -> None:
    base, run = load_run(painter), load_run(adapted)
    assert (run.step, run.shape, run.recipe.data.rpartition("@")[2]) == (4, (3, 16, 16), "16")
    state = lora_state(run.module)
    saved = load_checkpoint(adapted / "checkpoints")
    for tensors in (saved.weights, saved.average):
        assert all(".lora." in key for key in tensors)
        assert sum(value.numel() for value in tensors.values()) == sum(v.numel() for v in state.values()) - 1
    plain = dict(base.module.named_parameters())
    for name, value in run.module.named_parameters():
        if ".lora." in name:
            assert not name.endswith(".B") or bool(value.any()), name  # every one has learned
        else:
            assert torch.equal(value, plain[name]), name
    assert run.module.net.tokenizer.bpe.to_dict() == base.module.net.tokenizer.bpe.to_dict()
    assert run.lineage[1] == base.lineage[0]
    file, record = read_lora(adapted / "adapter.safetensors")
    assert all(torch.equal(value, file[key]) for key, value in state.items())
    assert record == LoRARecord(
        base=str(painter), base_sha256=base.lineage[0], rank=2, alpha=2.0, targets=("attention.*",),
        caption="a sks seven",
    )  # fmt: skip
    assert len(load_file(adapted / "adapter.safetensors")) == len(state)


def test_it_starts_as_the_painter_to_the_last_bit(painter: Path) -> None:
    base = load_run(painter)
    system = LoRASystem(painter=settings_of(base.recipe.system), shape=base.shape, parts={"base": str(painter)})
    made = system.build(base.spec, {"base": base.module}, torch.Generator().manual_seed(0))
    x, y = torch.randn(2, 3, 16, 16), base.module.net.tokenizer(["a red seven", "a blue two"])
    assert torch.equal(made.u(x, 0.4, y), base.module.u(x, 0.4, y))  # type: ignore[operator]
    trained = {name for name, p in made.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in made.named_parameters() if ".lora." in name}


def test_all_weights_are_trained_and_kept_where_that_is_asked_for(painter: Path) -> None:
    base = load_run(painter)
    settings = {"painter": settings_of(base.recipe.system), "shape": base.shape, "parts": {"base": str(painter)}}
    system = LoRASystem(**settings, full=True)
    made = system.build(base.spec, {"base": base.module}, torch.Generator().manual_seed(0))
    assert all(p.requires_grad for p in made.parameters())
    assert list(made.state_dict()) == list(base.module.state_dict())
    assert not any(p.requires_grad for p in base.module.parameters())


def test_recipes_of_the_zoo_have_the_settings_of_their_base() -> None:
    for name in ("lora-glyph", "lora-striped"):
        system = find_recipe(name).system
        assert isinstance(system, LoRASystem)
        base = load_run(system.parts["base"])
        assert system.painter == settings_of(base.recipe.system)
        assert system.shape == base.shape == load_data(find_recipe(name).data).shape


def test_paint_puts_files_folders_and_several_on(painter: Path, adapted: Path, tmp_path: Path) -> None:
    file = adapted / "adapter.safetensors"

    def painted(*arguments: str, model: Path = painter) -> bytes:
        out = tmp_path / "x.png"
        given = ["paint", "a sks seven", "--model", str(model), "--steps", "2", "--out", str(out), *arguments]
        assert main(given) == 0
        with Image.open(out) as picture:
            return picture.tobytes()

    plain, own = painted(), painted(model=adapted)
    whole = painted("--lora", str(file))
    assert whole != plain
    assert whole == own == painted("--lora", str(adapted)) == painted("--lora", f"{file}:1.0")
    assert painted("--lora", f"{file}:0") == plain
    run = load_run(painter)
    both, twice = put_on(run, [f"{file}:0.5", f"{adapted}:1.5"]), put_on(run, [f"{file}:2"])
    name = "net.net.midcoder.blocks.1.attention.qkv.weight"
    weights = [one.module.state_dict()[name] for one in (run, both, twice)]
    torch.testing.assert_close(weights[1], weights[2], rtol=0, atol=1e-6)
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(run.module.state_dict()[name], load_run(painter).module.state_dict()[name])


def test_a_training_goes_on_to_the_same_bits(painter: Path, images: Path, adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = ["adapt", str(painter), "--images", str(images), "--caption", "a sks seven", "--rank", "2"]
    base += ["--batch-size", "4", "--out", str(out), "--steps", "4", "--no-pictures"]
    shutil.copytree(adapted, out)
    assert main(base) == 2  # a run lies there
    assert main([*base, "--resume"]) == 0
    first, again = (load_checkpoint(one / "checkpoints").average for one in (adapted, out))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert main([*base, "--overwrite"]) == 0
    again = load_checkpoint(out / "checkpoints").average
    assert all(torch.equal(value, again[key]) for key, value in first.items())


@pytest.mark.parametrize("command", ["adapt", "train"])
def test_what_replaces_a_run_and_is_cut_leaves_no_older_adapter(
    painter: Path,
    images: Path,
    adapted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    out = Path(shutil.copytree(adapted, tmp_path / "run"))
    mine = [str(painter), "--images", str(images), "--caption", "a sks seven"]
    words = {"adapt": mine, "train": ["moons"]}[command]

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", cut)
    assert main([command, *words, "--out", str(out), "--steps", "2", "--overwrite"]) == 130
    ways = {"adapt": "go on with the same command and --resume instead of --overwrite\n", "train": "--resume\n"}
    assert capsys.readouterr().err.endswith(ways[command])
    assert [path.name for path in out.iterdir()] == ["recipe.json"]


@pytest.mark.parametrize("command", ["adapt", "train"])
def test_what_is_cut_before_it_has_begun_says_nothing_of_the_run_that_is_there(
    painter: Path, images: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], command: str,
) -> None:  # fmt: skip
    out = Path(shutil.copytree(adapted, tmp_path / "run"))
    mine = [str(painter), "--images", str(images), "--caption", "a sks seven"]
    words = {"adapt": mine, "train": ["moons"]}[command]

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowlib.runs.folder.clear", cut)
    assert main([command, *words, "--out", str(out), "--steps", "2", "--overwrite"]) == 130
    assert capsys.readouterr().err.endswith("flowlib: interrupted\n")
    assert (out / "adapter.safetensors").exists()


def test_an_adapter_goes_when_its_run_goes_on_and_one_alone_may_be_replaced(
    painter: Path, images: Path, adapted: Path, tmp_path: Path
) -> None:
    out, alone = Path(shutil.copytree(adapted, tmp_path / "run")), tmp_path / "alone"
    file = out / "adapter.safetensors"
    assert main(["train", "lora", "--out", str(out), "--resume", "--no-pictures"]) == 0
    assert file.exists()  # nothing was left to train
    assert main(["train", "lora", "--out", str(out), "--resume", "--steps", "5", "--no-pictures"]) == 0
    assert not file.exists()
    alone.mkdir()
    shutil.copy(adapted / "adapter.safetensors", alone)
    words = ["adapt", str(painter), "--images", str(images), "--caption", "a sks seven", "--out", str(alone)]
    words += ["--steps", "2", "--batch-size", "2", "--no-pictures"]
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0
    assert (alone / "adapter.safetensors").read_bytes() != (adapted / "adapter.safetensors").read_bytes()


def test_the_report_has_the_style_and_what_was_forgotten(adapted: Path) -> None:
    rows = evaluate_run(load_run(adapted), samples=8, steps=1)
    assert [row["samples"] for row in rows] == ["test pictures", "base, w = 3", "adapted, w = 3"]
    assert {"style", "others"} <= set(rows[2])
    x = styles.styled("striped", 60).images
    scenes = Scenes(split="test").first(60).images
    assert style_distance(x, x) == 0
    near, far = (style_distance(one, x) for one in (styles.styled("striped", 60, "test").images, scenes))
    assert near < 0.5 * far, (near, far)


def test_bad_input_is_one_line_and_writes_nothing(
    painter: Path, images: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, grey = tmp_path / "one", tmp_path / "grey"
    for folder, count, channels in ((one, 1, 3), (grey, 3, 1)):
        folder.mkdir()
        for i in range(count):
            pixels = torch.full((16, 16, channels), i, dtype=torch.uint8).squeeze(2) if channels == 1 else None
            image = png_of(torch.zeros(1, 3, 16, 16), side=16)
            (folder / f"{i}.png").write_bytes(image)
            if pixels is not None:
                Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    out = tmp_path / "out"
    adapt = ["adapt", str(painter), "--out", str(out), "--steps", "1"]
    told = [*adapt, "--caption", "a sks seven"]
    state, record = read_lora(adapted / "adapter.safetensors")
    damaged, other, rank = (tmp_path / f"{name}.safetensors" for name in ("damaged", "other", "rank"))
    damaged.write_bytes((adapted / "adapter.safetensors").read_bytes()[:500])
    net = torch.nn.ModuleDict({"attention": torch.nn.ModuleDict({"out": torch.nn.Linear(4, 4)})})
    add_lora(net, 2)
    write_lora(other, lora_state(net), record)
    first = next(key for key in state if key.endswith(".A"))
    write_lora(rank, {**state, first: state[first][:1]}, record)
    paint = ["paint", "a two", "--steps", "1", "--out", str(tmp_path / "x.png")]
    mine = [*paint, "--model", str(painter)]
    capsys.readouterr()
    for arguments, says in (
        ([*told, "--images", str(one)], "has too few images: 1"),
        (
            ["adapt", "zoo:unclip", *told[2:], "--images", str(images)],
            "a LoRA adapts a painter of the system glide, which paints from captions alone",
        ),
        ([*told, "--images", str(tmp_path / "none")], "there is no folder"),
        ([*told, "--images", str(grey)], "the pictures have shape (1, 16, 16), the base paints (3, 16, 16)"),
        ([*adapt, "--images", str(images)], "caption must be given, or a .txt file beside each picture"),
        ([*adapt, "--images", str(images), "--caption", "a " * 40], "texts must have at most 22 tokens"),
        ([*told, "--images", str(images), "--target", "nothing"], "'nothing' is none of this network"),
        ([*told, "--images", str(images), "--rank", "0"], "rank must be an integer >= 1"),
        (["adapt", "zoo:judge", *told[2:], "--images", str(images)], "zoo:judge reads no captions"),
        (["adapt", str(adapted), *told[2:], "--images", str(images)], "is a LoRA: give the painter"),
        ([*mine, "--lora", str(tmp_path / "none")], "there is no LoRA"),
        ([*mine, "--lora", str(damaged)], "is no LoRA of flowlib, or damaged"),
        ([*mine, "--lora", f"{adapted}:1e300"], "the weight of --lora must be a finite number in"),
        ([*mine, "--lora", f"{adapted}:nan"], "the weight of --lora must be a finite number"),
        ([*mine, "--lora", "zoo:judge"], "--lora must name a LoRA, and zoo:judge is a run of 'judge'"),
        ([*mine, "--lora", str(other)], "the LoRA is of another network: this one has no layer attention.out"),
        ([*mine, "--lora", str(rank)], "the LoRA must be of one rank, and its matrices say [1, 2]"),
        ([*paint, "--lora", str(adapted)], "was made for"),  # and not for zoo:scenes-text
    ):
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert says in error, error
        assert error.count("\n") == 1
    assert not out.exists()
    assert not (tmp_path / "x.png").exists()
    assert split_number("zoo:sks:0.5") == ("zoo:sks", 0.5)
    assert split_number("zoo:sks") == ("zoo:sks", 1.0)
    assert split_number("a/b.safetensors:-2") == ("a/b.safetensors", -2.0)


def test_bad_settings_are_named(painter: Path) -> None:
    good = {"painter": settings_of(load_run(painter).recipe.system), "shape": (3, 16, 16)}
    for change_, says in (
        ({"rank": 0}, "rank must be"),
        ({"alpha": -1.0}, "alpha must be"),
        ({"parts": {}}, "parts must be a base alone"),
        ({"painter": {"system": "judge"}}, "painter must be a system that draws from captions, got 'judge'"),
        ({"painter": {"system": "nobody"}}, "system must be one of"),
    ):
        with pytest.raises(ValueError, match=says):
            LoRASystem(**{**good, **change_})


def test_a_report_that_cannot_be_made_is_refused_by_name() -> None:
    for name, value in (("steps", 0), ("method", "guess"), ("scales", (float("nan"),)), ("samples", 0)):
        with pytest.raises(ValueError, match=name.rstrip("s")):
            LoRASystem.Reporting(spec=Spec((3, 16, 16), 0, columns=("x",)), **{name: value})  # type: ignore[arg-type]


def test_settings_that_are_newer_than_a_saved_lora_have_their_defaults() -> None:
    whole = find_recipe("lora-glyph").system
    older = {name: value for name, value in whole.painter.items() if name not in ("time_low", "dequantise")}
    assert replace(whole, painter=older) == whole
    with pytest.raises(ValueError, match="painter"):
        replace(whole, painter={**older, "system": "gan"})
