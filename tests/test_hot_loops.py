"""No step of a sampler reads a tensor on the host: on a GPU each read is a wait. Checks read once, before the first."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from examples import mixture, normal, seeded
from reads import counted
from torch import Tensor, nn

from flowlib import ClassifierFreeGuidance, EnergyGuidance, Field, Model, log_likelihood
from flowlib.chains import Chain, encode_ddim, mean_shift, sample_ancestral
from flowlib.losses import flow_matching_loss, prediction_error, prediction_loss, score_matching_loss
from flowlib.nets import MLP, TimeClassifier, UNet
from flowlib.paths import GaussianPath
from flowlib.samplers import sample_ddim, sample_ode, sample_sde
from flowlib.schedules import VP
from flowlib.solvers import STEPS

Case = tuple[Field, Tensor, Tensor]  # field, noise, guides
SMALL = {"in_channels": 1, "channels": (8,), "depth": 1, "patch": 1, "heads": 2, "dim": 16}
IMAGES, LABELS = normal(0, 4, 1, 4, 4, dtype=torch.float32), torch.tensor([0, 1, 2, 0])
WORDS = torch.tensor([[1, 2, 3, 0], [1, 4, 0, 0], [1, 0, 0, 0], [1, 3, 2, 4]])


def build(net: Callable[[], nn.Module], **arguments: Any) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(net(), **arguments).eval()


def points(**arguments: Any) -> Case:
    return build(lambda: MLP(2, width=16, depth=1, classes=3, dim=8), **arguments), normal(0, 4, 2).float(), LABELS


FIELDS: dict[str, Callable[..., Case]] = {
    "MLP": points,
    "U-Net": lambda **a: (build(lambda: UNet(**SMALL, classes=3), **a), IMAGES, LABELS),
    "U-Net of words": lambda **a: (
        build(lambda: UNet(**SMALL, classes=None, attention=(0,), words=5, length=4), **a),
        IMAGES,
        WORDS,
    ),
    "mixture": lambda **a: (mixture(), normal(0, 4, 2), LABELS),
}
SAMPLERS: dict[str, Callable[..., Tensor]] = {
    **{method: partial(sample_ode, method=method) for method in STEPS},
    "ODE landing on D": partial(sample_ode, denoise_last=True),
    "SDE": partial(sample_sde, generator=seeded(0)),
    "SDE with a diffusion": partial(sample_sde, generator=seeded(0), diffusion=lambda t: 1 + t / 2),
    "SDE with a corrector": partial(sample_sde, generator=seeded(0), corrector_steps=1),
    "DDIM": sample_ddim,
    "DDIM of order 2": partial(sample_ddim, order=2),
    "DDIM of order 3": partial(sample_ddim, order=3),
    "DDIM, eta = 1": partial(sample_ddim, eta=1.0, generator=seeded(0)),
    "encoding": encode_ddim,
}


class Counting(Field):
    """A field that says what another says, and notes how many reads there had been at each evaluation."""

    def __init__(self, field: Field, seen: Callable[[], int]) -> None:
        self.field, self.path, self.predicts, self.null = field, field.path, field.predicts, field.null
        self.seen, self.at = seen, list[int]()

    def check_guide(self, y: Tensor, x: Tensor) -> Tensor:
        return self.field.check_guide(y, x)

    def has_velocity_at(self, t: float) -> bool:
        return self.field.has_velocity_at(t)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        self.at.append(self.seen())
        value = self.field.predict(x, t, y)
        self.at.append(self.seen())
        return value


def reads_of(
    sample: Callable[..., Tensor], case: Case, steps: int, wrap: Callable[[Field], Field] = lambda f: f
) -> int:
    """All reads of a call; none of those that wait is between its first evaluation's start and its last one's end."""
    field, noise, y = case
    with counted() as reads:
        watched = Counting(field, lambda: len(reads.operations))
        sample(wrap(watched), noise, y, steps=steps)
    assert watched.at[0] == watched.at[-1], reads.operations[watched.at[0] :]
    return reads.count


def same_for_any_steps(sample: Callable[..., Tensor], case: Case, wrap: Callable[[Field], Field] = lambda f: f) -> None:
    assert reads_of(sample, case, 4, wrap) == reads_of(sample, case, 8, wrap)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_steps_of_a_sampler_read_nothing(name: str, sampler: str) -> None:
    same_for_any_steps(SAMPLERS[sampler], FIELDS[name]())
    field, noise, _ = FIELDS[name]()
    same_for_any_steps(SAMPLERS[sampler], (field, noise, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("sampler", ["heun", "SDE", "DDIM"])
def test_guided_steps_read_nothing(name: str, sampler: str) -> None:
    case, sample = FIELDS[name](), SAMPLERS[sampler]
    same_for_any_steps(sample, case, lambda field: ClassifierFreeGuidance(field, 2.0))
    same_for_any_steps(sample, case, lambda field: EnergyGuidance(field, lambda x, t, y: -x.flatten(1).square().sum(1)))


@pytest.mark.parametrize("sampler", ["euler", "heun", "SDE", "DDIM, eta = 1"])
def test_a_guidance_whose_energy_is_an_exact_density_or_a_classifier_reads_nothing(sampler: str) -> None:
    """What it hands on is known to the checks of what it calls too; and guidance of guidance."""
    exact = mixture()
    case, sample = (exact, *FIELDS["mixture"]()[1:]), SAMPLERS[sampler]
    energy = lambda x, t, y: exact.log_prob(x, t, y) - exact.log_prob(x, t)  # noqa: E731
    same_for_any_steps(sample, case, lambda field: EnergyGuidance(field, energy))
    both = lambda field: EnergyGuidance(ClassifierFreeGuidance(field, 2.0), energy, conditional=True)  # noqa: E731
    same_for_any_steps(sample, case, both)
    classifier = TimeClassifier(1, channels=(8,), classes=3).eval()
    same_for_any_steps(sample, FIELDS["U-Net"](), lambda field: EnergyGuidance(field, classifier.log_prob))


@pytest.mark.parametrize("kind", ["data", "noise", "v", "score"])
@pytest.mark.parametrize("sampler", ["heun", "SDE", "DDIM of order 2"])
def test_the_steps_of_other_predictions_read_nothing(kind: str, sampler: str) -> None:
    """VP's alpha(0) > 0: even a noise tells what the data are there; not a score, though, at the other end."""
    case = points(predicts=kind, path=GaussianPath(VP()))
    same_for_any_steps(SAMPLERS[sampler], case)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_steps_read_nothing(variance: str) -> None:
    path = GaussianPath(Chain.linear(40))

    def shifted(field: Field, noise: Tensor, y: Tensor, steps: int) -> Tensor:
        step = mean_shift(field, lambda x, t, y: -x.flatten(1).square().sum(1), variance=variance)
        return sample_ancestral(field, noise, y, steps=steps, variance=step)

    for field, noise, y in (points(predicts="noise", path=path), FIELDS["U-Net"](predicts="noise", path=path)):
        same_for_any_steps(partial(sample_ancestral, variance=variance), (field, noise, y))
        same_for_any_steps(shifted, (field, noise, y))


def test_the_parts_of_a_batch_read_nothing_more() -> None:
    for sample in (sample_ode, partial(sample_ddim, eta=1.0, generator=seeded(0))):
        case = FIELDS["U-Net of words"]()
        whole, split = (reads_of(partial(sample, batch_size=size), case, 3) for size in (4, 1))
        assert whole == split


def test_the_steps_of_a_likelihood_read_nothing() -> None:
    for field, x, y in (FIELDS["mixture"](), points()):
        counts = []
        for steps in (3, 6):
            with counted() as reads:
                log_likelihood(field, x, y, steps=steps)
            counts.append(reads.count)
        assert counts[0] == counts[1]


@pytest.mark.parametrize(("name", "expected"), [("MLP", 3), ("U-Net", 3), ("U-Net of words", 5)])
@pytest.mark.parametrize("loss", [flow_matching_loss, score_matching_loss, prediction_loss])
def test_a_loss_reads_its_arguments_once_and_before_the_network(
    name: str, expected: int, loss: Callable[..., Tensor]
) -> None:
    """Whether the data are finite, and both ends of the times and of the labels: 3 reads; words have 3 of their own."""
    model, z, y = FIELDS[name]()
    assert isinstance(model, Model)
    for dropout in (0.0, 0.5):
        with counted() as reads:
            before = list[int]()
            model.train().net.register_forward_pre_hook(lambda *_: before.append(reads.count))  # noqa: B023
            loss(model, z, y, dropout=dropout, generator=seeded(0)).backward()
        assert before == [expected] * len(before)
        assert reads.count == expected


@pytest.mark.parametrize(("name", "expected"), [("MLP", 2), ("U-Net", 2), ("U-Net of words", 4)])
def test_the_error_that_training_is_made_of_reads_its_arguments_once(name: str, expected: int) -> None:
    model, z, y = FIELDS[name]()
    assert isinstance(model, Model)
    with counted() as reads:
        prediction_error(model, z, y, torch.full((len(z),), 0.5), torch.randn_like(z)).mean().backward()
    assert reads.count == expected


def test_the_counter_sees_every_way_to_read() -> None:
    x, mask = normal(0, 3), torch.tensor([True, False, True])
    ways: list[Callable[[], object]] = [
        lambda: bool(x[0] > 0), lambda: float(x[0]), lambda: x[0].item(), lambda: x.tolist(), lambda: x.numpy(),
        lambda: x.cpu(), lambda: mask.nonzero(), lambda: x[mask], lambda: int(x.argmax()), lambda: torch.equal(x, x),
    ]  # fmt: skip
    for way in ways:
        with counted() as reads:
            way()
        assert reads.count == 1
    with counted() as reads:
        _ = x + x[0]
    assert reads.count == 0
    assert x.tolist() == x.numpy().tolist()


def test_a_read_in_a_step_is_seen() -> None:
    """What the tests above would say of a field that reads its time."""

    class Reading(Field):
        path, predicts = mixture().path, "v"

        def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
            return x * (float(t) > 0.5)

    with pytest.raises(AssertionError):
        same_for_any_steps(sample_ode, (Reading(), normal(0, 4, 2), None))  # type: ignore[arg-type]
