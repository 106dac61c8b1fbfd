"""Training by recipe: from a folder and back, pixels, points and latents; and what a folder refuses."""

import json

import pytest
import torch
from flows import flow_recipe

from flowlib import sample_ode
from flowlib.data import Dataset, Spec
from flowlib.fields import Model
from flowlib.losses import prediction_loss
from flowlib.recipes import change
from flowlib.runs import Run, RunError, load_run, train
from flowlib.runs.run import build
from flowlib.solvers import ADAPTIVE
from flowlib.systems import FirstStage, LatentModel
from flowlib.systems.sampling import METHODS, latent_shape
from flowlib.times import uniform_time
from flowlib.training import CheckpointError, Turn, read_metrics
from flowlib.training.checkpoint import load
from flowlib.training.order import stream

SMALL = {"batch_size": 16, "net_args": {"channels": (8,), "depth": 1, "patch": 1, "dim": 16}}
DIGITS = flow_recipe(name="d", steps=8, **SMALL)
LATENT = flow_recipe(name="l", steps=6, first_stage=FirstStage(steps=5, batch_size=8, channels=8, factor=2), **SMALL)
STABLE = flow_recipe(name="s", steps=6, stable_until=0.5, references=20, **SMALL)
POINTS = flow_recipe(name="p", data="moons", net="mlp", steps=8, net_args={"width": 8, "depth": 1, "dim": 8})
SPEC = Spec((1, 8, 8), 10, 17)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {recipe.name: train(recipe, folder / recipe.name) for recipe in (DIGITS, LATENT, STABLE, POINTS)}


@pytest.mark.parametrize("name", ["d", "l", "s", "p"])
def test_a_run_comes_back_from_its_folder_with_the_same_samples(runs, name):
    made, found = runs[name], load_run(runs[name].folder)
    y = torch.tensor([0, 1, 1])
    samples = found.sample(y, steps=3, seed=4)
    assert samples.shape == (3, *found.shape)
    assert samples.dtype == torch.float32
    assert torch.equal(samples, made.sample(y, steps=3, seed=4))
    assert not torch.equal(samples, found.sample(y, steps=3, seed=5))
    steps = made.recipe.training.steps
    assert (found.recipe, found.step, found.classes) == (made.recipe, steps, 10 if name != "p" else 2)
    assert found.spec == made.spec
    assert found.module is found.field
    assert not found.field.training
    quarters = {f"step-{-(-steps * k // 4):08d}.png" for k in (1, 2, 3, 4)}
    assert {path.name for path in (made.folder / "samples").iterdir()} == quarters


@pytest.mark.parametrize("method", [method for method in METHODS if not method.startswith("ddpm")])
def test_every_method_draws_samples_and_whole_trajectories(runs, method):
    run = runs["p"]
    samples = run.sample(torch.tensor([0, 1]), steps=2, method=method, scale=2.0, seed=1)
    states = run.sample(torch.tensor([0, 1]), steps=2, method=method, scale=2.0, seed=1, trajectory=True)
    assert states.shape == (3, 2, 2)
    # An adaptive method that has to stop half-way chooses other steps.
    assert torch.allclose(states[-1], samples, atol=1e-3 if method in ADAPTIVE else 0)
    assert torch.equal(states[0], run.noise(2, seed=1))


@pytest.mark.parametrize("method", ["ddpm", "ddpm-large", "ddpm-learned"])
def test_a_chains_methods_are_refused_on_other_paths(runs, method):
    with pytest.raises(ValueError, match=r"preserves variance|learned its variance"):
        runs["p"].sample(torch.tensor([0, 1]), steps=2, method=method)


def test_a_latent_run_trains_its_first_stage_first_and_decodes(runs):
    run = runs["l"]
    assert isinstance(run.field, LatentModel)
    assert latent_shape(run.field, run.spec) == (4, 4, 4)
    assert run.noise(5).shape == (5, 4, 4, 4)
    states = run.sample(torch.tensor([3, 3]), steps=2, trajectory=True)
    assert states.shape == (3, 2, 1, 8, 8)
    assert [len(read_metrics(run.folder / part / "metrics.jsonl")) for part in ("first_stage", ".")] == [5, 6]
    first = load(run.folder / "first_stage" / "checkpoints").average
    assert all(torch.equal(run.field.autoencoder.state_dict()[name], value) for name, value in first.items())
    assert run.field.scale != 1


def test_without_labels_the_count_is_asked_for(runs):
    assert runs["p"].sample(count=5, steps=2).shape == (5, 2)
    with pytest.raises(ValueError, match="count must be an integer >= 1, got 0"):
        runs["p"].sample(count=0)
    with pytest.raises(ValueError, match="method must be one of"):
        runs["p"].sample(count=2, method="magic")
    with pytest.raises(ValueError, match=r"y must lie in 0 \.\.\. 1"):
        runs["p"].sample(torch.tensor([5]))


def test_the_seed_decides_the_first_weights_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one, again, other = (build(recipe, SPEC) for recipe in (DIGITS, DIGITS, change(DIGITS, seed=1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.net.stem.weight, again.net.stem.weight)
    assert not torch.equal(one.net.stem.weight, other.net.stem.weight)


@pytest.mark.parametrize("recipe", [DIGITS, LATENT, STABLE], ids=["pixels", "latents", "stable targets"])
def test_a_run_that_was_cut_goes_on_to_the_same_bits(tmp_path, runs, recipe, monkeypatch):
    from flowlib.training import Trainer

    class Cut(BaseException):
        pass

    step, count = Trainer.step, 0

    def dying(self):
        nonlocal count
        count += 1
        if count in (3, 12):  # in the first stage, if there is one; then in the second
            raise Cut
        step(self)

    monkeypatch.setattr(Trainer, "step", dying)
    cuts = 0
    while True:
        try:
            run = train(recipe, tmp_path, resume=True, checkpoint_every=1, pictures=False)
            break
        except Cut:
            cuts += 1
    assert cuts == (2 if recipe is LATENT else 1)
    expected = load(runs[recipe.name].folder / "checkpoints").weights
    found = load(run.folder / "checkpoints").weights
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_loss_of_a_recipe_is_the_loss_of_the_library():
    """Draw for draw: the same generator gives `prediction_loss` and the trainer's task the same number."""
    recipe = flow_recipe(data="none", net="mlp", steps=1, time="uniform", dropout=0.3, measure="score")
    model = build(recipe, Spec((2,), 3))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=stream(0, "weights", p.shape)))
    z, y = torch.randn(16, 2, generator=stream(0, "z")), torch.arange(16) % 3
    loss = loss_of(recipe, model, Dataset(z, y, 3, "none"))
    index = torch.arange(16)
    whole = loss(Turn(index, slice(0, 16), stream(0, "draws")))
    expected = prediction_loss(
        model.train(), z, y, measure="score", dropout=0.3, time=uniform_time, generator=stream(0, "draws")
    )
    assert torch.allclose(whole, expected, rtol=1e-6)
    halves = [loss(Turn(index, part, stream(0, "draws"))) for part in (slice(0, 8), slice(8, 16))]
    assert torch.allclose(sum(halves) / 2, whole, rtol=1e-5)


def loss_of(recipe, module, data):
    """The loss of the one stage of a recipe."""
    (stage,) = recipe.system.stages(module, data, {})
    return stage.task(recipe.training).loss


def test_dequantised_pixels_fill_their_bins_and_no_more():
    """Predicting 0 for pixels v with bins of half-width h = 1 / (levels - 1) costs E[z^2] = v^2 + h^2 / 3."""
    recipe = change(DIGITS, predicts="data", dequantise=True, guided=False)
    field = build(recipe, SPEC)
    z, y = torch.full((2000, 1, 8, 8), 0.5), torch.zeros(2000, dtype=torch.long)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
        loss = loss_of(recipe, field, Dataset(z, y, 10, "own", levels=5))
        value = loss(Turn(torch.arange(2000), slice(0, 2000), torch.Generator().manual_seed(0)))
    # The sample mean of 128,000 draws of z^2, whose standard deviation is about 2 v h / sqrt(3) = 0.145.
    assert abs(float(value) - (0.25 + 1 / 48)) < 6 * 0.147 / 128_000**0.5
    assert torch.equal(z, torch.full_like(z, 0.5))


def test_only_pixels_are_dequantised(tmp_path):
    with pytest.raises(ValueError, match="dequantise needs pixels: 'moons' has none"):
        train(change(POINTS, dequantise=True, steps=2), tmp_path, pictures=False)


def test_optimal_transport_pairs_noise_and_data(tmp_path):
    recipe = change(POINTS, guided=False, coupling="optimal-transport", steps=2)
    run = train(recipe, tmp_path, pictures=False)
    assert isinstance(run.field, Model)
    assert run.field.null is None
    assert run.sample(count=3, steps=2).shape == (3, 2)


def test_a_folder_with_a_run_is_not_overwritten_by_accident(tmp_path, runs):
    tiny = change(POINTS, steps=2)
    train(tiny, tmp_path / "run", pictures=False)
    with pytest.raises(RunError, match=r"holds a run: add --resume to go on, --overwrite"):
        train(tiny, tmp_path / "run")
    with pytest.raises(RunError, match=r"has lr = 0.002 and cannot go on with 0.1"):
        train(change(tiny, lr=0.1), tmp_path / "run", resume=True)
    assert train(change(tiny, lr=0.1), tmp_path / "run", overwrite=True, pictures=False).recipe.training.lr == 0.1


def test_files_that_are_not_a_runs_are_never_deleted(tmp_path):
    mine = tmp_path / "samples" / "mine.png"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(RunError, match="holds no run, but 'samples'"):
        train(POINTS, tmp_path, overwrite=True)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            change(DIGITS, data="cats"),
            "no folder 'cats': give one of digits, mnist, .* or the path of a folder",
        ),
        (change(DIGITS, data="moons"), r"net 'unet' does not take samples of shape \(2,\)"),
        (change(LATENT, first_stage=FirstStage(steps=1, factor=16)), "first_stage with factor 16"),
        (change(DIGITS, net_args={"channels": (8, 8, 8, 8, 8)}), "H and W multiples of"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, recipe, message):
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", progress=False)


def test_a_folder_without_a_run_and_a_damaged_one_are_named(tmp_path, runs):
    with pytest.raises(RunError, match=r"nowhere holds no run: there is no .*recipe.json; `flowlib train` makes one"):
        load_run(tmp_path / "nowhere")
    content = json.loads((runs["p"].folder / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        load_run(tmp_path)
    for text in ("{", "{}", json.dumps({**content, "recipe": {**content["recipe"], "speed": 3}})):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(RunError, match=r"recipe.json is damaged, or of another version"):
            load_run(tmp_path)


def test_a_run_of_another_architecture_is_refused(tmp_path, runs):
    folder = runs["p"].folder
    content = json.loads((folder / "recipe.json").read_text())
    content["recipe"]["system"]["net_args"]["width"] = 16
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    (tmp_path / "checkpoints").symlink_to(folder / "checkpoints")
    with pytest.raises(CheckpointError, match=r"of another architecture: net\."):
        load_run(tmp_path)
    assert isinstance(load_run(folder), Run)


def test_the_flow_of_a_v_lands_on_what_it_denoises_to(tmp_path):
    """Near t = 1, where the network has seen next to nothing, no velocity is asked for."""
    run = train(change(POINTS, predicts="v", precision="fp32", steps=2), tmp_path)
    y = torch.tensor([0, 1])
    torch.testing.assert_close(run.sample(y, steps=1), run.field.data(run.noise(2), 0.0, y))


def test_a_flow_lands_from_the_time_that_is_asked_for_or_else_from_its_own(tmp_path):
    run = train(change(POINTS, predicts="v", precision="fp32", land=0.8, steps=2), tmp_path)
    y = torch.tensor([0, 1])

    def landed(time):
        times = torch.tensor([0.0, time / 2, time, 1.0])
        return sample_ode(run.field, run.noise(2), y, method="euler", times=times, denoise_last=True)

    torch.testing.assert_close(run.sample(y, steps=3, method="euler"), landed(0.8))
    torch.testing.assert_close(run.sample(y, steps=3, method="euler", land=0.4), landed(0.4))
    assert not torch.allclose(landed(0.8), landed(0.4))
    run.sample(y, steps=3, method="sde")  # has steps of its own, and no landing to be moved
    for wrong in (
        {"land": 0.0}, {"land": 1.0}, {"land": True}, {"land": 0.5, "method": "dopri5"}, {"land": 0.5, "method": "sde"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="land"):
            run.sample(y, steps=3, **wrong)
    with pytest.raises(ValueError, match="land must"):
        change(POINTS, land=1.0)
