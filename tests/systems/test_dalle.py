"""DALL-E: its loss, its two stages, what is reported of it, what it paints, and what it refuses."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from examples import normal, seeded

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.nets import DiscreteAutoencoder
from flowlib.nets.text_image import DALLE
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import evaluate_run, load_run, train
from flowlib.systems.dalle import DALLESystem, dalle_loss
from flowlib.systems.dvae import DVAEStage, DVAESystem
from flowlib.systems.glide import GlideSystem
from flowlib.systems.painting import PaintRequest, paint
from flowlib.systems.token_sampling import TokenRequest
from flowlib.training import Training, Turn, read_metrics

STAGE = {"tokens": 16, "latent_channels": 4, "channels": 8, "likelihood": "logit-laplace"}
TINY = {
    "first_stage": {**STAGE, "factor": 4, "steps": 30, "batch_size": 16, "lr": 0.01},
    "width": 16,
    "depth": 2,
    "heads": 2,
}


def tiny(**changes: object) -> Recipe:
    return change(find_recipe("dalle"), **{**TINY, "steps": 30, "batch_size": 16, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dalle") / "run"
    train(tiny(), folder, progress=False)
    return folder


# --- the loss


def test_the_loss_is_an_eighth_of_the_text_and_seven_eighths_of_the_image() -> None:
    """By hand: two texts of three and two tokens to predict, behind the start, and images of two tokens."""
    padding = 4
    tokens = torch.tensor([[3, 0, 1, 2, 5, 6], [3, 1, 2, padding, 6, 6]])
    logits = normal(0, 2, 5, 7)
    logits[:, :3, padding] = -torch.inf
    log = logits.log_softmax(2)
    text = -(log[0, 0, 0] + log[0, 1, 1] + log[0, 2, 2] + log[1, 0, 1] + log[1, 1, 2]) / 5
    image = -(log[0, 3, 5] + log[0, 4, 6] + log[1, 3, 6] + log[1, 4, 6]) / 4
    logits.requires_grad_()
    found = dalle_loss(logits, tokens, 4, padding)
    torch.testing.assert_close(found["text"], text)
    torch.testing.assert_close(found["image"], image)
    torch.testing.assert_close(found["loss"], text / 8 + 7 * image / 8)
    torch.testing.assert_close(dalle_loss(logits, tokens, 4, padding, text_weight=0.0)["loss"], image)
    found["loss"].backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1, 2].any()  # what comes before padding is told nothing


def test_a_step_learns_the_most_probable_tokens_behind_a_caption_from_a_column() -> None:
    data = Scenes()
    system = DALLESystem(first_stage=DVAEStage(**STAGE, steps=1), width=16, depth=1, heads=2)
    module = system.build(data.spec, {}, seeded(0))
    assert isinstance(module, DALLE)
    task = system.stages(module, data, {})[1].task
    assert callable(task)
    made = task(Training(steps=1))
    assert {name for name, p in module.named_parameters() if p.requires_grad} == {
        f"gpt.{name}" for name, _ in module.gpt.named_parameters()
    }
    found = made.players[0].loss(Turn(torch.arange(8), slice(None), seeded(1)))
    batch, which = data.batch(torch.arange(8)), torch.randint(2, (8,), generator=seeded(1)).tolist()
    texts = [batch[("caption", "short")[kind]][i] for i, kind in enumerate(which)]
    tokens = module.joined(module.read(texts), module.encode(batch["x"]))
    expected = F.cross_entropy(module.gpt(tokens)[:, 23:-1].flatten(0, 1), tokens[:, 24:].flatten())
    assert isinstance(found, dict)
    torch.testing.assert_close(found["image"], expected)


# --- a run


def test_it_learns_both_stages_and_is_loaded(run: Path) -> None:
    first, metrics = read_metrics(run / "dvae" / "metrics.jsonl"), read_metrics(run / "metrics.jsonl")
    assert first[0]["temperature"] == 1
    assert first[-1]["temperature"] == pytest.approx(1 / 16, abs=0.01)
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert metrics[-1]["loss"] == pytest.approx(metrics[-1]["text"] / 8 + 7 * metrics[-1]["image"] / 8, rel=1e-5)
    assert metrics[0]["image"] == pytest.approx(math.log(16), abs=0.3)
    assert sorted(path.name for path in (run / "samples").iterdir())[-1] == "step-00000030.png"
    loaded = load_run(run)
    y = loaded.module.read(["a red seven", "a large blue two at the upper left, on grey"])
    assert loaded.module.tokenizer.decode(y)[0] == "a red seven"
    images = loaded.sample(y)
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(images, loaded.sample(y))
    assert not torch.equal(images, loaded.sample(y, seed=1))
    torch.testing.assert_close(loaded.sample(y, precision="fp32"), loaded.sample(y, precision="fp32", cached=False))
    assert loaded.sample(count=3).shape == (3, 3, 16, 16)
    one = loaded.sample(y.repeat(3, 1), batch_size=1, precision="fp32")
    torch.testing.assert_close(one, loaded.sample(y.repeat(3, 1), precision="fp32"))


def test_candidates_hold_what_one_alone_would_be_and_clip_chooses(run: Path) -> None:
    loaded = load_run(run)
    y = loaded.module.read(["a red seven"] * 6)
    alone, clip = loaded.sample(y, precision="fp32"), loaded.parts["clip"]
    chosen = loaded.sample(y[:2], candidates=3, precision="fp32")
    scores = clip.similarity(alone.clamp(-1, 1), ["a red seven"])[:, 0].unflatten(0, (2, 3))
    best = alone.unflatten(0, (2, 3))[torch.arange(2), scores.argmax(1)]
    torch.testing.assert_close(chosen, best)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints")  # as if it had been stopped between the stages
    (again / "metrics.jsonl").unlink()
    train(tiny(), again, resume=True, progress=False, pictures=False)
    first, second = load_run(run).module.state_dict(), load_run(again).module.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_report_has_samples_and_bits(run: Path) -> None:
    rows = evaluate_run(
        load_run(run), samples=200, candidates=(1, 2), temperatures=(1.0, 0.5), top_ks=(0, 4), likelihood=9
    )
    assert [row["samples"] for row in rows] == [
        "test scenes", "restored", "best of 1", "best of 2", "temperature 0.5", "top 4",
        "uniform prior", "tokens drawn", "most probable tokens", "under another's caption",
    ]  # fmt: skip
    assert float(rows[0]["all"]) > 0.95
    assert 0 < float(rows[1]["used"]) <= 1 <= float(rows[1]["perplexity"]) <= 16
    for row in rows[2:6]:
        assert {"digit", "colour", "held out", "frechet", "per_second"} <= set(row)
    for row in rows[6:]:
        assert float(row["bound"]) == pytest.approx(float(row["distortion"]) + float(row["rate"]), abs=1e-9)
    assert float(rows[6]["rate"]) < 16 * 4 / 768  # 16 tokens of 4 bits
    assert rows[7]["distortion"] == rows[6]["distortion"]  # of the same draws
    assert rows[9]["distortion"] == rows[8]["distortion"]
    assert float(rows[8]["text"]) > 0
    few = evaluate_run(load_run(run), samples=200, candidates=(1,), likelihood=0)
    assert [row["samples"] for row in few] == ["test scenes", "restored", "best of 1"]


def test_it_stands_on_a_finished_first_stage_too(tmp_path: Path) -> None:
    settings = {"system": DVAESystem(**STAGE, factor=4), "training": Training(steps=3, batch_size=8)}
    train(Recipe(name="first", data="scenes", **settings), tmp_path / "first", progress=False, pictures=False)
    recipe = tiny(first_stage=None, parts={"dvae": str(tmp_path / "first")}, steps=2)
    made = train(recipe, tmp_path / "run", progress=False, pictures=False)
    finished = load_run(tmp_path / "first").module.state_dict()
    assert all(torch.equal(value, finished[name]) for name, value in made.module.dvae.state_dict().items())
    other = train(
        tiny(first_stage=None, parts={"dvae": str(tmp_path / "run")}, steps=2), tmp_path / "b", progress=False
    )
    assert all(torch.equal(value, finished[name]) for name, value in other.module.dvae.state_dict().items())
    with pytest.raises(ValueError, match="candidates must be 1 without texts, or without a CLIP"):
        other.sample(other.module.read(["a two"]), candidates=2)


# --- the command


def test_paint_writes_a_picture_by_tokens(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scene.png"
    base = ["--model", str(run), "--out", str(out)]
    asked = ["paint", "A blue two at the upper left", *base, "--count", "2"]
    assert main([*asked, "--candidates", "5", "--top-k", "4", "--temperature", "0.8"]) == 0
    assert "A blue two at the upper left" in capsys.readouterr().out
    first = out.read_bytes()
    assert len(first) > 200
    assert main([*asked, "--candidates", "5", "--top-k", "4", "--temperature", "0.8"]) == 0
    assert out.read_bytes() == first
    assert main([*asked, "--clip", "conv", "--candidates", "5"]) == 0
    assert main(asked) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([" "], "caption must not be empty"),
        (["a " * 40], "texts must have at most 22 tokens"),
        (["a two", "--temperature", "0"], "temperature must be a finite number in (0, inf), got 0.0"),
        (["a two", "--temperature", "-1"], "temperature must be"),
        (["a two", "--top-k", "17"], "top_k must be at most 16, the tokens of images, got 17"),
        (["a two", "--top-k", "-1"], "top_k must be"),
        (["a two", "--candidates", "0"], "candidates must be an integer >= 1, got 0"),
        (["a two", "--count", "4", "--candidates", "3"], "candidates must be at least 4"),
        (["a two", "--candidates", "2", "--clip", "noised-agree"], "--clip must name a CLIP of clean pictures"),
        (["a two", "--scale", "2"], "a run of the system 'dalle' takes no --scale"),
        (["a two", "--steps", "5"], "takes no --steps"),
        (["a two", "--clip", "conv"], "--clip chooses among more --candidates than pictures are wanted"),
        (["a two", "--clip", ""], "--clip must not be empty"),
        (["a two", "--clip-scale", "5"], "--clip-scale only goes with --clip"),
        (["a two", "--clip", "conv", "--clip-scale", "5"], "takes no --clip-scale"),
        (["a two", "--upsampler", "zoo:judge"], "--upsampler zoo:judge reads no captions"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    out = tmp_path / "scene.png"
    assert main(["paint", *arguments, "--model", str(run), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_flow_takes_no_options_of_tokens(tmp_path: Path) -> None:
    flow = SimpleNamespace(folder="runs/glide", recipe=SimpleNamespace(system=GlideSystem()))
    for options in ({"top_k": 2}, {"temperature": 0.5}, {"candidates": 2}):
        request = PaintRequest(caption="a two", out=tmp_path / "a.png", **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"of the system 'glide' takes no --{next(iter(options))[:3]}"):
            paint(flow, request)
    assert list(tmp_path.iterdir()) == []


# --- what it refuses


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"first_stage": None}, "first_stage must be given, or a finished one as the part 'dvae'"),
        ({"parts": {"dvae": "runs/dvae"}}, "and not both"),
        ({"first_stage": DVAEStage(steps=1)}, "first_stage.likelihood must be 'logit-laplace'"),
        ({"parts": {"judge": "zoo:judge"}}, "parts must be dvae and clip"),
        ({"captions": ()}, "captions must name columns"),
        ({"layers": "dense"}, "layers must be one of sparse, full"),
        ({"text_weight": 1.0}, "text_weight must be"),
        ({"depth": 0}, "depth must be"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DALLESystem(**{"first_stage": DVAEStage(**STAGE, steps=1), **settings})


def test_bad_requests_and_data_are_named() -> None:
    system = DALLESystem(first_stage=DVAEStage(**STAGE, steps=1), width=16, depth=1, heads=2)
    spec = Scenes().spec
    for settings in ({"temperature": 0.0}, {"top_k": -1}, {"candidates": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            TokenRequest(spec=spec, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="DALL-E needs pictures with columns"):
        system.build(Dataset(torch.zeros(4, 3, 16, 16)).spec, {}, seeded(0))
    plain = {"dvae": DiscreteAutoencoder(in_channels=3, channels=8)}
    with pytest.raises(ValueError, match="the part 'dvae' must be a run of dvae"):
        DALLESystem(parts={"dvae": "runs/dvae"}).build(spec, plain, seeded(0))
    module = system.build(spec, {}, seeded(0))
    with pytest.raises(ValueError, match="y must be tokens of texts"):
        system.sample(module, {}, TokenRequest(spec=spec, y=torch.zeros(2, 3), count=2))
