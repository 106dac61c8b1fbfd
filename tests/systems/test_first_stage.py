"""The first stage's losses: what each network learns from, and the scale of the rival's objection."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from flows import flow_recipe
from torch import Tensor

from flowlib.data import Dataset, Spec
from flowlib.metrics import load_evaluator
from flowlib.nets import Autoencoder, CodebookAutoencoder, PatchDiscriminator
from flowlib.runs.run import build
from flowlib.systems import FirstStage
from flowlib.systems.first_stage import Rivals, first_stage
from flowlib.systems.perceptual import first_stage_loss, hinge_loss, perceptual_distance
from flowlib.systems.vae import elbo_loss
from flowlib.training import Trainer, Turn, read_metrics


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def parts() -> tuple[Autoencoder, PatchDiscriminator, Tensor]:
    return Autoencoder(1, 2, 8, 4), PatchDiscriminator(1, 8), torch.rand(4, 1, 28, 28) * 2 - 1


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_without_extras_it_is_the_evidence_lower_bound() -> None:
    autoencoder, _, x = parts()
    expected = elbo_loss(autoencoder, x, kl_weight=0.01, generator=seed())
    assert torch.equal(first_stage_loss(autoencoder, x, kl_weight=0.01, generator=seed()), expected)


def test_the_perceptual_distance_is_one_and_sees_shape() -> None:
    evaluator, x = load_evaluator(), torch.rand(3, 1, 28, 28) * 2 - 1
    assert torch.equal(perceptual_distance(evaluator, x, x), torch.zeros(3))
    other = torch.rand(3, 1, 28, 28) * 2 - 1
    d = perceptual_distance(evaluator, x, other)
    assert d.shape == (3,)
    assert bool(((d > 0) & (d <= 20)).all())
    torch.testing.assert_close(perceptual_distance(evaluator, other, x), d)
    with pytest.raises(ValueError, match="b must have the shape of a"):
        perceptual_distance(evaluator, x, other[:2])
    with pytest.raises(ValueError, match="28"):
        perceptual_distance(evaluator, x[..., :20], x)


def test_hinge_loss_is_silent_where_the_discriminator_is_sure() -> None:
    assert float(hinge_loss(torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -3.0]))) == 0
    assert float(hinge_loss(torch.zeros(4), torch.zeros(2))) == 1


def test_each_learns_from_its_own_loss_and_leaves_the_other_alone() -> None:
    """The autoencoder: error and a frozen objection. The discriminator: hinge on finished images."""
    autoencoder, rival, x = parts()
    first_stage_loss(autoencoder, x, adversarial=0.5, discriminator=rival, generator=seed()).backward()
    assert all(p.grad is None for p in rival.parameters())
    assert all(p.grad is not None for p in autoencoder.parameters())

    data = Dataset(x, torch.arange(4), 10, "mnist")
    stage = FirstStage(steps=3, latent_channels=2, channels=8, factor=4, adversarial=0.5)
    task = first_stage(autoencoder, stage, data).task
    judge = task.players[1]
    rival = task.module.discriminator
    assert judge.module is rival
    before = [p.grad.clone() for p in autoencoder.parameters()]
    judge.loss(Turn(torch.arange(4), slice(0, 4), seed())).backward()
    assert all(torch.equal(p.grad, q) for p, q in zip(autoencoder.parameters(), before, strict=True))
    own = copy.deepcopy(rival)
    own.zero_grad()
    mean, log_variance = autoencoder.encode(x)
    noise = torch.randn(mean.shape, generator=seed())
    restored = autoencoder.decode(mean + (0.5 * log_variance).exp() * noise).detach()
    hinge_loss(own(x), own(restored)).backward()
    for p, q in zip(rival.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_the_objection_is_as_large_as_its_weight_says() -> None:
    """In the decoder's last layer: |grad of the objection| = weight times |grad of the rest|."""
    autoencoder, rival, x = parts()
    last = autoencoder.decoder[-1].weight

    def gradient(weight: float) -> Tensor:
        loss = first_stage_loss(autoencoder, x, adversarial=weight, discriminator=rival, generator=seed())
        return torch.autograd.grad(loss, last)[0]

    plain = gradient(0.0)
    for weight in (0.3, 2.0):
        torch.testing.assert_close((gradient(weight) - plain).norm(), weight * plain.norm(), rtol=1e-4, atol=0)


def test_a_weight_without_its_network_is_refused() -> None:
    autoencoder, _, x = parts()
    for given, message in (
        ({"perceptual": 1.0}, "evaluator must be given"),
        ({"adversarial": 1.0}, "discriminator must be given"),
        ({"perceptual": -1.0}, "perceptual"),
        ({"kl_weight": -1.0}, "kl_weight"),
    ):
        with pytest.raises(ValueError, match=message):
            first_stage_loss(autoencoder, x, **given)


@pytest.mark.parametrize("codebook", [0, 8])
def test_a_recipe_trains_it(codebook: int, tmp_path: Path) -> None:
    stage = FirstStage(
        steps=3, batch_size=4, channels=8, latent_channels=2, codebook=codebook, perceptual=0.1, adversarial=0.1,
        precision="fp32",
    )  # fmt: skip
    recipe = flow_recipe(data="mnist", steps=1, first_stage=stage, net_args={"channels": (8,), "patch": 1})
    field = build(recipe, Spec((1, 28, 28), 10))
    assert isinstance(field.autoencoder, CodebookAutoencoder) == (codebook > 0)
    data = Dataset(torch.rand(8, 1, 28, 28) * 2 - 1, torch.arange(8), 10, "mnist")
    first, _ = recipe.system.stages(field, data, {})
    assert first.training == stage
    before = {name: value.clone() for name, value in first.task.module.state_dict().items()}
    trained = Trainer(first.task, stage, tmp_path).run(False)
    assert isinstance(trained, Rivals)
    moved = [name for name, value in first.task.module.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("autoencoder.") for name in moved)
    assert any(name.startswith("discriminator.") for name in moved)
    first.finish(trained)
    for name, value in trained.autoencoder.state_dict().items():
        assert torch.equal(field.autoencoder.state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in field.autoencoder.parameters())
    names = {f"{player}_{scalar}" for player in ("autoencoder", "discriminator") for scalar in ("loss", "grad_norm")}
    assert names < set(read_metrics(tmp_path / "metrics.jsonl")[0])


def test_the_rival_is_the_seeds_and_no_player_without_its_weight() -> None:
    data = Dataset(torch.rand(8, 1, 8, 8) * 2 - 1, torch.arange(8), 10, "digits")

    def task(**changes: object):  # type: ignore[no-untyped-def]
        stage = FirstStage(steps=3, **changes)  # type: ignore[arg-type]
        return first_stage(Autoencoder(1, 2, 8, 4), stage, data).task

    one, again, other = (task(adversarial=0.1, seed=seed).module.discriminator.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert [player.name for player in task(adversarial=0.1).players] == ["autoencoder", "discriminator"]
    assert isinstance(task().module, Autoencoder)
    assert len(task().players) == 1
