"""Improved DDPM: a model that learns its variance is a field like any other, and its losses move what they should."""

import json

import pytest
import torch
from examples import mixture, normal, seeded
from flows import flow_recipe
from torch import Tensor, nn

from flowlib.chains import (
    Chain,
    Clipped,
    LearnedVariance,
    LossSecondMoment,
    TwoOutputs,
    fixed_reverse,
    forward,
    posterior,
    sample_ancestral,
    simple_loss,
)
from flowlib.data import load
from flowlib.fields import Model
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.nets.mlp import MLP
from flowlib.paths import GaussianPath
from flowlib.recipes import Recipe, change, find_recipe, from_dict
from flowlib.runs import load_run, train
from flowlib.samplers import sample_ddim, sample_ode
from flowlib.schedules import VP, Cosine
from flowlib.systems.bits import bound_of_test_set
from flowlib.systems.improved_ddpm import step_losses, variational_loss
from flowlib.systems.reporting import bits_of_test_set

CHAIN = Chain.of(Cosine(), 50)
PATH = GaussianPath(CHAIN)
X, Z = normal(0, 6, 2), (torch.randint(0, 17, (6, 2), generator=seeded(1)).double() / 8) - 1


class Net(nn.Module):
    """A noise that depends on one parameter, and a share that depends on another."""

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.share = nn.Parameter(torch.tensor(share, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return torch.cat([self.scale * x, self.share * torch.ones_like(x)], dim=1)


def model(share: float = 0.0, resampler: LossSecondMoment | None = None) -> LearnedVariance:
    return LearnedVariance(Net(share), PATH, resampler)


# --- the model


def test_the_prediction_is_the_noise_half_so_that_it_stays_a_field() -> None:
    plain = Model(Half(), PATH, "noise")
    t = torch.tensor(0.4).double()
    for name in ("u", "s", "data", "noise"):
        torch.testing.assert_close(getattr(model(), name)(X, t), getattr(plain, name)(X, t), rtol=0, atol=0)
    for sampler in (sample_ode, sample_ddim):
        torch.testing.assert_close(sampler(model(), X, steps=5), sampler(plain, X, steps=5), rtol=0, atol=0)
    assert simple_loss(model(), Z, generator=seeded(0)) == simple_loss(plain, Z, generator=seeded(0))


class Half(Net):
    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return super().forward(x, t, y)[:, :2]


@pytest.mark.parametrize(("k", "j"), [(50, 49), (20, 19), (2, 1), (40, 20), (1, 0), (10, 0)])
def test_the_variance_lies_between_both_fixed_ones_on_a_scale_of_logarithms(k: int, j: int) -> None:
    """Nichol & Dhariwal 2021, equation 15; the network's output -1 is v = 0, and 1 is v = 1."""
    small = fixed_reverse(model(), CHAIN, "small")(X, None, k, j)
    large = forward(CHAIN, X, k, j)[1]
    for output, share in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (-0.5, 0.25), (2.0, 1.5)):
        mean, variance = model(output).reverse(X, None, k, j)
        torch.testing.assert_close(mean, small[0], rtol=1e-12, atol=1e-12)
        expected = (share * large.log() + (1 - share) * small[1].log()).exp()
        torch.testing.assert_close(variance, expected.expand_as(X), rtol=1e-12, atol=0)


def test_sampling_with_it_is_ancestral_sampling() -> None:
    """v = 0 and v = 1 are DDPM's two samplers, on all steps and on few; the last step lands on D."""
    for steps in (None, 7):
        for output, name in ((-1.0, "small"), (1.0, "large")):
            learned = model(output)
            found = sample_ancestral(learned, X, steps=steps, variance=learned.reverse, generator=seeded(0))
            expected = sample_ancestral(learned, X, steps=steps, variance=name, generator=seeded(0))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_mean_may_come_from_another_field_and_be_clipped() -> None:
    learned, other = model(0.3), mixture(CHAIN)
    mean, variance = learned.reverse(X, None, 9, 4, field=other)
    torch.testing.assert_close(mean, posterior(CHAIN, X, other.data(X, CHAIN.time(9)), 9, 4)[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(variance, learned.reverse(X, None, 9, 4)[1], rtol=0, atol=0)
    clipped = learned.reverse(X, None, 9, 4, clip=0.5)[0]
    through = learned.reverse(X, None, 9, 4, field=Clipped(learned, 0.5))[0]
    torch.testing.assert_close(clipped, through, rtol=1e-12, atol=1e-12)
    assert not torch.equal(clipped, learned.reverse(X, None, 9, 4)[0])


def test_any_network_of_twice_the_channels_will_do() -> None:
    net = MLP(4, width=16, depth=1, classes=3, dim=8)
    learned = LearnedVariance(TwoOutputs(net), PATH)
    assert learned.null == 3
    noise, share = learned.both(X.float(), 0.5, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert noise.shape == share.shape == X.shape
    torch.testing.assert_close(share, torch.full_like(share, 0.5))  # halfway, before it has learned anything
    guided = ClassifierFreeGuidance(learned, 2.0)
    assert sample_ode(guided, X.float(), torch.zeros(6).long(), steps=2).shape == X.shape


# --- its losses


def gradients(value: Tensor, learned: LearnedVariance) -> tuple[float, float]:
    """Of the noise's parameter and of the share's."""
    found = torch.autograd.grad(value, [learned.net.scale, learned.net.share], allow_unused=True, retain_graph=True)
    return tuple(0.0 if part is None else float(part) for part in found)  # type: ignore[return-value]


@pytest.mark.parametrize("k", [1, 2, 30, 50])
def test_the_bound_in_the_hybrid_loss_does_not_move_the_mean(k: int) -> None:
    learned, steps, noise = model(0.2), torch.full((6,), k), normal(4, 6, 2)
    simple, bound = step_losses(learned, Z, None, steps, noise, levels=17)
    of_mean, of_share = gradients(bound.sum(), learned)
    assert of_mean == 0
    assert of_share != 0
    simple, free = step_losses(learned, Z, None, steps, noise, levels=17, detach=False)
    torch.testing.assert_close(free, bound, rtol=1e-12, atol=0)
    of_mean, of_share = gradients(free.sum(), learned)
    assert of_mean != 0
    assert of_share != 0
    of_mean, of_share = gradients(simple.sum(), learned)
    assert of_mean != 0
    assert of_share == 0


def test_the_hybrid_loss_is_what_its_name_says() -> None:
    learned = model(0.2)
    simple = simple_loss(learned, Z, generator=seeded(0))
    without = variational_loss(learned, Z, weight=0.0, levels=17, generator=seeded(0))
    with_ = variational_loss(learned, Z, weight=1e-3, levels=17, generator=seeded(0))
    bound = variational_loss(learned, Z, kind="vlb", levels=17, generator=seeded(0))
    torch.testing.assert_close(without, simple, rtol=1e-5, atol=0)  # whose times are rounded to float32
    torch.testing.assert_close(with_, without + 1e-3 * bound, rtol=1e-12, atol=0)
    assert gradients(with_, learned)[0] == pytest.approx(gradients(without, learned)[0], rel=1e-12)


def test_the_loss_of_the_bound_is_the_bound_in_the_mean() -> None:
    """T E_k L_k over many steps, beside the sum of all terms, both of one untrained model: within 5 standard errors."""
    learned = model(0.2)
    z = Z.repeat(500, 1)
    k = 1 + torch.arange(50).repeat(60)
    noise = normal(9, 3000, 2)
    exact = step_losses(learned, z, None, k, noise, levels=17)[1].detach()
    total = exact.reshape(60, 50).sum(1)  # 60 estimates of the sum over k
    drawn = torch.stack(
        [variational_loss(learned, z, kind="vlb", levels=17, generator=seeded(seed)).detach() for seed in range(10)]
    )
    error = (total.var() / 60 + drawn.var() / 10).sqrt()
    assert abs(float(total.mean() - drawn.mean())) < 5 * float(error)


def test_importance_sampling_leaves_the_mean_and_takes_from_the_noise() -> None:
    uniform, sampler = model(0.2), LossSecondMoment(50)
    weighted = model(0.2, sampler)
    z = Z.repeat(20, 1)
    while not sampler.warm:
        variational_loss(weighted, z, kind="vlb", levels=17, generator=seeded(int(sampler.counts.sum())))
    weighted.eval()  # from here on it is not told of new losses
    before = sampler.losses.clone()

    def losses(learned: LearnedVariance) -> Tensor:
        draws = [variational_loss(learned, z, kind="vlb", levels=17, generator=seeded(seed)) for seed in range(60)]
        return torch.stack(draws).detach()

    assert torch.equal(before, sampler.losses)
    plain, better = losses(uniform), losses(weighted)
    error = ((plain.var() + better.var()) / 60).sqrt()
    assert abs(float(plain.mean() - better.mean())) < 5 * float(error)
    assert float(better.std()) < 0.8 * float(plain.std())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    learned = model(0.2)
    whole = variational_loss(learned, Z, levels=17, generator=seeded(0))
    parts = [variational_loss(learned, Z, levels=17, part=slice(i, i + 3), generator=seeded(0)) for i in (0, 3)]
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-12, atol=0)


def test_the_variance_that_is_learned_is_the_optimal_one() -> None:
    """With D far off, the best variance is the posterior's plus the mean's squared error: v is fitted to that."""
    learned, k = model(0.0), torch.full((4000,), 12)
    z, noise = mixture(CHAIN).sample(4000, seeded(0))[0] / 3, normal(2, 4000, 2)
    optimiser = torch.optim.LBFGS([learned.net.share], max_iter=50)

    def closure() -> Tensor:
        optimiser.zero_grad()
        bound = step_losses(learned, z, None, k, noise, levels=None)[1].mean()
        bound.backward()
        return bound

    optimiser.step(closure)
    mean, spread = forward(CHAIN, z, k)
    x = mean + spread.sqrt() * noise
    (true, small), (guess, found) = posterior(CHAIN, x, z, k), learned.reverse(x, None, k, k - 1)
    best = small[0, 0] + (true - guess).square().mean()
    assert float(found[0, 0].detach()) == pytest.approx(float(best.detach()), rel=1e-4)


# --- recipes and runs

TINY = {
    "data": "digits", "net_args": {"channels": (8, 16), "depth": 1, "patch": 1, "dim": 16}, "chain": 40,
    "batch_size": 32, "precision": "fp32", "guided": True,
}  # fmt: skip


def tiny(name: str = "hybrid", **changes: object) -> Recipe:
    return change(find_recipe(f"iddpm-{name}"), **{**TINY, "steps": 6, **changes})


def test_a_run_learns_its_variance_samples_with_it_and_has_a_bound(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = train(tiny(), tmp_path / "run", pictures=False)
    assert isinstance(run.field, LearnedVariance)
    y = torch.arange(4)
    for scale in (1.0, 2.0):
        drawn = run.sample(y, method="ddpm-learned", steps=5, scale=scale)
        assert drawn.shape == (4, 1, 8, 8)
        assert not torch.equal(drawn, run.sample(y, method="ddpm", steps=5, scale=scale))
    test = load("digits", "test")
    bound = bound_of_test_set(run.field, test, images=5)
    assert bound.shape == (5, 41)
    bits = bits_of_test_set(run.field, test, images=5)
    assert bits["bits_per_dim"] == pytest.approx(float(bound.double().sum(1).mean()))
    assert bits["standard_error"] > 0
    assert bound_of_test_set(run.field, test, images=5, variance="small", steps=8).shape == (5, 9)
    torch.testing.assert_close(load_run(tmp_path / "run").sample(y, steps=2), run.sample(y, steps=2), rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["hybrid", "vlb"])
def test_a_run_that_stops_goes_on_to_the_same_bits(tmp_path, loss: str) -> None:  # type: ignore[no-untyped-def]
    """With importance sampling too, whose losses are part of the state: here it is warm before the stop."""
    recipe = tiny(loss, steps=40, chain=25, schedule="cosine", importance=loss == "vlb")
    whole = train(recipe, tmp_path / "whole", pictures=False, checkpoint_every=20)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    from flowlib.training import Trainer

    def interrupted(self: Trainer) -> None:
        if self.done == 33:
            raise Stop
        original(self)

    original = Trainer.step
    Trainer.step = interrupted  # type: ignore[method-assign]
    try:
        with pytest.raises(Stop):
            train(recipe, tmp_path / "parts", pictures=False, checkpoint_every=20)
    finally:
        Trainer.step = original  # type: ignore[method-assign]
    parts = train(recipe, tmp_path / "parts", pictures=False, resume=True, checkpoint_every=20)
    for ours, theirs in zip(whole.field.parameters(), parts.field.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    if loss == "vlb":
        saved = json.loads((tmp_path / "whole" / "recipe.json").read_text())["recipe"]
        assert from_dict(saved) == recipe
        assert recipe.system.importance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicts": "v"}, "a setting must be one of .*loss, importance.*got 'predicts'"),
        ({"dequantise": True}, "a setting must be one of .*got 'dequantise'"),
        ({"chain": 0}, "chain must be an integer >= 1, got 0"),
        ({"chain": 10, "schedule": "vp"}, "steps must be above 20"),
        ({"loss": "simple"}, "loss must be one of hybrid, vlb; got 'simple'"),
        ({"importance": 1}, "importance must be true or false"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(change: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        tiny(**change)


def test_runs_without_a_learned_variance_say_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = train(plain(), tmp_path / "run", pictures=False)
    with pytest.raises(ValueError, match="method 'ddpm-learned' needs a run that learned its variance"):
        run.sample(torch.arange(2), method="ddpm-learned", steps=2)
    test = load("digits", "test")
    with pytest.raises(ValueError, match="variance 'learned' needs a model that has learned its variance"):
        bound_of_test_set(run.field, test, images=2, variance="learned")
    assert bound_of_test_set(run.field, test, images=2, steps=4).shape == (2, 5)
    points = train(change(find_recipe("moons"), steps=1), tmp_path / "points", pictures=False)
    for wrong in (load("moons", "test"), test):
        with pytest.raises(ValueError, match="needs a field with a chain on pixels: this is none"):
            bound_of_test_set(points.field, wrong)


def plain() -> Recipe:
    """A DDPM: a chain whose variance is not learned."""
    settings = {**TINY, "schedule": "cosine", "predicts": "noise", "time": "uniform", "steps": 1}
    return flow_recipe(**settings)


BAD = [
    (lambda: LearnedVariance(Net(), GaussianPath(VP())), "path must be of a chain"),
    (lambda: LearnedVariance(Net(), PATH, LossSecondMoment(9)), "resampler must have the chain's 50 steps, got 9"),
    (lambda: LearnedVariance(Half(), PATH).predict(X, 0.5), "net must return twice the channels"),
    (lambda: LearnedVariance(Net(), None), "path must be of a chain"),
    (lambda: variational_loss(model(), Z, kind="best"), "kind must be one of hybrid, vlb"),
    (lambda: variational_loss(model(), Z, weight=-1), "weight must be"),
    (lambda: variational_loss(model(), [1.0]), "z must be a torch.Tensor"),
    (lambda: model().reverse(X, None, 51, 50), r"t must lie in \[0, 1\]"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
