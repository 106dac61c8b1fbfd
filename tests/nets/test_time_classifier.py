"""The time-conditioned classifier against Bayes' own, and as a guide."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowlib import EnergyGuidance, GaussianPath, MixtureField, Model, sample_ode
from flowlib.nets.classifier import TimeClassifier
from flowlib.nets.unet import UNet
from flowlib.systems.classifier import classifier_loss


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def bars() -> MixtureField:
    """Images of one class each: a bright upper half, a bright left half, a bright middle."""
    means = torch.full((3, 1, 8, 8), -0.5)
    means[0, :, :4], means[1, :, :, :4], means[2, :, 2:6, 2:6] = 0.5, 0.5, 0.5
    return MixtureField(means, 0.3)


def train(mixture: MixtureField, steps: int = 150) -> TimeClassifier:
    generator = torch.Generator().manual_seed(0)
    classifier = TimeClassifier(channels=(16, 32), classes=3, dim=32)
    optimizer = torch.optim.Adam(classifier.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = classifier_loss(classifier, mixture.path, *mixture.sample(128, generator), generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return classifier.eval()


def nearest(mixture: MixtureField, x: Tensor) -> Tensor:
    return torch.cdist(x.flatten(1), mixture.means.flatten(1)).argmin(1)


def test_learns_the_posterior_and_guides() -> None:
    mixture = bars()
    classifier = train(mixture)
    generator = torch.Generator().manual_seed(1)
    for t in (0.05, 0.2, 0.4, 0.9):
        z, _ = mixture.sample(1000, generator)
        x, time = mixture.path.sample(z, t, generator=generator), torch.full((1000,), t)
        labels = [torch.full((1000,), k) for k in range(3)]
        exact = (
            torch.stack([mixture.log_prob(x, t, y) for y in labels], 1) - mixture.log_prob(x, t)[:, None] - math.log(3)
        )
        learned = torch.stack([classifier.log_prob(x, time, y) for y in labels], 1).detach()
        torch.testing.assert_close(learned.exp().sum(1), torch.ones(1000))
        assert (exact.exp() * (exact - learned)).sum(1).mean() < 0.1, t  # KL(Bayes | learned) in nats
    noise = torch.randn(60, 1, 8, 8, generator=generator)
    y = torch.arange(60) % 3
    plain = sample_ode(mixture, noise, steps=10)
    guided = sample_ode(EnergyGuidance(mixture, classifier.log_prob, 2.0), noise, y, steps=10)
    assert (nearest(mixture, plain) == y).float().mean() < 0.6
    assert (nearest(mixture, guided) == y).float().mean() > 0.95


def test_guides_a_learned_field_on_images() -> None:
    field = EnergyGuidance(Model(UNet(channels=(16,), depth=1, classes=3, dim=32)), TimeClassifier(classes=3).log_prob)
    out = sample_ode(field, torch.randn(2, 1, 8, 8), torch.tensor([0, 2]), steps=3)
    assert out.shape == (2, 1, 8, 8)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 5, 7), (2, 1, 28, 28), (2, 1, 64, 32)])
def test_knows_nothing_at_initialisation_at_any_size(shape: tuple[int, ...]) -> None:
    classifier = TimeClassifier(classes=4)
    assert classifier(torch.randn(shape), torch.rand(2)).shape == (2, 4)
    log_prob = classifier.log_prob(torch.randn(shape), torch.rand(2), torch.tensor([0, 3]))
    torch.testing.assert_close(log_prob, torch.full((2,), -math.log(4)))


def test_time_matters_and_gradient_reaches_every_parameter() -> None:
    classifier = TimeClassifier(in_channels=2, channels=(16, 32), classes=3, dim=32)
    x, y = torch.rand(6, 2, 12, 12) * 2 - 1, torch.arange(6) % 3
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-3)
    for step in range(5):
        optimizer.zero_grad()
        classifier_loss(classifier, GaussianPath(), x, y, generator=torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    silent = [key for key, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert not torch.allclose(classifier(x, torch.zeros(6)), classifier(x, torch.ones(6)))


def test_null_guide_has_probability_one() -> None:
    classifier = TimeClassifier(classes=3)
    torch.nn.init.normal_(classifier.head.weight)
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    log_prob = classifier.log_prob(x, torch.rand(2), torch.tensor([3, 1]))
    gradient = torch.autograd.grad(log_prob.sum(), x)[0]
    assert log_prob[0] == 0
    assert not gradient[0].any()
    assert gradient[1].any()


def test_bf16_autocast_is_finite() -> None:
    classifier = TimeClassifier(classes=3)
    torch.nn.init.normal_(classifier.head.weight)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = classifier.log_prob(torch.randn(4, 1, 12, 12), torch.rand(4), torch.arange(4))
        loss = classifier_loss(classifier, GaussianPath(), torch.randn(4, 1, 12, 12), torch.arange(4) % 3)
    loss.backward()
    assert log_prob.dtype == loss.dtype == torch.float32
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(loss)


def test_loss_comes_from_its_generator_alone() -> None:
    classifier = TimeClassifier(channels=(16,), classes=3)
    torch.nn.init.normal_(classifier.head.weight)
    x, y = torch.randn(5, 1, 8, 8), torch.arange(5) % 3
    state = torch.get_rng_state()
    first, second, other = (
        classifier_loss(classifier, GaussianPath(), x, y, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_refused_by_name() -> None:
    classifier, path, x, t = TimeClassifier(classes=3), GaussianPath(), torch.zeros(2, 1, 8, 8), torch.zeros(2)
    with pytest.raises(ValueError, match="y must be given"):
        classifier.log_prob(x, t, None)
    with pytest.raises(ValueError, match="y must be given"):
        sample_ode(EnergyGuidance(bars(), classifier.log_prob), x, steps=2)
    with pytest.raises(ValueError, match=r"y must lie in 0 ... 2"):
        classifier.log_prob(x, t, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="y must have shape"):
        classifier.log_prob(x, t, torch.tensor([0]))
    with pytest.raises(ValueError, match="null guide is no label"):
        classifier_loss(classifier, path, x, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="x must be a floating-point tensor"):
        classifier_loss(classifier, path, x.to(torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 1, H, W\), got \(2, 3, 8, 8\)"):
        classifier(torch.zeros(2, 3, 8, 8), t)
    for wrong, name in (({"channels": (12,)}, "channels"), ({"channels": (0,)}, "channels"), ({"depth": 0}, "depth")):
        with pytest.raises(ValueError, match=name):
            TimeClassifier(**wrong)
    with pytest.raises(TypeError, match="width"):
        TimeClassifier(width=64)
