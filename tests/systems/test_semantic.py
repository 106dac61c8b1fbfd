"""Semantic guidance: each energy is its definition, moves a sample as it must, and its encoder learns to agree."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib import EnergyGuidance, GaussianPath, MixtureField, sample_ode
from flowlib.data import Scenes
from flowlib.recipes import change, find_recipe
from flowlib.runs import RunError, evaluate_run, load_run, train
from flowlib.schedules import Linear
from flowlib.systems.clip import CaptionedCLIP, CLIPSystem
from flowlib.systems.semantic import (
    SemanticSystem,
    content_energy,
    gram_matrix,
    like,
    structure_energy,
    style_energy,
    text_energy,
)
from flowlib.times import uniform_time
from flowlib.training import Turn, read_metrics

SHAPE = (3, 4, 4)
T = torch.tensor([0.3, 0.6], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Eyes(nn.Module):
    """An encoder whose feature of a picture is the mean of its colours, and of a place its colour; times are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor | None] = []
        self.time = None

    def forward(self, x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
        self.asked.append(t)
        return x.mean((2, 3)).double(), x.flatten(2).transpose(1, 2).double()


class Seer(nn.Module):
    """A CLIP of these eyes, whose texts are the names of the axes."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Eyes()

    def text_features(self, texts: list[str]) -> Tensor:
        return torch.eye(3, dtype=torch.float64)[[("red", "green", "blue").index(text) for text in texts]]


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=seeded(seed), dtype=torch.float64)


def test_the_four_energies_are_their_definitions() -> None:
    clip, x, other = Seer(), pictures(), pictures(1, 1)[0]
    reference = like(other)
    found = [
        make(clip, reference, looks="clean").log_prob(x, T, None)
        for make in (content_energy, structure_energy, style_energy)
    ]
    a, b = x.mean((2, 3)), other.mean((1, 2))
    for i in range(2):
        assert float(found[0][i]) == pytest.approx(float(a[i] @ b / a[i].norm() / b.norm()), abs=1e-6)
        assert float(found[1][i]) == pytest.approx(-float((x[i] - other).square().mean()), abs=1e-6)
        gap = 0.0
        for c in range(3):
            for d in range(3):
                own, its = (float((y[c] * y[d]).sum()) / 48 for y in (x[i], other))
                gap += (own - its) ** 2
        assert float(found[2][i]) == pytest.approx(-gap, abs=1e-6)
    text = text_energy(clip, ["red"], looks="clean").log_prob(x, T, None)
    assert torch.allclose(text.double(), F.normalize(a, dim=1)[:, 0], atol=1e-6)
    own = text_energy(clip, ["blue", "red"], looks="clean").log_prob(x, T, None)
    assert torch.allclose(own.double(), F.normalize(a, dim=1)[[0, 1], [2, 0]], atol=1e-6)


def test_content_and_style_do_not_see_places_and_structure_does() -> None:
    """The same pixels in another order: style and content are as good as at the picture itself."""
    clip, x = Seer(), pictures(1)
    moved = x.flatten(2)[..., torch.randperm(16, generator=seeded())].reshape(x.shape)
    t = T[:1]
    scores = {
        make: float(make(clip, like(x[0]), looks="clean").log_prob(moved, t, None))
        for make in (content_energy, structure_energy, style_energy)
    }
    assert scores[content_energy] == pytest.approx(1, abs=1e-6)
    assert scores[style_energy] == pytest.approx(0, abs=1e-10)
    assert scores[structure_energy] < -0.5
    gram = gram_matrix(x.flatten(2).transpose(1, 2))
    assert torch.allclose(gram, gram.transpose(1, 2))
    assert float(gram.diagonal(dim1=1, dim2=2).sum()) == pytest.approx(float(x.square().mean()), abs=1e-6)


def test_an_energy_of_noised_pictures_notes_the_time_and_noises_the_reference_to_it() -> None:
    clip, x, path = Seer(), pictures(), GaussianPath(Linear())
    reference = pictures(1, 1)[0]
    at = like(reference, path, seeded(3))
    noise = torch.randn(2, *SHAPE, generator=seeded(3)).double()
    assert torch.allclose(at(T), path.sample(reference.expand(2, -1, -1, -1), T, noise))
    assert not torch.equal(at(T), at(T))
    structure_energy(clip, at).log_prob(x, T, None)
    assert len(clip.image.asked) == 2
    assert all(torch.equal(t, T) for t in clip.image.asked)
    clip.image.asked.clear()
    structure_energy(clip, like(reference), looks="clean").log_prob(x, T, None)
    assert clip.image.asked == [None, None]
    assert structure_energy(clip, at).looks == "noised"


def test_a_sampler_follows_each_energy_and_their_mix() -> None:
    field = MixtureField(torch.zeros(1, *SHAPE, dtype=torch.float64), 0.5)
    noise, clip, reference = pictures(16, 2), Seer(), 0.7 * pictures(1, 5)[0]
    plain = sample_ode(field, noise, steps=20)
    same = like(reference)
    energies = {
        "text": text_energy(clip, ["red"], 30.0, "clean"),
        "content": content_energy(clip, same, 30.0, "clean"),
        "structure": structure_energy(clip, same, 100.0, "clean"),
        "style": style_energy(clip, same, 400.0, "clean"),
    }
    t, gains = torch.ones(16, dtype=torch.float64), {}
    for name, energy in energies.items():
        drawn = sample_ode(EnergyGuidance(field, energy), noise, steps=20)
        gains[name] = float((energy.log_prob(drawn, t, None) - energy.log_prob(plain, t, None)).mean())
    assert gains["text"] > 0.15
    assert gains["content"] > 0.15
    assert gains["structure"] > 0.15
    assert gains["style"] > 0.005
    both = sample_ode(EnergyGuidance(field, [energies["text"], energies["structure"]]), noise, steps=20)
    for name in ("text", "structure"):
        change = energies[name].log_prob(both, t, None) - energies[name].log_prob(plain, t, None)
        assert float(change.mean()) > 0.1, name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP that was trained a little, and what agrees with it after a few steps."""
    folder = tmp_path_factory.mktemp("semantic")
    tiny = {"image_args": {"patch": 8, "width": 16, "depth": 1, "heads": 2}, "width": 16, "depth": 1, "heads": 2}
    common = {"pictures": False, "progress": False}
    train(change(find_recipe("clip-vit"), **tiny, embedding=8, steps=40, batch_size=64), folder / "clip", **common)
    recipe = change(find_recipe("clip-noised-agree"), parts={"clip": str(folder / "clip")}, steps=60, batch_size=64)
    train(recipe, folder / "agree", **common)
    return folder


def test_it_starts_as_the_clip_at_every_time_and_moves_its_image_encoder_alone(runs: Path) -> None:
    clip = load_run(runs / "clip", "cpu").module
    system = SemanticSystem(parts={"clip": str(runs / "clip")})
    made = system.build(Scenes().spec, {"clip": clip}, seeded())
    assert isinstance(made, CaptionedCLIP)
    x = Scenes().batch(torch.arange(3))["x"]
    for t in (0.1, 0.9):
        assert torch.equal(made.image_features(x, torch.full((3,), t)), clip.image_features(x))
    moving = {name.split(".")[0] for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert moving == {"image"}
    trained = load_run(runs / "agree", "cpu").module
    texts = ["a red seven", "a blue two"]
    assert torch.equal(trained.text_features(texts), clip.text_features(texts))
    assert float((trained.image_features(x, torch.ones(3)) - clip.image_features(x)).abs().max()) > 1e-3


def test_its_loss_is_the_contrast_with_the_clean_features_and_the_error_of_places(runs: Path) -> None:
    clip = load_run(runs / "clip", "cpu").module
    parts, data = {"clip": clip}, Scenes()
    losses = {}
    for places in (0.0, 2.0):
        system = SemanticSystem(places=places)
        module = system.build(data.spec, parts, seeded())
        losses[places] = system.stages(module, data, parts)[0].task.loss(Turn(torch.arange(8), slice(None), seeded(1)))
        losses[places] = {name: value.detach() for name, value in losses[places].items()}
    assert float(losses[2.0]["loss"] - losses[0.0]["loss"]) == pytest.approx(2 * float(losses[0.0]["places"]), rel=1e-5)
    generator, z = seeded(1), data.batch(torch.arange(8))["x"]
    t = uniform_time(8, generator)
    x = system.path.sample(z, t, torch.randn(z.shape, generator=generator))
    a, b = (clip.image_features(y) for y in (x, z))
    logits = clip.scale() * a @ b.T
    own = torch.arange(8)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert float(losses[0.0]["loss"]) == pytest.approx(float(expected), rel=1e-4)
    gap = (clip.image(x, None)[1] - clip.image(z, None)[1]).square().mean()
    assert float(losses[0.0]["places"]) == pytest.approx(float(gap), rel=1e-4)


def test_it_learns_to_agree_and_reports_where_it_does(runs: Path) -> None:
    metrics = read_metrics(runs / "agree" / "metrics.jsonl")
    for name, share in (("loss", 0.95), ("places", 0.8)):
        assert sum(row[name] for row in metrics[-5:]) < share * sum(row[name] for row in metrics[:5]), name
    run = load_run(runs / "agree", "cpu")
    rows = evaluate_run(run)
    assert [row["time"] for row in rows] == ["0.1", "0.3", "0.5", "0.7", "0.9", "1"]
    assert rows[-1]["clean cosine"] == pytest.approx(1, abs=1e-5)
    assert rows[-1]["clean found"] == 1
    z = Scenes(split="test").batch(torch.arange(256))["x"]
    own, clean = run.module.image_features(z, torch.ones(256)), run.parts["clip"].image_features(z)
    assert rows[-1]["noised cosine"] == pytest.approx(float((own * clean).sum(1).mean()), abs=1e-5)
    found = ((own @ clean.T).argmax(1) == torch.arange(256)).float().mean()
    assert rows[-1]["noised found"] == pytest.approx(float(found), abs=1e-6)


def test_bad_settings_and_parts_are_named(runs: Path, tmp_path: Path) -> None:
    for settings, says in (
        ({"noised": "fog"}, "noised must be one of"),
        ({"places": -1.0}, "places must be"),
        ({"parts": {}}, "parts must be a clip alone, got"),
    ):
        with pytest.raises(ValueError, match=says):
            SemanticSystem(**settings)
    timed = CLIPSystem(noised="linear").build(Scenes().spec, {}, seeded())
    with pytest.raises(ValueError, match="must be a CLIP of clean pictures"):
        SemanticSystem().build(Scenes().spec, {"clip": timed}, seeded())
    with pytest.raises(RunError, match="the part 'clip'"):
        train(change(find_recipe("clip-noised-agree"), parts={"clip": str(tmp_path / "none")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
