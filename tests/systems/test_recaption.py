"""DALL-E 3: the blend of captions, what a painter learns from, how it goes on, what is measured, prompts rewritten."""

from pathlib import Path
from typing import Any

import pytest
import torch
from examples import seeded

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.data.rewriting import rewrite
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import Run, evaluate_run, load_run, train
from flowlib.systems.binding import BINDING
from flowlib.systems.caption_writing import kept_captions
from flowlib.systems.recaption import RecaptionSystem, blended, oddly
from flowlib.systems.recaption_report import written_prompts
from flowlib.text.captions import read_caption
from flowlib.text.styles import ODD, STYLES, restyle
from flowlib.training import Trainer, Turn
from flowlib.training.checkpoint import load
from flowlib.training.order import stream

TINY: dict[str, Any] = {
    "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16, "gates": True},
    "text_width": 16, "text_depth": 1, "text_heads": 2, "batch_size": 16, "size": 64,
}  # fmt: skip
MANY = 200_000


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner") / "run"
    tiny = {"width": 16, "depth": 1, "heads": 2, "steps": 2, "batch_size": 4}
    train(change(find_recipe("captioner"), **tiny), folder, progress=False, pictures=False)
    return folder


def recipe(captioner: Path, **changes: Any) -> Recipe:
    parts = {"captioner": str(captioner), "clip": "zoo:clip-vit"}
    return change(find_recipe("recaption"), **TINY | {"steps": 4, "parts": parts} | changes)


@pytest.fixture(scope="module")
def run(captioner: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe(captioner), tmp_path_factory.mktemp("recaption") / "run", progress=False)


# --- the blend


def turn(count: int, seed: int = 0, part: slice = slice(None)) -> Turn:
    return Turn(torch.arange(count), part, seeded(seed))


@pytest.mark.parametrize("share", [0.65, 0.8, 0.95])
def test_captions_are_synthetic_with_the_probability_that_is_asked_for(share: float) -> None:
    given, synthetic = [f"g{i}" for i in range(MANY)], [f"s{i}" for i in range(MANY)]
    texts = blended(given, synthetic, share, turn(MANY))
    assert all(text[1:] == str(i) for i, text in enumerate(texts))
    written = sum(text[0] == "s" for text in texts)
    # A normal law's two tails beyond 4.9 deviations have probability 1e-6.
    assert abs(written - share * MANY) < 4.9 * (MANY * share * (1 - share)) ** 0.5
    assert blended(given, synthetic, share, turn(MANY)) == texts
    assert blended(given, synthetic, share, turn(MANY, seed=1)) != texts
    half = slice(MANY // 2, None)
    assert blended(given[half], synthetic[half], share, turn(MANY, part=half)) == texts[half]


def test_all_and_none_are_exact() -> None:
    given, synthetic = ["g"] * 5000, ["s"] * 5000
    assert blended(given, synthetic, 1.0, turn(5000)) == synthetic
    assert blended(given, synthetic, 0.0, turn(5000)) == given


def test_given_captions_are_written_oddly_at_a_rate_and_in_all_styles() -> None:
    texts = oddly(["a red seven"] * MANY, 0.5, seeded(0))
    for style in ODD:
        share = sum(text == restyle("a red seven", style) for text in texts) / MANY
        assert abs(share - 0.5 / len(ODD)) < 4.9 * 0.5 / MANY**0.5
    assert abs(texts.count("a red seven") / MANY - 0.5) < 4.9 * 0.5 / MANY**0.5
    assert oddly(texts[:9], 0.0, seeded(0)) == texts[:9]
    assert oddly(["a two"] * 99, 0.5, seeded(1)) == oddly(["a two"] * 99, 0.5, seeded(1))


# --- what is learned


def test_the_images_are_described_once_and_the_given_captions_are_those_of_the_data(captioner: Path) -> None:
    system: Any = recipe(captioner).system
    writer = load_run(captioner).module
    data = system.described(Scenes(), {"captioner": writer})
    batch, raw = data.batch(torch.arange(64)), Scenes().batch(torch.arange(64))
    assert data.count == 64
    assert torch.equal(batch["x"], raw["x"])
    assert batch["synthetic"] == kept_captions(writer, Scenes(), 64)
    assert batch["given"] == oddly(raw["noisy"], 0.5, stream(0, "odd captions"))
    alone: Any = change(find_recipe("recaption-given"), **TINY).system
    assert alone.share == 0
    only = alone.described(Scenes(), {}).batch(torch.arange(64))
    assert only["synthetic"] == only["given"] == batch["given"]
    own = Dataset(raw["x"], captions=raw["short"], name="own", levels=256)
    mine = change(find_recipe("recaption-given"), **TINY, captions=("caption",), pieces=(), oddity=0.0).system
    assert mine.described(own, {}).batch(torch.arange(64))["given"] == raw["short"]  # type: ignore[attr-defined]


def test_a_step_reads_the_blend(captioner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system: Any = recipe(captioner, share=0.5).system
    parts = {"captioner": load_run(captioner).module}
    module = system.build(Scenes().spec, parts, seeded(0))
    read: list[list[str]] = []
    told = RecaptionSystem.told

    def listening(self: Any, module: Any, texts: Any, *rest: Any) -> torch.Tensor:
        read.append(list(texts))
        return told(self, module, texts, *rest)

    monkeypatch.setattr(RecaptionSystem, "told", listening)
    (stage,) = system.stages(module, Scenes(), parts)
    task = stage.task(recipe(captioner).training)
    assert task.count == 64
    for seed in (0, 0, 1):
        task.loss(turn(32, seed))
    batch = system.described(Scenes(), parts).batch(torch.arange(32))
    assert read[0] == blended(batch["given"], batch["synthetic"], 0.5, turn(32)) == read[1] != read[2]
    assert len({text in batch["given"] for text in read[0]}) == 2


def test_every_share_has_the_same_tokens(captioner: Path) -> None:
    parts, found = {"captioner": load_run(captioner).module}, []
    for share in (0.65, 1.0):
        system: Any = recipe(captioner, share=share).system
        module = system.build(Scenes().spec, parts, seeded(0))
        system.stages(module, Scenes(), parts)
        found.append(module.net.tokenizer.merges)
    alone: Any = change(find_recipe("recaption-given"), **TINY).system
    module = alone.build(Scenes().spec, {}, seeded(0))
    alone.stages(module, Scenes(), {})
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], module.net.tokenizer.merges)


def test_what_is_written_too_long_is_cut_and_a_prompt_is_not(run: Run) -> None:
    system, words = run.recipe.system, run.module.net.tokenizer
    text = "a red seven " * 40
    (row,) = system.told(run.module, [text], torch.zeros(1, 3, 16, 16), seeded(0))  # type: ignore[attr-defined]
    assert int(row[-1]) == words.end
    assert text.startswith(words.decode(row[None])[0])
    with pytest.raises(ValueError, match="texts must have at most 38 tokens"):
        words([text])


def test_odd_prompts_reach_the_network(run: Run) -> None:
    x, text = torch.randn(1, 3, 16, 16, generator=seeded(0)), "a large red seven at the upper left, on grey"
    with torch.no_grad():
        seen = [run.module.u(x, 0.5, run.module.net.tokenizer([restyle(text, style)])) for style in STYLES]
    for i, one in enumerate(seen):
        assert all(not torch.equal(one, other) for other in seen[:i])


def test_a_run_that_was_cut_goes_on_to_the_same_bits(
    captioner: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        pass

    step = Trainer.step

    def dying(self: Trainer) -> None:
        if self.done == 2:
            raise Cut
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(Cut):
            train(recipe(captioner), tmp_path / "cut", progress=False, pictures=False, checkpoint_every=1)
    train(recipe(captioner), tmp_path / "cut", resume=True, progress=False, pictures=False)
    a, b = load(tmp_path / "cut" / "checkpoints").weights, load(run.folder / "checkpoints").weights
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# --- what is measured


def test_prompts_are_written_in_every_way_and_measured_by_the_plain_one() -> None:
    test = Scenes(split="test").first(40)
    found = {one.name: one for one in written_prompts(test, 40)}
    short, whole = (test.batch(torch.arange(40))[name] for name in ("short", "caption"))
    assert list(found) == [
        "short", "descriptive", "short, odd", "descriptive, odd", "short, rewritten", "short, odd, rewritten",
    ]  # fmt: skip
    for name, one in found.items():
        assert one.asked == (whole if name.startswith("descriptive") else short)
    assert found["descriptive"].told == whole
    assert found["short, odd"].told == [restyle(text, ODD[i % len(ODD)]) for i, text in enumerate(short)]
    assert found["short, rewritten"].told == found["short, odd, rewritten"].told
    for text, told in zip(short, found["short, rewritten"].told, strict=True):
        assert [(thing.digit, thing.colour) for thing in read_caption(told).things] == [
            (thing.digit, thing.colour) for thing in read_caption(text).things
        ]


def test_the_report_has_three_measures(run: Run) -> None:
    rows = evaluate_run(run, samples=15, steps=1, scales=(2.0,))
    names = [row["prompts"] for row in rows]
    assert names[6:] == [f"binding {kind}{more}" for kind in BINDING for more in ("", ", rewritten")]
    assert all(-100 <= float(row["clip"]) <= 100 and row["w"] == 2.0 for row in rows)
    assert all({"all", "digit", "colour"} <= set(row) for row in rows[:6])
    assert all({"there", "bound", "exchanged"} <= set(row) for row in rows[6:])
    assert rows == evaluate_run(run, samples=15, steps=1, scales=(2.0,))


# --- the command


def test_paint_rewrites_a_prompt(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scene.png"
    base = ["--model", str(run.folder), "--steps", "1", "--out", str(out)]
    assert main(["paint", " A RED seven", *base, "--rewrite"]) == 0
    told = rewrite(" A RED seven", stream(0, "rewriting"))
    assert capsys.readouterr().out.startswith(f"{told}: ")
    first = out.read_bytes()
    assert main(["paint", told, *base]) == 0
    assert out.read_bytes() == first
    out.unlink()
    capsys.readouterr()
    for arguments, says in (
        (["a two at the top above a one at the top", "--rewrite"], "a prompt must ask for what a scene can have"),
        (["hello", "--rewrite"], "a caption must name one or two digits"),
        (["a red seven " * 20], "texts must have at most 38 tokens"),
    ):
        assert main(["paint", *arguments, *base]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"share": 1.1}, "share must be"),
        ({"oddity": -0.1}, "oddity must be"),
        ({"size": 0}, "size must be"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"top_k": -1}, "top_k must be"),
        ({"captions": ("noisy", "short")}, "captions must name the column of the given captions, one"),
        ({"parts": {}}, "parts must be a captioner, none for a share of 0"),
        ({"share": 0.0}, "parts must be a captioner, none for a share of 0"),
        ({"parts": {"captioner": "a", "judge": "b"}}, "parts must be a captioner"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RecaptionSystem(**{"parts": {"captioner": "runs/captioner"}, **settings})


def test_bad_parts_and_data_are_named() -> None:
    system = RecaptionSystem(parts={"captioner": "a"})
    with pytest.raises(ValueError, match="the part 'captioner' must be a run of the system captioner"):
        system.build(Scenes().spec, {"captioner": torch.nn.Linear(2, 2)}, seeded(0))
    given = RecaptionSystem(share=0.0, captions=("caption",))
    with pytest.raises(ValueError, match="pieces must name columns of the data"):
        given.build(Dataset(torch.zeros(4, 3, 16, 16), captions=["a"] * 4).spec, {}, seeded(0))
