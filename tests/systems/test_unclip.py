"""unCLIP: what is dropped, where it starts from, pictures to latents and back, its commands, and what they refuse."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from examples import normal, seeded
from PIL import Image

from flowlib.cli import main
from flowlib.data import Scenes
from flowlib.data.pixels import read_picture, read_same_size
from flowlib.ddim import sample_ddim
from flowlib.fields import MixtureField
from flowlib.nets.unclip import CaptionedEmbedding
from flowlib.paths import GaussianPath
from flowlib.plotting import png_of
from flowlib.recipes import change, find_recipe
from flowlib.runs import evaluate_run, load_pretrained, load_run, train
from flowlib.schedules import Trigonometric
from flowlib.systems.embedded import embed_images
from flowlib.systems.glide import GlideSystem
from flowlib.systems.unclip import UnCLIPSystem
from flowlib.systems.unclip_editing import Decoder, VaryRequest, slerp
from flowlib.systems.unclip_painting import embed_texts

NET: dict[str, Any] = {
    "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16},
    "text_width": 16, "text_depth": 1, "text_heads": 2,
}  # fmt: skip
PRIOR = {"width": 16, "depth": 1, "heads": 2, "examples": 30, "steps": 2, "batch_size": 8}
SPEC = Scenes().spec


def clip() -> Any:
    return load_pretrained("clip-conv", "cpu").module


# --- the sphere


def test_slerp_is_a_turn_at_even_speed() -> None:
    a, b = F.normalize(normal(0, 5, 3, 4).flatten(1), dim=1), F.normalize(normal(1, 5, 3, 4).flatten(1), dim=1)
    angle = torch.arccos((a * b).sum(1))
    for share in (0.0, 0.25, 0.7, 1.0):
        found = slerp(a.view(5, 3, 4), b.view(5, 3, 4), share)
        assert found.shape == (5, 3, 4)
        flat = found.flatten(1)
        torch.testing.assert_close(flat.norm(dim=1), torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(torch.arccos((a * flat).sum(1).clamp(-1, 1)), share * angle, atol=1e-7, rtol=0)
        torch.testing.assert_close(torch.arccos((b * flat).sum(1).clamp(-1, 1)), (1 - share) * angle, atol=1e-7, rtol=0)
    each = torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, each)[2], slerp(a[2:3], b[2:3], 0.5)[0])
    torch.testing.assert_close(slerp(a, b, 0.3), slerp(b, a, 0.7))


def test_slerp_of_the_same_and_of_other_lengths_and_of_opposites() -> None:
    a = normal(0, 3, 4)
    torch.testing.assert_close(slerp(a, a, 0.4), a)
    torch.testing.assert_close(slerp(a, a + 1e-9, 0.5), a, atol=1e-8, rtol=0)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(slerp(one, other, 0.5), torch.tensor([[2.0, 4.0]]) / math.sqrt(2))
    with pytest.raises(ValueError, match="must not point to opposite sides"):
        slerp(a, -a, 0.5)
    with pytest.raises(ValueError, match="b must have the shape of a"):
        slerp(a, a[:, :3], 0.5)


# --- pictures to latents and back


class Law(MixtureField):
    """Pictures of 2 x 2 pixels, whose law is known, as the field of a decoder."""

    null = 4

    def __init__(self) -> None:
        means = normal(0, 4, 1, 2, 2)
        super().__init__(means, 0.4, path=GaussianPath(Trigonometric()))
        self.net = SimpleNamespace(
            tokenizer=lambda texts: None, guide=lambda tokens, embedding: torch.full((len(embedding),), 4)
        )


class Eye:
    """What calls the direction of a picture its embedding."""

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(images.flatten(1), dim=1)


def decoder_of(law: Law, steps: int) -> Decoder:
    return Decoder(SimpleNamespace(module=law, parts={"clip": Eye()}), steps=steps)


def test_a_picture_comes_back_from_its_latent_at_first_order() -> None:
    law = Law()
    z = law.sample(50, seeded(0))[0]
    errors = []
    for steps in (50, 100, 200):
        decoder = decoder_of(law, steps)
        embedding, latent = decoder.read(z)
        assert torch.equal(embedding, F.normalize(z.flatten(1), dim=1))
        back = sample_ddim(law, latent, decoder.guides(embedding), steps=steps)
        assert torch.equal(decoder.draw(embedding, latent), back.clamp(-1, 1))
        errors.append(float((back - z).square().mean().sqrt()))
    assert errors[-1] < 0.04
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.25)


def test_new_noise_varies_a_picture_up_to_another_draw_of_the_law() -> None:
    law = Law()
    some = law.sample(200, seeded(0))[0]
    z = some[some.flatten(1).abs().amax(1) < 0.9][:1]
    decoder = decoder_of(law, 100)
    embedding, latent = decoder.read(z)
    rows = (embedding.expand(800, -1), latent.expand(800, -1, -1, -1))
    drawn = [decoder.draw(*rows, eta=eta) for eta in (0.0, 0.3, 1.0)]
    spread = [float((x - z).square().mean().sqrt()) for x in drawn]
    assert spread[0] < 0.12 < spread[1] < spread[2], spread
    fresh = law.sample(20_000, seeded(1))[0].clamp(-1, 1)
    torch.testing.assert_close(drawn[2].mean(0), fresh.mean(0), atol=0.12, rtol=0)
    few = (embedding.expand(3, -1), latent.expand(3, -1, -1, -1))
    assert torch.equal(decoder.draw(*few, eta=1.0), decoder.draw(*few, eta=1.0))
    assert not torch.equal(decoder.draw(*few, eta=1.0), decoder.draw(*few, eta=1.0, seed=1))


# --- what is learned


def test_captions_and_embeddings_are_dropped_on_their_own() -> None:
    system = find_recipe("unclip").system
    assert isinstance(system, UnCLIPSystem)
    assert (system.dropout, system.embedding_dropout) == (0.5, 0.1)
    small = UnCLIPSystem(net="unet", **NET)
    model = small.build(SPEC, {"clip": clip()}, seeded(0))
    net = model.net
    assert isinstance(net, CaptionedEmbedding)
    y = net.guide(net.tokenizer(["a two"]), F.normalize(normal(0, 1, 64).float(), dim=1)).expand(20_000, -1)
    kept = small.dropped(model, y, seeded(1))
    no_caption = (kept[:, :24] == net.null[:24]).all(1)
    no_embedding = (kept[:, 24:] == 0).all(1)
    for found, share in ((no_caption, 0.5), (no_embedding, 0.1), (no_caption & no_embedding, 0.05)):
        assert abs(float(found.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / 20_000)
    assert torch.equal(kept[~no_caption, :24], y[~no_caption, :24])
    assert torch.equal(kept[~no_embedding, 24:], y[~no_embedding, 24:])


def test_it_starts_as_the_painter_it_is_made_of_and_refuses_others() -> None:
    settings = NET | {"net": "unet"}
    painter = GlideSystem(**settings).build(SPEC, {}, seeded(0))
    for parameter in painter.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    parts = {"clip": clip(), "base": painter}
    system = UnCLIPSystem(**settings, parts={"clip": "zoo:clip-conv", "base": "painter"})
    made = system.build(SPEC, parts, seeded(3))
    tokens = painter.net.tokenizer(["a red seven", "a blue two"])  # type: ignore[operator, union-attr]
    x = normal(0, 2, 3, 16, 16).float()
    y = made.net.guide(tokens, torch.zeros(2, 64))  # type: ignore[operator, union-attr]
    torch.testing.assert_close(made.u(x, 0.4, y), painter.u(x, 0.4, tokens), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="the part 'base' must have the settings of this one"):
        UnCLIPSystem(**settings | {"text_depth": 2}).build(SPEC, parts, seeded(3))
    with pytest.raises(ValueError, match="must be a painter of the system glide"):
        system.build(SPEC, parts | {"base": made}, seeded(3))
    with pytest.raises(ValueError, match="a prior must be a run of the system unclip-prior"):
        system.build(SPEC, parts | {"diffusion": painter}, seeded(3))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("unclip")
    found = {"diffusion": folder / "diffusion", "autoregressive": folder / "autoregressive", "run": folder / "run"}
    train(change(find_recipe("unclip-prior"), **PRIOR), found["diffusion"], progress=False, pictures=False)
    codes = {"components": 3, "buckets": 4}
    recipe = change(find_recipe("unclip-prior-autoregressive"), **PRIOR, **codes)
    train(recipe, found["autoregressive"], progress=False, pictures=False)
    parts = {"clip": "zoo:clip-conv", "diffusion": str(found["diffusion"])}
    train(change(find_recipe("unclip"), **NET, parts=parts, steps=1, batch_size=8), found["run"], progress=False)
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    scenes = Scenes(split="test").batch(torch.arange(2))["x"]
    for name, images in (("one", scenes[:1]), ("two", scenes[1:])):
        (folder / f"{name}.png").write_bytes(png_of(images))
    Image.new("RGB", (20, 30)).save(folder / "odd.png")
    Image.new("RGB", (32, 16)).save(folder / "wide.png")
    (folder / "text.png").write_text("no image")
    return {name: str(folder / f"{name}.png") for name in ("one", "two", "odd", "wide", "text", "missing")}


def test_a_run_is_told_embeddings_and_is_measured_by_where_they_come_from(runs: dict[str, Path]) -> None:
    run = load_run(runs["run"])
    assert sorted(path.name for path in (runs["run"] / "samples").iterdir())[-1] == "step-00000001.png"
    net, texts = run.module.net, ["a red seven", "a blue two"]
    embedding = embed_texts(run.parts["diffusion"], run.parts["clip"], texts, run.spec)
    assert torch.equal(embed_texts(None, run.parts["clip"], texts, run.spec), run.parts["clip"].text_features(texts))
    y = net.guide(net.tokenizer(texts), embedding)
    images = run.sample(y, scale=2.0, steps=2)
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(images, run.sample(y, scale=2.0, steps=2))
    rows = evaluate_run(run, samples=200, steps=1, scales=(2.0,))
    assert [row["samples"] for row in rows] == [
        "test scenes", "caption alone, w = 2", "no prior, w = 2", "diffusion, w = 2", "true picture, w = 2",
    ]  # fmt: skip
    assert rows[1]["cosine"] == 0
    assert rows[4]["cosine"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < float(rows[2]["cosine"]) < 0.7  # of texts, whatever the priors have learned
    assert {"digit", "held out", "frechet", "nfe", "per_second"} <= set(rows[3])


# --- the commands


@pytest.mark.parametrize("prior", ["", "diffusion", "autoregressive", "none"])
def test_paint_draws_by_a_prior_or_none(runs: dict[str, Path], tmp_path: Path, prior: str) -> None:
    base = ["paint", "a blue two at the upper left", "--model", str(runs["run"]), "--steps", "2", "--count", "2"]
    name = str(runs[prior]) if prior == "autoregressive" else prior  # a run beside it
    asked = [*base, *(["--prior", name] if prior else []), *([] if prior == "none" else ["--prior-scale", "1.5"])]
    assert main([*asked, "--out", str(tmp_path / "a.png")]) == 0
    assert main([*asked, "--out", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    if prior == "none":
        assert main([*asked, "--upsampler", "zoo:scenes-upsampler", "--out", str(tmp_path / "large.png")]) == 0
        with Image.open(tmp_path / "large.png") as large:
            large.crop((0, 0, 256, 256)).save(tmp_path / "one.png")
        assert read_same_size(tmp_path / "one.png", (3, 32, 32)).shape == (3, 32, 32)
        with pytest.raises(ValueError, match="must have 16 x 16 pixels, or be these enlarged, got 256 x 256"):
            read_same_size(tmp_path / "one.png", (3, 16, 16))


def test_vary_with_no_new_noise_gives_the_picture_back(
    runs: dict[str, Path], pictures: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    base = ["vary", pictures["one"], "--model", str(runs["run"]), "--count", "2", "--out", str(out), "--steps", "40"]
    assert main([*base, "--eta", "0"]) == 0
    assert "variations of" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 256 + 2 * 8, 256)
        parts = [sheet.crop((264 * i, 0, 264 * i + 256, 256)) for i in range(3)]
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.png")
    first, second, third = (read_same_size(tmp_path / f"{i}.png", (3, 16, 16)) for i in range(3))
    assert torch.equal(first, read_picture(Path(pictures["one"]), (3, 16, 16)))
    assert torch.equal(second, third)
    assert float((second - first).square().mean().sqrt()) < 0.1
    same = out.read_bytes()
    assert main(base) == 0
    varied = out.read_bytes()
    assert varied != same
    assert main([*base, "--seed", "1"]) == 0
    assert out.read_bytes() != varied


def test_text_differences_turn_the_embedding(runs: dict[str, Path], pictures: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    base = ["vary", pictures["one"], "--model", str(runs["run"]), "--count", "3", "--steps", "3", "--out", str(out)]
    assert main([*base, "--towards", "a red seven", "--instead-of", "a blue two"]) == 0
    assert main([*base, "--towards", "a red seven"]) == 0
    run = load_run(runs["run"])
    decoder, eye = Decoder(run, steps=3), run.parts["clip"]
    own = embed_images(eye, read_picture(Path(pictures["one"]), (3, 16, 16))[None])
    shares = torch.tensor([0.0, 0.25, 0.5])
    turned = decoder.towards(own, "a red seven", "a blue two", shares)
    difference = F.normalize(eye.text_features(["a red seven"]) - eye.text_features(["a blue two"]), dim=1)
    torch.testing.assert_close(turned[:1], own)
    torch.testing.assert_close(turned, slerp(own.expand(3, -1), difference.expand(3, -1), shares))
    torch.testing.assert_close(turned.norm(dim=1), torch.ones(3))
    with pytest.raises(ValueError, match="--towards and --instead-of must differ"):
        decoder.towards(own, "a two", "a two", shares)


def test_blend_begins_and_ends_with_the_pictures(
    runs: dict[str, Path], pictures: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    base = ["blend", pictures["one"], pictures["two"], "--model", str(runs["run"]), "--steps", "40"]
    assert main([*base, "--count", "3", "--out", str(out)]) == 0
    found = []
    with Image.open(out) as sheet:
        for i in range(5):
            sheet.crop((264 * i, 0, 264 * i + 256, 256)).save(tmp_path / f"{i}.png")
            found.append(read_same_size(tmp_path / f"{i}.png", (3, 16, 16)))
    for end, near in ((0, 1), (4, 3)):
        assert float((found[near] - found[end]).square().mean().sqrt()) < 0.1
    gap = float((found[4] - found[0]).square().mean().sqrt())
    assert all(float((found[2] - found[end]).square().mean().sqrt()) < gap for end in (0, 4))


def test_bad_input_is_one_line_and_writes_nothing(
    runs: dict[str, Path], pictures: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    one = pictures["one"]
    for arguments, says in (
        (["vary", pictures["odd"]], "must have 16 x 16 pixels, or be these enlarged, got 20 x 30"),
        (["vary", pictures["wide"]], "must have 16 x 16 pixels, or be these enlarged, got 32 x 16"),
        (["blend", one, pictures["odd"]], "must have 16 x 16 pixels"),
        (["vary", pictures["text"]], "is no image"),
        (["vary", pictures["missing"]], "is no file"),
        (["vary", one, "--eta", "1.5"], "eta must be"),
        (["vary", one, "--count", "0"], "count must be"),
        (["vary", one, "--steps", "1"], "steps must be"),
        (["vary", one, "--reach", "2"], "reach must be"),
        (["vary", one, "--scale", "nan"], "scale must be"),
        (["vary", one, "--instead-of", "a two"], "--instead-of only goes with --towards"),
        (["vary", one, "--reach", "0.1"], "--reach only goes with --towards"),
        (["vary", one, "--eta", "0.5", "--towards", "a two"], "--eta does not go with --towards"),
        (["vary", one, "--seed", "1", "--towards", "a two"], "--seed does not go with --towards"),
        (["vary", one, "--seed", "1", "--eta", "0"], "--seed does not go with --eta 0.0"),
        (["vary", one, "--scale", "1e30"], "scale must be a finite number in [-1000.0, 1000.0]"),
        (["paint", "a two", "--prior", "none", "--prior-scale", "5"], "--prior-scale does not go with --prior none"),
        (["paint", "a \udcff"], "caption must be text in UTF-8"),
        (["vary", one, "--towards", " "], "--towards must not be blank"),
        (["vary", one, "--towards", "a " * 40], "texts must have at most 30 tokens"),
        (["vary", one, "--count", str(10**12)], "GiB"),
        (["paint", "a " * 40], "texts must have at most 22 tokens"),
        (["paint", "a two", "--prior", "zoo:judge"], "--prior must name a run of the system unclip-prior"),
        (["paint", "a two", "--prior", "nowhere"], "holds no run"),
        (["paint", "a two", "--top-k", "3"], "a run of the system 'unclip' takes no --top-k"),
        (["paint", "a two", "--prior-scale", "nan"], "prior_scale must be"),
    ):
        assert main([*arguments, "--model", str(runs["run"]), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert says in error, error
        assert error.count("\n") == 1
    assert main(["vary", one, "--model", "zoo:scenes-text", "--out", str(out)]) == 2
    assert "vary is no command for a run of the system 'glide'" in capsys.readouterr().err
    assert main(["vary", one, "--model", str(runs["run"]), "--out", str(tmp_path / "out.txt")]) == 2
    assert "--out must be a picture" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"embedding_dropout": 2.0}, "embedding_dropout must be"),
        ({"parts": {}}, "parts must be clip, and perhaps base, diffusion, autoregressive"),
        ({"parts": {"clip": "zoo:clip-conv", "judge": "zoo:judge"}}, "parts must be clip"),
        ({"captions": ()}, "captions name columns"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        UnCLIPSystem(**settings)


def test_a_request_to_vary_has_the_papers_reach() -> None:
    assert 0.25 <= VaryRequest(picture=Path("a.png")).reach <= 0.5
