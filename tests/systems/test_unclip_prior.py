"""The priors of unCLIP: drawing from a law that is known, guidance by its definition, what a step learns, a run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from examples import normal, seeded
from torch import Tensor

from flowlib.data import Dataset, Scenes
from flowlib.ddim import sample_ddim
from flowlib.fields import MixtureField, Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.losses import prediction_error
from flowlib.nets.priors import AutoregressivePrior, DiffusionPrior
from flowlib.paths import GaussianPath
from flowlib.recipes import Recipe, change, find_recipe
from flowlib.runs import evaluate_run, load_pretrained, load_run, train
from flowlib.schedules import Trigonometric
from flowlib.systems.embedded import embed_pairs
from flowlib.systems.prior_sampling import (
    PriorRequest,
    check_clip,
    reader_of,
    sample_prior,
    text_guides,
    upper_level,
    write_codes,
)
from flowlib.systems.token_sampling import next_token
from flowlib.systems.unclip_prior import UnCLIPPriorSystem
from flowlib.times import uniform_time
from flowlib.training import Training, Turn, read_metrics
from flowlib.training.order import stream

DIM, EMPTY = 4, torch.tensor([7, 8, 9, 9])
COMMON: dict[str, Any] = {"vocabulary": 10, "empty": EMPTY, "padding": 9, "dim": DIM, "width": 16, "depth": 2}
COMMON |= {"heads": 2}
TINY: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "examples": 40, "steps": 2, "batch_size": 16}
KINDS = {"unclip-prior": {}, "unclip-prior-autoregressive": {"components": 4, "buckets": 8}}
SPEC = Scenes().spec
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
CENTRES = F.normalize(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, -1]]), dim=1)


class Known(DiffusionPrior):
    """A prior that is right: pictures' embeddings are one of three, the one that the text's second token names."""

    def __init__(self) -> None:
        super().__init__(**COMMON)
        self.law = MixtureField(2 * CENTRES, 0.02, WEIGHTS, path=GaussianPath(Trigonometric()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        said = torch.full((len(x),), 8) if y is None else y[:, 1].long()
        return self.law.data(x, t, torch.where(said == 8, 3, said))  # 8 is the end: of an empty text


def known() -> Model:
    return Model(Known(), GaussianPath(Trigonometric()), "data")


def ask(words: list[int], text: Tensor) -> Tensor:
    tokens = torch.tensor([[7, word, 8, 9] for word in words])
    return torch.cat([tokens.float(), text.expand(len(words), -1)], dim=1)


def components(drawn: Tensor) -> Tensor:
    """Which centre each embedding is near; all must be near one."""
    distance, which = torch.cdist(drawn, CENTRES).min(1)
    assert float(distance.max()) < 0.1
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(len(drawn)))
    return which


# --- drawing


def test_the_diffusion_prior_draws_the_law_that_it_knows() -> None:
    request = {"spec": SPEC, "count": 3000, "steps": 40, "precision": "fp32"}
    which = components(sample_prior(known(), PriorRequest(**request, best=1)))
    share = which.bincount(minlength=3) / 3000
    error = 4 * (WEIGHTS * (1 - WEIGHTS) / 3000).sqrt()
    assert bool(((share - WEIGHTS).abs() < error).all()), share
    y = ask([0, 1, 2, 1], CENTRES[0])
    assert components(sample_prior(known(), PriorRequest(**request | {"count": 4}, y=y))).tolist() == [0, 1, 2, 1]


def test_of_two_the_one_nearer_to_the_text_is_kept() -> None:
    """A text that is nearest to the second: it is missed only when both are not, and the first before the third."""
    text = F.normalize(CENTRES[1:2] + 0.3 * CENTRES[:1], dim=1)
    y = ask([8] * 3000, text)  # tokens that say nothing
    which = components(sample_prior(known(), PriorRequest(spec=SPEC, y=y, count=3000, steps=40, precision="fp32")))
    expected = torch.tensor([0.7**2 - 0.2**2, 1 - 0.7**2, 0.2**2])
    share = which.bincount(minlength=3) / 3000
    assert bool(((share - expected).abs() < 4 * (expected * (1 - expected) / 3000).sqrt()).all()), share
    assert float((text @ CENTRES.T).argmax()) == 1
    assert float(text[0] @ CENTRES[0]) > float(text[0] @ CENTRES[2])


def test_guidance_of_the_diffusion_prior_is_that_of_a_field() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(DiffusionPrior(**COMMON), GaussianPath(Trigonometric()), "data").eval()
    y, x = ask([0, 1, 2], CENTRES[0]), normal(0, 3, DIM).float()
    guided, null = ClassifierFreeGuidance(model, 2.5), model.null_like(y)
    expected = -1.5 * model.data(x, 0.3, null) + 2.5 * model.data(x, 0.3, y)
    torch.testing.assert_close(guided.data(x, 0.3, y), expected, atol=1e-5, rtol=1e-5)
    request = PriorRequest(spec=SPEC, y=y, count=3, scale=2.5, steps=8, best=1, seed=3, precision="fp32")
    drawn = sample_prior(model, request)
    noise = torch.randn(3, 1, DIM, generator=stream(3, "prior"))[:, 0]
    torch.testing.assert_close(drawn, F.normalize(sample_ddim(guided, noise, y, steps=8, order=2), dim=1))
    assert not torch.equal(drawn, sample_prior(model, PriorRequest(spec=SPEC, y=y, count=3, steps=8, best=1, seed=3)))


def test_guidance_of_codes_is_of_their_logits_and_a_cache_changes_nothing() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AutoregressivePrior(**COMMON, components=4, buckets=6).eval()
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    y, chance = ask([0, 1, 2, 3, 4], CENTRES[0]), torch.rand(5, 4, generator=seeded(0), dtype=torch.float64)
    level, none, null = torch.arange(5) + 8, torch.full((5,), 16), net.null.expand(5, -1)
    found = {}
    for scale in (1.0, 0.0, 3.0):
        codes = torch.zeros(5, 4, dtype=torch.long)
        with torch.no_grad():
            for i in range(4):
                own, other = net(y, level, codes)[:, i], net(null, none, codes)[:, i]
                codes[:, i] = next_token((1 - scale) * other + scale * own, chance[:, i], 0.7)
        found[scale] = write_codes(net, y, level, chance, scale, 0.7)
        assert torch.equal(found[scale], codes)
    assert not torch.equal(found[1.0], found[3.0])
    assert not torch.equal(found[1.0], found[0.0])


def test_nearness_is_drawn_from_the_upper_half() -> None:
    chance = torch.rand(8000, generator=seeded(0), dtype=torch.float64)
    counts = upper_level(chance, 16).bincount(minlength=16)
    assert len(counts) == 16
    assert not counts[:8].any()
    assert bool(((counts[8:] - 1000).abs() < 4 * 1000**0.5).all())


# --- learning


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
def test_a_step_learns_embeddings_under_captions_that_are_dropped_with_a_tenth(kind: str) -> None:
    data, parts = Scenes(), {"clip": load_pretrained("clip-conv", "cpu").module}
    system = UnCLIPPriorSystem(kind=kind, width=16, depth=1, heads=2, examples=30, components=4, buckets=8)
    module: Any = system.build(data.spec, parts, seeded(0))
    task = system.stages(module, data, parts)[0].task
    assert callable(task)
    made = task(Training(steps=1))
    assert made.count == 30
    index, net = torch.arange(4000) % 30, reader_of(module)
    guides: list[Tensor] = []
    net.register_forward_hook(lambda module, given, out: guides.append(given[2 if kind == "diffusion" else 0]))
    loss = made.players[0].loss(Turn(index, slice(None), seeded(1)))
    y = guides[0]
    dropped = (y == net.null).all(1)
    assert abs(float(dropped.float().mean()) - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    draws, pairs = seeded(1), embed_pairs(parts["clip"], data, ("caption", "short"), 30)
    which = torch.randint(2, (4000,), generator=draws)
    drop = torch.rand(4000, generator=draws) < 0.1
    assert torch.equal(drop, dropped)
    own = torch.cat([pairs.tokens[which, index].float(), pairs.texts[which, index]], dim=1)
    assert torch.equal(y, torch.where(drop[:, None], net.null, own))
    torch.testing.assert_close(pairs.images.norm(dim=1), torch.ones(30))
    z = pairs.images[index]
    if kind == "diffusion":
        t = uniform_time(4000, draws)
        expected = prediction_error(module, 8 * z, y, t, torch.randn(4000, 64, generator=draws)).mean()
        assert 0.9 < float((8 * z).square().mean()) < 1.1
    else:
        assert isinstance(net, AutoregressivePrior)
        level = net.level(z, pairs.texts[which, index])
        level[drop] = 16
        log = net(y, level, net.codes.encode(z)).log_softmax(2)
        expected = -log.gather(2, net.codes.encode(z)[..., None]).mean()
    torch.testing.assert_close(loss, expected)


@pytest.fixture(scope="module", params=list(KINDS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    recipe: Recipe = change(find_recipe(request.param), **TINY, **KINDS[request.param])
    train(recipe, folder, progress=False)
    return folder


def test_a_run_is_loaded_draws_and_is_measured(run: Path) -> None:
    assert read_metrics(run / "metrics.jsonl")
    assert sorted(path.name for path in (run / "samples").iterdir())[-1] == "step-00000002.png"
    loaded = load_run(run)
    clip = loaded.parts["clip"]
    y = text_guides(loaded.module, clip, ["a red seven", "a blue two", "a red seven"])
    drawn = loaded.sample(y, scale=2.0)
    assert drawn.shape == (3, 64)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(3))
    assert torch.equal(drawn, loaded.sample(y, scale=2.0))
    assert not torch.equal(drawn, loaded.sample(y, scale=2.0, seed=1))
    torch.testing.assert_close(drawn, loaded.sample(y, scale=2.0, batch_size=1), atol=1e-4, rtol=1e-4)
    assert loaded.sample(count=2).shape == (2, 64)
    rows = {row["embeddings"]: row for row in evaluate_run(loaded, samples=80, scales=(1.0,), steps=4)}
    assert list(rows) == ["pictures", "texts", "w = 1"]
    assert rows["pictures"]["picture"] == pytest.approx(1, abs=1e-5)
    assert rows["pictures"]["found"] == 1
    assert rows["pictures"]["frechet"] == pytest.approx(0, abs=1e-5)
    assert rows["pictures"]["text"] == rows["texts"]["picture"]
    assert float(rows["texts"]["found"]) > 0.9
    assert float(rows["w = 1"]["picture"]) < 0.9


def test_a_prior_knows_its_clip(run: Path) -> None:
    loaded = load_run(run)
    assert check_clip("prior", loaded.module, loaded.parts["clip"]) is loaded.module
    with pytest.raises(ValueError, match="prior must be a prior of the same CLIP"):
        check_clip("prior", loaded.module, load_pretrained("clip-vit", "cpu").module)
    with pytest.raises(ValueError, match="must be a run of the system unclip-prior, got Linear"):
        reader_of(torch.nn.Linear(2, 2))


def test_the_papers_numbers_and_a_clip_of_which_few_components_are_enough() -> None:
    system = find_recipe("unclip-prior-autoregressive").system
    assert isinstance(system, UnCLIPPriorSystem)
    assert system.dropout == UnCLIPPriorSystem().dropout == 0.1
    clip: Any = load_pretrained("clip-conv", "cpu").module
    module = system.build(SPEC, {"clip": clip}, seeded(0))
    assert isinstance(module, AutoregressivePrior)
    pairs = embed_pairs(clip, Scenes(), ("caption",), 200)
    module.learn(pairs.images, pairs.texts[0])
    assert float(module.codes.lost) < 0.01
    again = F.normalize(module.codes.decode(module.codes.encode(pairs.images)), dim=1)
    assert float((again - pairs.images).square().sum(1).mean()) < 0.01


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "flow"}, "kind must be one of diffusion, autoregressive"),
        ({"width": 0}, "width must be"),
        ({"examples": 0}, "examples must be"),
        ({"dropout": 1.5}, "dropout must be"),
        ({"schedule": "steep"}, "schedule must be one of"),
        ({"captions": ()}, "captions must name columns"),
        ({"parts": {}}, "parts must be a clip alone"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        UnCLIPPriorSystem(**settings)


def test_bad_parts_data_and_requests_are_named() -> None:
    with pytest.raises(ValueError, match="the part 'clip' must be a CLIP of clean pictures"):
        UnCLIPPriorSystem().build(SPEC, {"clip": load_pretrained("clip-noised-agree", "cpu").module}, seeded(0))
    clip = {"clip": load_pretrained("clip-conv", "cpu").module}
    for data in (Dataset(torch.zeros(4, 3, 16, 16)), Scenes(size=32)):
        with pytest.raises(ValueError, match="unCLIP needs pictures that its CLIP reads"):
            UnCLIPPriorSystem().build(data.spec, clip, seeded(0))
    for settings in ({"scale": float("nan")}, {"steps": 0}, {"best": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            PriorRequest(spec=SPEC, **settings)  # type: ignore[arg-type]
