"""DALL-E 3's captioner: its prefix, its loss, what of CLIP is trained, writing, the command."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import normal, seeded
from torch import Tensor

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.nets import GPT, Cache, ImageCNN, TextTransformer
from flowlib.nets.captioner import Captioner, PrefixGPT
from flowlib.nets.tokenizer import Tokenizer
from flowlib.plotting import png_of
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, evaluate_run, load_run, train
from flowlib.systems.caption_writing import digest_of, kept_captions, write_captions, write_tokens
from flowlib.systems.captioner import CaptionerSystem, caption_loss
from flowlib.systems.captions import chosen_captions
from flowlib.systems.clip import CaptionedCLIP, contrastive_loss
from flowlib.training import Turn

SMALL: dict[str, Any] = {"prefix": 2, "width": 16, "depth": 2, "heads": 2}
FAST: dict[str, Any] = {"steps": 3, "batch_size": 8}


def tiny_clip(seed: int = 0) -> CaptionedCLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = Tokenizer(400, 34)
        words.learn(Scenes().batch(torch.arange(50))["caption"])
        text = TextTransformer(400, 34, words.end, width=16, depth=1, heads=2)
        return CaptionedCLIP(ImageCNN(3, 16, (8, 8, 8), heads=2, out_dim=8), text, words)


def tiny(places: bool = True) -> Captioner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = Captioner(tiny_clip(), places=places, **SMALL)
        for parameter in made.gpt.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def prefix_gpt() -> PrefixGPT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = PrefixGPT(vocabulary=9, length=6, prefix=3, width=8, depth=2, heads=2)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return made.double()


TOKENS = torch.tensor([[7, 1, 4, 8], [7, 2, 8, 0]])


# --- the prefix


def test_a_prefix_is_read_as_tokens_before_the_text_would_be() -> None:
    """A plain GPT that has the vectors of both images as further words, and the prefix's places before the text's."""
    gpt, prefix = prefix_gpt(), normal(1, 2, 3, 8)
    plain = GPT(vocabulary=9 + 6, length=9, width=8, depth=2, heads=2).double()
    weights = {name: value for name, value in gpt.state_dict().items() if name != "before.weight"}
    weights["token.weight"] = torch.cat([weights["token.weight"], prefix.flatten(0, 1)])
    weights["place.weight"] = torch.cat([gpt.before.weight, weights["place.weight"]])
    weights["head.weight"] = torch.cat([weights["head.weight"], torch.zeros(6, 8, dtype=torch.float64)])
    plain.load_state_dict(weights)
    words = torch.tensor([[9, 10, 11], [12, 13, 14]])
    expected = plain(torch.cat([words, TOKENS], dim=1))[:, 3:, :9]
    assert torch.allclose(gpt(TOKENS, prefix=prefix), expected, atol=1e-12)


def test_every_place_sees_the_prefix_and_none_a_later_token() -> None:
    gpt, prefix = prefix_gpt(), normal(1, 2, 3, 8).requires_grad_()
    for place in range(4):
        (slope,) = torch.autograd.grad(gpt(TOKENS, prefix=prefix)[0, place, 2], prefix)
        assert bool((slope[0] != 0).any(1).all())
        assert not slope[1].any()  # the other image's
    later = TOKENS.clone()
    later[:, 3] = 5
    first, second = gpt(TOKENS, prefix=prefix), gpt(later, prefix=prefix)
    assert torch.equal(first[:, :3], second[:, :3])
    assert not torch.equal(first[:, 3], second[:, 3])


def test_logits_are_the_same_with_and_without_a_cache() -> None:
    gpt, prefix, cache = prefix_gpt(), normal(1, 2, 3, 8), Cache(2)
    steps = [gpt(TOKENS[:, :2], cache, prefix), gpt(TOKENS[:, 2:3], cache), gpt(TOKENS[:, 3:], cache)]
    assert torch.allclose(torch.cat(steps, dim=1), gpt(TOKENS, prefix=prefix), atol=1e-12)
    assert len(cache) == 3 + 4


def test_a_prefix_is_the_embedding_and_the_places_where_asked_for() -> None:
    x = normal(2, 3, 3, 16, 16).float()
    alone, both = tiny(places=False), tiny(places=True)
    whole, places = both.clip.image(x, None)
    assert (alone.see(x).shape, both.see(x).shape) == ((3, 2, 16), (3, 2 + 16, 16))
    louder = both.prefix(3 * whole, places)
    assert torch.allclose(louder, both.see(x), atol=1e-5)  # of an embedding the direction counts
    assert torch.equal(alone.prefix(whole, places), alone.prefix(whole, 2 * places))
    assert torch.equal(both.prefix(whole, 2 * places)[:, :2], both.see(x)[:, :2])
    assert not torch.allclose(both.prefix(whole, 2 * places)[:, 2:], both.see(x)[:, 2:])


def test_a_prefix_that_is_missing_or_comes_twice_is_named() -> None:
    gpt, prefix, cache = prefix_gpt(), normal(1, 2, 3, 8), Cache(2)
    with pytest.raises(ValueError, match="prefix must be given with the first tokens"):
        gpt(TOKENS)
    gpt(TOKENS, cache, prefix)
    with pytest.raises(ValueError, match="and only with them"):
        gpt(TOKENS[:, :1], cache, prefix)
    for bad in (prefix[:1], prefix[:, :2], prefix.long()):
        with pytest.raises(ValueError, match=r"prefix must be vectors \(2, 3, 8\), got"):
            gpt(TOKENS, prefix=bad)
    with pytest.raises(ValueError, match="tokens must be integers"):
        gpt(TOKENS.repeat(1, 2), prefix=prefix)


# --- the loss


def test_the_loss_is_its_definition() -> None:
    logits = normal(0, 2, 3, 9)
    tokens = torch.tensor([[7, 1, 4, 8], [7, 2, 8, 0]])  # 0 is padding: two tokens of the second text are asked for
    logs = [
        float(logits[row, place].exp()[tokens[row, place + 1]] / logits[row, place].exp().sum())
        for row, place in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ]
    expected = -sum(math.log(p) for p in logs) / 5
    assert float(caption_loss(logits, tokens, padding=0)) == pytest.approx(expected, rel=1e-5)
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(caption_loss(logits, tokens, padding=0), logits)
    assert not slope[1, 2].any()


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_a_step_descends_the_loss_of_both_on_the_same_captions(weight: float) -> None:
    system, data, clip = CaptionerSystem(**SMALL, contrastive=weight), Scenes(), tiny_clip()
    module: Any = system.build(data.spec, {"clip": clip}, seeded(0))
    (stage,) = system.stages(module, data, {"clip": clip})
    turn = Turn(torch.arange(6), slice(None), seeded(5))
    found = stage.task.loss(turn)  # type: ignore[operator, union-attr]
    batch = data.batch(torch.arange(6))
    texts = chosen_captions(batch, ("noisy",), Turn(torch.arange(6), slice(None), seeded(5)))
    tokens = clip.tokenizer(texts)
    said = caption_loss(module(batch["x"], tokens[:, :-1]), tokens, clip.tokenizer.padding)
    apart, _ = contrastive_loss(clip.encode_image(batch["x"]), clip.read(texts), clip.scale())
    assert found["loss"].item() == pytest.approx((said + weight * apart).item(), rel=1e-5)
    assert set(found) == ({"loss", "text", "contrastive"} if weight else {"loss"})


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({}, {"image", "text"}),
        ({"contrastive": 0.0}, {"image"}),
        ({"contrastive": 0.0, "tuned": False}, set()),
    ],
)
def test_of_clip_is_trained_what_a_loss_reads(settings: dict[str, Any], moved: set[str], tmp_path: Path) -> None:
    run = train(change(find_recipe("captioner"), **SMALL, **FAST, **settings), tmp_path, progress=False, pictures=False)
    before = load_run("zoo:clip-conv").module.state_dict()
    after = run.module.clip.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"projection", "logit_scale"} == moved


# --- fine-tuning


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner") / "base"
    train(change(find_recipe("captioner"), **SMALL, **FAST), folder, progress=False, pictures=False)
    return folder


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("captioner") / "run"
    recipe = change(find_recipe("captioner-descriptive"), **SMALL, **FAST, parts={"base": str(base)})
    return train(recipe, folder, progress=False)


def test_a_fine_tuning_starts_as_its_base_and_learns_other_captions(base: Path, run: Run) -> None:
    first, spec = load_run(base).module, Scenes().spec
    system = run.recipe.system
    assert system.captions == ("caption",)
    assert find_recipe("captioner-short").system.captions == ("short",)
    made = system.build(spec, {"base": first}, seeded(3))
    assert digest_of(made) == digest_of(first)
    assert digest_of(run.module) != digest_of(first)
    with pytest.raises(ValueError, match="the part 'base' must have the settings of this one"):
        CaptionerSystem(**SMALL | {"depth": 1}, parts={"base": "x"}).build(spec, {"base": first}, seeded(3))


def test_it_draws_what_it_writes(run: Run) -> None:
    assert sorted(path.name for path in (run.folder / "samples").iterdir())[-1] == "step-00000003.png"


# --- writing


def luck(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 33, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"temperature": 0.5}, {"top_k": 4}, {}])
def test_captions_are_the_same_with_and_without_a_cache(options: dict[str, Any]) -> None:
    captioner, x = tiny(), normal(3, 20, 3, 16, 16).float()
    first = write_tokens(captioner, x, luck(20), **options)
    assert torch.equal(first, write_tokens(captioner, x, luck(20), cached=False, **options))
    assert len({tuple(row) for row in first.tolist()}) > 1
    if options.get("top_k") != 1:
        assert not torch.equal(first, write_tokens(captioner, x, luck(20, 1), **options))


def test_each_place_has_a_chance_of_its_own() -> None:
    captioner, x = tiny(), normal(3, 20, 3, 16, 16).float()
    first, other = luck(20), luck(20)
    other[:, 6:] = luck(20, 1)[:, 6:]
    rows, changed = write_tokens(captioner, x, first), write_tokens(captioner, x, other)
    assert torch.equal(rows[:, :7], changed[:, :7])
    assert not torch.equal(rows[:, 7], changed[:, 7])


def test_the_most_probable_token_is_taken_at_each_place() -> None:
    captioner, x = tiny(), normal(3, 8, 3, 16, 16).float()
    words = captioner.tokenizer
    rows = write_tokens(captioner, x, luck(8), top_k=1)
    logits = captioner(x, rows[:, :-1])
    logits[..., [words.start, words.padding]] = -float("inf")
    for row, best in zip(rows.tolist(), logits.argmax(2).tolist(), strict=True):
        end = row.index(words.end)
        assert row[1:end] == best[: end - 1]
        assert end == words.length - 1 or best[end - 1] == words.end


def test_a_caption_is_a_start_a_text_an_end_and_padding() -> None:
    captioner, x = tiny(), normal(3, 60, 3, 16, 16).float()
    words = captioner.tokenizer
    favourite = write_tokens(captioner, x, luck(60), top_k=1)[:, 1].mode().values
    with torch.no_grad():
        # What it would like to say most.
        captioner.gpt.head.weight[[words.start, words.padding]] = 3 * captioner.gpt.head.weight[favourite]
        captioner.gpt.head.weight[words.end] = captioner.gpt.head.weight[:40].mean(0)
    rows = write_tokens(captioner, x, luck(60))
    assert rows.shape == (60, 34)
    assert bool((rows[:, 0] == words.start).all())
    ends = (rows == words.end).int().argmax(1)
    assert len(set(ends.tolist())) > 3
    for row, end in zip(rows.tolist(), ends.tolist(), strict=True):
        assert not {words.start, words.end, words.padding} & set(row[1:end])
        assert row[end:] == [words.end] + [words.padding] * (33 - end)
    with pytest.raises(ValueError, match="top_k must be at most 400"):
        write_tokens(captioner, torch.zeros(1, 3, 16, 16), luck(1), top_k=401)


def test_one_seed_is_one_set_of_captions() -> None:
    captioner, x = tiny(), normal(3, 5, 3, 16, 16).float()
    drawn = [write_captions(captioner, x, top_k=0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_captions_of_a_data_set_are_written_once_for_what_they_follow_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    captioner, data = tiny(), Scenes()
    first = kept_captions(captioner, data, 30)
    assert first == write_captions(captioner, data.batch(torch.arange(30))["x"])
    (path,) = tmp_path.rglob("*.json")
    with monkeypatch.context() as patch:
        patch.setattr(PrefixGPT, "forward", None)  # nobody writes
        assert kept_captions(captioner, data, 30) == first
    others = [kept_captions(captioner, data, 29), kept_captions(captioner, Scenes(seed=1), 30)]
    others += [kept_captions(captioner, data, 30, top_k=0), kept_captions(captioner, data, 30, top_k=0, seed=1)]
    with torch.no_grad():
        captioner.gpt.head.weight.neg_()
    others.append(kept_captions(captioner, data, 30))
    assert all(texts != first for texts in others)
    assert len(list(tmp_path.rglob("*.json"))) == 6
    with torch.no_grad():
        captioner.gpt.head.weight.neg_()
    for content in ("{", "[1, 2]", "[]"):  # damaged: written again
        path.write_text(content)
        assert kept_captions(captioner, data, 30) == first


def test_a_cache_that_cannot_be_written_is_only_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(kept_captions(tiny(), Scenes(), 3)) == 3
    assert "the captions are not kept" in caplog.text


# --- what is reported and commanded


def test_the_report_has_the_truth_of_the_datas_captions_and_of_its_own(run: Run, base: Path) -> None:
    rows = evaluate_run(run, samples=100)
    assert [row["captions"] for row in rows] == ["caption", "written, top 1", "written"]
    assert {rows[0][key] for key in rows[0] if key != "captions"} == {1.0}
    assert float(rows[1]["complete"]) < 0.2  # of three steps
    (noisy,) = evaluate_run(load_run(base), samples=1000, top_ks=())
    assert 0.9 < float(noisy["parsed"]) < 0.99  # a share of 0.05 says nothing
    for key in ("digit", "colour", "size"):
        assert 0.84 < float(noisy[key]) < 0.95  # one in ten is wrong, of two digits either
    assert float(noisy["complete"]) == 0


def test_describe_prints_captions(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = tmp_path / "scene.png"
    scene.write_bytes(png_of(Scenes(split="test").batch(torch.arange(1))["x"]))
    base = ["describe", str(scene), "--model", str(run.folder)]
    assert main(base) == 0
    first = capsys.readouterr().out
    expected = write_captions(run.module, Scenes(split="test").batch(torch.arange(1))["x"])
    assert first == expected[0] + "\n"
    assert main([*base, "--count", "3", "--top-k", "0"]) == 0
    capsys.readouterr()
    for arguments, says in (
        ([*base, "--top-k", "1000"], "top_k must be at most 512"),
        ([*base, "--top-k", "-1"], "top_k must be"),
        ([*base, "--temperature", "0"], "temperature must be"),
        ([*base, "--count", "0"], "count must be"),
        ([*base, "--seed", "-1"], "seed must be"),
        (["describe", str(tmp_path / "no.png"), "--model", str(run.folder)], "is no file"),
        (["describe", str(scene), "--model", "zoo:judge"], "describe is no command for a run of the system 'judge'"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"captions": ()}, "captions must name columns"),
        ({"prefix": 0}, "prefix must be"),
        ({"places": 1}, "places must be"),
        ({"contrastive": -1.0}, "contrastive must be"),
        ({"tuned": False}, "contrastive must be 0 for a CLIP that is not trained, got 0.5"),
        ({"parts": {}}, "parts must be a clip, or a base"),
        ({"parts": {"clip": "a", "base": "b"}}, "parts must be a clip, or a base"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CaptionerSystem(**settings)


def test_bad_parts_and_data_are_named() -> None:
    clip, spec = tiny_clip(), Scenes().spec
    with pytest.raises(ValueError, match="the part 'clip' must be a CLIP of clean pictures"):
        CaptionerSystem().build(spec, {"clip": torch.nn.Linear(2, 2)}, seeded(0))
    with pytest.raises(ValueError, match="the part 'base' must be a run of the system captioner"):
        CaptionerSystem(parts={"base": "a"}).build(spec, {"base": clip}, seeded(0))
    with pytest.raises(ValueError, match="must see pictures"):
        CaptionerSystem().build(Scenes(32).spec, {"clip": clip}, seeded(0))
    with pytest.raises(ValueError, match="a captioner needs images with columns"):
        CaptionerSystem().build(Dataset(torch.zeros(4, 3, 16, 16)).spec, {"clip": clip}, seeded(0))
