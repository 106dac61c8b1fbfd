"""GLIDE: it learns captions, is loaded with its tokenizer, is measured by the judge, and paints."""

from pathlib import Path

import pytest
import torch

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.nets.captioned import Captioned
from flowlib.recipes import change, find_recipe
from flowlib.runs import evaluate_run, load_run, train
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.glide import GlideSystem
from flowlib.training import Turn, read_metrics

TINY = {
    "net": "unet", "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16},
    "text_width": 16, "text_depth": 1, "text_heads": 2,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glide") / "run"
    fast = {"lr": 3e-3, "matrix_lr": 0.015}
    train(change(find_recipe("scenes-text"), **TINY, **fast, steps=40, batch_size=16), folder, progress=False)
    return folder


def test_it_learns_shows_captioned_pictures_and_is_loaded(run: Path) -> None:
    metrics = read_metrics(run / "metrics.jsonl")
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert sorted(path.name for path in (run / "samples").iterdir())[-1] == "step-00000040.png"
    loaded = load_run(run)
    net = loaded.module.net
    assert isinstance(net, Captioned)
    y = net.tokenizer(["a red seven", "a large blue two at the upper left, on grey"])
    assert net.tokenizer.decode(y)[0] == "a red seven"
    images = loaded.sample(y, scale=2.0, steps=3)
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(images, loaded.sample(y, scale=2.0, steps=3))
    assert not torch.equal(images, loaded.sample(y, scale=2.0, steps=3, seed=1))
    assert loaded.sample(count=3, steps=2).shape == (3, 3, 16, 16)


def test_the_report_reads_captions_of_one_and_two_and_held_out_ones(run: Path) -> None:
    rows = evaluate_run(load_run(run), samples=250, scales=(1.0, 2.0), steps=2)
    assert [row["samples"] for row in rows] == ["test scenes", "w = 1", "w = 2"]
    assert float(rows[0]["all"]) > 0.95
    assert float(rows[0]["one"]) > 0.95
    for row in rows[1:]:
        assert float(row["all"]) < 0.3  # of 40 steps
        assert {"digit", "colour", "size", "place", "held out", "frechet", "per_second"} <= set(row)
    assert [rows[1]["nfe"], rows[2]["nfe"]] == [3, 6]  # the last step lands on D


def test_captions_are_dropped_at_the_papers_rate_and_drawn_from_each_column() -> None:
    assert GlideSystem().dropout == 0.2
    assert find_recipe("scenes-text").system.dropout == 0.2  # type: ignore[attr-defined]
    data = Scenes()
    batch, turn = data.batch(torch.arange(600)), Turn(torch.arange(600), slice(None), seeded(0))
    drawn = chosen_captions(batch, ("caption", "short"), turn)
    longer = [text == batch["caption"][i] for i, text in enumerate(drawn)]
    assert all(a or text == batch["short"][i] for i, (a, text) in enumerate(zip(longer, drawn, strict=True)))
    assert 240 < sum(longer) < 360
    half = Turn(torch.arange(600), slice(300, 600), seeded(0))
    assert chosen_captions(data.batch(half.mine), ("caption", "short"), half) == drawn[300:]
    few = Dataset(torch.zeros(5, 3, 16, 16), captions=["a one"] * 5)
    assert learned_captions(few, ("caption",)) == ["a one"] * 5


def test_a_flow_without_captions_learns_scenes_too(tmp_path: Path) -> None:
    recipe = change(find_recipe("scenes"), net="unet", net_args=TINY["net_args"], steps=3, batch_size=8)
    trained = train(recipe, tmp_path / "run", progress=False)
    rows = evaluate_run(trained, samples=200, steps=2)
    assert {"frechet", "0 found", "1 found", "2 found"} <= set(rows[1])
    assert float(rows[0]["0 found"]) < 0.02


def test_paint_writes_a_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scene.png"
    base = ["--model", str(run), "--steps", "2", "--out", str(out)]
    assert main(["paint", "a blue two at the upper left", *base, "--count", "2"]) == 0
    assert "a blue two at the upper left" in capsys.readouterr().out
    assert out.stat().st_size > 1000
    first = out.read_bytes()
    assert main(["paint", "a blue two at the upper left", *base, "--count", "2"]) == 0
    assert out.read_bytes() == first
    capsys.readouterr()
    for arguments, says in (
        ([" ", *base], "caption must not be empty"),
        (["a " * 40, *base], "texts must have at most 22 tokens"),
        (["a two", "--model", "zoo:nobody"], "the zoo has no 'nobody'"),
        (["a two", "--model", str(tmp_path)], "holds no run"),
        (["a two", "--model", "zoo:judge"], "paint is no command for a run of the system 'judge'"),
        (["a two", "--model", str(run), "--out", str(tmp_path / "x.txt")], "--out must be a picture"),
        (["a two", *base, "--count", "0"], "count must be"),
        (["a two", *base, "--scale", "nan"], "scale must be"),
    ):
        assert main(["paint", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"guide": "label"}, "guide must be one of caption"),
        ({"guided": False}, "guided must be true"),
        ({"captions": ()}, "captions name columns"),
        ({"text_depth": 0}, "text_depth must be"),
        ({"net": "mlp"}, "net must be one of unet, dit"),
        ({"coupling": "optimal-transport"}, "coupling must be 'independent'"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GlideSystem(**settings)


def test_a_dit_reads_captions_too_and_data_without_them_are_refused() -> None:
    net = {"patch": 4, "width": 16, "depth": 1, "heads": 2}
    system = GlideSystem(net="dit", net_args=net, text_width=16, text_depth=1, text_heads=2)
    module = system.build(Scenes().spec, {}, seeded(0))
    y = module.net.tokenizer(["a red seven"])  # type: ignore[operator, union-attr]
    assert module.predict(torch.zeros(1, 3, 16, 16), 0.5, y).shape == (1, 3, 16, 16)  # type: ignore[operator]
    with pytest.raises(ValueError, match="GLIDE needs images with columns"):
        system.build(Dataset(torch.zeros(4, 3, 16, 16)).spec, {}, seeded(0))
