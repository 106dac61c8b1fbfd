"""Adversarial networks: losses against closed forms, the penalty, and that each network can do its part."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from examples import normal
from torch import Tensor, nn

from flowlib.data import Dataset, Spec
from flowlib.nets import ConvDiscriminator, ConvGenerator
from flowlib.recipes import Recipe
from flowlib.runs import Run, train
from flowlib.runs.run import build
from flowlib.systems import GAN, GANSystem
from flowlib.systems.gan import discriminator_loss, generator_loss, r1_penalty
from flowlib.systems.system import SampleRequest
from flowlib.training import Task, Trainer, Training, read_metrics


def networks(size: int = 8, classes: int | None = 10) -> tuple[ConvGenerator, ConvDiscriminator]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvGenerator(size, noise_dim=8, channels=8, classes=classes), ConvDiscriminator(
            size, channels=8, classes=classes
        )


# Two densities on four points, as counts out of 20: means over samples are then exact expectations.
DATA, MODEL = torch.tensor([8, 6, 4, 2]), torch.tensor([2, 2, 6, 10])
BEST = (DATA.double() / MODEL).log()


def loss_of(logit: Tensor) -> Tensor:
    return discriminator_loss(logit.repeat_interleave(DATA), logit.repeat_interleave(MODEL))


def test_the_best_discriminator_is_the_log_ratio_and_its_loss_the_jensen_shannon_divergence() -> None:
    p, q = DATA.double() / 20, MODEL.double() / 20
    middle = (p + q) / 2
    js = (p * (p / middle).log() + q * (q / middle).log()).sum() / 2
    torch.testing.assert_close(loss_of(BEST), 2 * math.log(2) - 2 * js)
    logit = BEST.clone().requires_grad_()
    assert torch.autograd.grad(loss_of(logit), logit)[0].abs().max() < 1e-15
    for seed in range(5):
        assert loss_of(BEST + 0.1 * normal(seed, 4)) > loss_of(BEST)


def test_without_an_opinion_the_losses_are_known() -> None:
    nothing = torch.zeros(7)
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(nothing).item() == pytest.approx(math.log(2))
    assert generator_loss(nothing, saturating=True).item() == pytest.approx(-math.log(2))


def test_one_loss_saturates_and_the_other_does_not() -> None:
    """The gradients in a logit are -D and D - 1 (of the minimised losses), D = sigmoid(logit)."""
    for value in (-12.0, -1.0, 0.0, 3.0):
        for saturating in (True, False):
            logit = torch.tensor([value], dtype=torch.float64, requires_grad=True)
            (found,) = torch.autograd.grad(generator_loss(logit, saturating=saturating), logit)
            judged = torch.sigmoid(logit.detach())
            torch.testing.assert_close(found, -judged if saturating else judged - 1)


def test_losses_are_finite_for_any_logit() -> None:
    extreme = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(discriminator_loss(extreme, extreme))
    assert torch.isfinite(generator_loss(extreme)) & torch.isfinite(generator_loss(extreme, saturating=True))


def test_penalty_of_known_discriminators() -> None:
    weight, x = normal(0, 3, 4), normal(1, 6, 3, 4)
    assert r1_penalty(lambda x, y: (x * weight).sum((1, 2)), x) == pytest.approx(float(weight.square().sum()))
    quadratic = r1_penalty(lambda x, y: 0.5 * x.square().sum((1, 2)), x)  # whose gradient at x is x
    torch.testing.assert_close(quadratic, x.square().sum((1, 2)).mean())


def test_penalty_has_the_right_gradient_in_the_weights() -> None:
    weight, x = normal(0, 5).requires_grad_(), normal(1, 6, 5)
    (found,) = torch.autograd.grad(r1_penalty(lambda x, y: x @ weight, x), weight)
    torch.testing.assert_close(found, 2 * weight.detach())
    with torch.no_grad():  # it needs a gradient in any case
        assert r1_penalty(lambda x, y: x @ weight, x) == pytest.approx(float(weight.square().sum()))


def test_the_generator_overfits_one_batch_and_the_discriminator_tells_two_apart() -> None:
    maker, judge = networks()
    x, noise, y = (normal(seed, 8, *shape, dtype=torch.float32) for seed, shape in enumerate([(1, 8, 8), (8,), ()]))
    x, y = 0.5 * x.tanh(), torch.arange(8)
    optimiser = torch.optim.Adam(maker.parameters(), 1e-2)
    for _ in range(300):
        loss = (maker(noise, y) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05 * x.var()
    optimiser = torch.optim.Adam(judge.parameters(), 2e-3)
    for _ in range(100):
        loss = discriminator_loss(judge(x, y), judge(-x, y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    assert all(p.grad is not None for p in [*maker.parameters(), *judge.parameters()])


class Line(nn.Module):
    """A generator of points, noise plus a learned mean."""

    noise_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))

    def forward(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        return noise + self.mean


class Plane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x @ self.weight + self.bias


def game(maker: nn.Module, judge: nn.Module, data: Dataset, **settings: object) -> Task:
    system = GANSystem(guided=False, noise_dim=2, **settings)  # type: ignore[arg-type]
    return system.stages(GAN(maker, judge), data, {})[0].task  # type: ignore[return-value]


ADAM = {"betas": (0.0, 0.99), "weight_decay": 0.0, "warmup": 0.0, "clip": None, "precision": "fp32"}


@pytest.mark.parametrize("saturating", [False, True])
def test_the_game_finds_the_mean_of_a_gaussian(saturating: bool, tmp_path: Path) -> None:
    """Both densities are Gaussian with one covariance, so the plane is the best discriminator; R1 makes it converge."""
    x = normal(0, 4000, 2, dtype=torch.float32) + torch.tensor([1.0, -0.5])
    maker = Line()
    task = game(maker, Plane(), Dataset(x), r1=1.0, saturating=saturating)
    Trainer(task, Training(steps=1000, lr=0.02, **ADAM), tmp_path).run(False)
    assert (maker.mean - x.mean(0)).abs().max() < 0.2


def test_the_first_step_is_the_algorithm(tmp_path: Path) -> None:
    """By hand: the discriminator first, on samples without gradient; then the generator, against the new one."""
    x = normal(0, 16, 2, dtype=torch.float32)
    maker, judge = Line(), Plane()
    trainer = Trainer(game(maker, judge, Dataset(x), r1=0.0), Training(steps=1, batch_size=8, lr=0.1, **ADAM), tmp_path)
    index, source = trainer.order.batch(0), torch.Generator()
    source.set_state(trainer.draws.get_state())
    trainer.step()
    mean, weight = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    noise = [torch.randn(8, 2, generator=source) for _ in range(2)]
    loss = (
        F.softplus(-(x[index] @ weight + bias)).mean() + F.softplus((noise[0] + mean).detach() @ weight + bias).mean()
    )
    optimiser = torch.optim.Adam([weight, bias], 0.1, betas=(0.0, 0.99))
    loss.backward()
    optimiser.step()
    F.softplus(-((noise[1] + mean) @ weight.detach() + bias.detach())).mean().backward()
    torch.optim.Adam([mean], 0.1, betas=(0.0, 0.99)).step()
    torch.testing.assert_close(maker.mean, mean)
    torch.testing.assert_close(judge.weight, weight)


def recipe(data: str = "digits", **settings: object) -> Recipe:
    training = Training(steps=3, batch_size=8, precision="fp32", seed=settings.pop("seed", 0))  # type: ignore[arg-type]
    return Recipe(name="g", data=data, system=GANSystem(noise_dim=4, channels=8, **settings), training=training)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe(), tmp_path_factory.mktemp("gan") / "run", pictures=False, log_every=1)


def test_a_recipe_trains_both_and_samples_by_label(run: Run) -> None:
    entry = read_metrics(run.folder / "metrics.jsonl")[-1]
    assert {"discriminator_loss", "discriminator_penalty", "generator_loss", "generator_grad_norm"} < set(entry)
    assert entry["loss"] == pytest.approx(entry["discriminator_loss"] + entry["generator_loss"], rel=1e-5)
    y = torch.tensor([3, 3, 7])
    images = run.sample(y, seed=1)
    assert images.shape == (3, 1, 8, 8)
    assert float(images.abs().max()) <= 1
    assert torch.equal(images, run.sample(y, seed=1))
    torch.testing.assert_close(images, run.sample(y, seed=1, batch_size=2))
    assert not torch.equal(images, run.sample(y, seed=2))
    assert not torch.equal(images, run.sample(torch.tensor([4, 3, 7]), seed=1))
    with pytest.raises(ValueError, match="y must be given: a GAN knows no null guide"):
        run.sample(count=3)


def test_the_seed_decides_the_weights_and_nothing_else_is_touched(tmp_path: Path, run: Run) -> None:
    state = torch.get_rng_state()
    again = train(recipe(), tmp_path / "again", pictures=False, checkpoint_every=1)
    other = train(recipe(seed=1), tmp_path / "other", pictures=False)
    ours, same, different = (list(one.module.state_dict().values()) for one in (run, again, other))
    assert all(torch.equal(p, q) for p, q in zip(ours, same, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(ours, different, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_points_and_data_without_labels_have_games_too(tmp_path: Path) -> None:
    points = train(recipe("moons"), tmp_path / "points", pictures=False)
    assert points.sample(torch.tensor([0, 1, 1])).shape == (3, 2)
    free = train(recipe("moons", guided=False), tmp_path / "free", pictures=False)
    assert free.sample(count=4).shape == (4, 2)
    assert free.recipe.system.guides(free.spec, (), 4, lambda: None) is None


def test_bad_input_is_refused_by_name() -> None:
    for name, value in (("noise_dim", 0), ("channels", 0), ("r1", -1.0), ("guided", 1), ("saturating", "no")):
        with pytest.raises(ValueError, match=f"{name} must be"):
            GANSystem(**{name: value})  # type: ignore[arg-type]
    for spec, message in (
        (Spec((1, 8, 8), 0, columns=("x",)), "guided must be false for data without labels"),
        (Spec((1, 8, 12), 10), r"square images, got data of shape \(1, 8, 12\)"),
    ):
        with pytest.raises(ValueError, match=message):
            build(recipe(), spec)
    with pytest.raises(ValueError, match="count must be"):
        SampleRequest(spec=Spec((2,), 2), count=0)
