"""Importance sampling of steps: unbiased for every p, uniform before it is warm, and the best p (PROPERTY 23)."""

import pytest
import torch
from examples import normal, seeded
from torch import Tensor

from flowlib.chains import LossSecondMoment

STEPS = 40


def warmed(steps: int = STEPS, history: int = 10, uniform: float = 1e-3) -> tuple[LossSecondMoment, Tensor]:
    """A resampler with ten losses of each step, and these (T, 10)."""
    sampler, losses = (
        LossSecondMoment(steps, history, uniform),
        normal(0, steps, history).exp() * torch.logspace(1, -1, steps, dtype=torch.float64)[:, None],
    )
    for column in losses.T:
        sampler.update(torch.arange(1, steps + 1), column)
    return sampler, losses


def test_the_weights_make_every_estimate_unbiased() -> None:
    """Property 23, 1e-12: sum_k p_k L_k / (T p_k) is the mean of the L_k, before and after warming up."""
    losses = normal(5, STEPS)
    for sampler in (LossSecondMoment(STEPS), warmed()[0]):
        p = sampler.probabilities()
        assert float(p.sum()) == pytest.approx(1, abs=1e-12)
        assert float((p * losses / (STEPS * p)).sum()) == pytest.approx(float(losses.mean()), abs=1e-12)
        k, weights = sampler.sample(500, seeded(0))
        torch.testing.assert_close(weights, 1 / (STEPS * p[k - 1]), rtol=1e-12, atol=0)


def test_steps_are_drawn_with_their_probabilities() -> None:
    """Each count differs from its mean by less than 6 binomial standard deviations (and stratifying narrows that)."""
    sampler, _ = warmed()
    p = sampler.probabilities()
    counts = torch.zeros(STEPS, dtype=torch.float64)
    for seed in range(200):
        k, _ = sampler.sample(50, seeded(seed))
        assert k.shape == (50,)
        counts += torch.bincount(k - 1, minlength=STEPS)
    assert bool(((counts - 10_000 * p).abs() < 6 * (10_000 * p * (1 - p)).sqrt() + 1).all())


def test_it_is_uniform_until_every_step_has_its_losses() -> None:
    sampler, losses = LossSecondMoment(STEPS), normal(0, STEPS, 10).exp()
    for column in losses.T[:-1]:
        sampler.update(torch.arange(1, STEPS + 1), column)
    sampler.update(torch.arange(2, STEPS + 1), losses[1:, -1])  # all but the first
    assert not sampler.warm
    torch.testing.assert_close(
        sampler.probabilities(), torch.full((STEPS,), 1 / STEPS, dtype=torch.float64), rtol=0, atol=0
    )
    assert sampler.sample(3, seeded(0))[1].tolist() == pytest.approx([1, 1, 1])
    sampler.update(torch.tensor([1]), losses[:1, -1])
    assert sampler.warm
    assert float(sampler.probabilities().std()) > 0.001


def test_probabilities_are_root_mean_squares_of_the_last_losses() -> None:
    sampler, losses = warmed(uniform=0.0)
    share = losses.square().mean(1).sqrt()
    torch.testing.assert_close(sampler.probabilities(), share / share.sum(), rtol=1e-12, atol=0)
    # Three more of step 7, in one batch, push out its first three.
    sampler.update(torch.tensor([7, 7, 7]), torch.tensor([5.0, 6.0, 7.0]))
    losses[6] = torch.cat([losses[6, 3:], torch.tensor([5.0, 6.0, 7.0])])
    share = losses.square().mean(1).sqrt()
    torch.testing.assert_close(sampler.probabilities(), share / share.sum(), rtol=1e-12, atol=0)
    floor = warmed(uniform=0.5)[0].probabilities()
    assert float(floor.min()) >= 0.5 / STEPS


def test_no_other_probabilities_have_a_smaller_second_moment() -> None:
    """sum_k E L_k^2 / (T^2 p_k) at p_k ~ sqrt(E L_k^2) is (mean sqrt(E L_k^2))^2, and more for every other p."""
    sampler, losses = warmed(uniform=0.0)
    squares = losses.square().mean(1)

    def moment(p: Tensor) -> float:
        return float((squares / (STEPS**2 * p)).sum())

    best = moment(sampler.probabilities())
    assert best == pytest.approx(float(squares.sqrt().mean()) ** 2, rel=1e-12)
    others = torch.softmax(sampler.probabilities().log() + 0.3 * normal(1, 100, STEPS), dim=1)
    assert min(moment(p) for p in others) > best
    assert moment(torch.full((STEPS,), 1 / STEPS, dtype=torch.float64)) > 1.3 * best
    assert moment(losses.mean(1) / losses.mean(1).sum()) > best  # E|L| instead of sqrt(E L^2)


def test_losses_that_are_all_zero_are_no_division_by_zero() -> None:
    sampler = LossSecondMoment(3, history=1)
    sampler.update(torch.tensor([1, 2, 3]), torch.zeros(3))
    assert sampler.probabilities().tolist() == pytest.approx([1 / 3] * 3)


def test_the_losses_travel_with_the_state() -> None:
    sampler, _ = warmed()
    other = LossSecondMoment(STEPS)
    other.load_state_dict(sampler.state_dict())
    torch.testing.assert_close(other.probabilities(), sampler.probabilities(), rtol=0, atol=0)
    assert other.sample(9, seeded(3))[0].tolist() == sampler.sample(9, seeded(3))[0].tolist()


BAD = [
    (lambda: LossSecondMoment(0), "steps must be an integer >= 1"),
    (lambda: LossSecondMoment(5, history=0), "history must be an integer >= 1"),
    (lambda: LossSecondMoment(5, uniform=1.5), r"uniform must be a finite number in \[0, 1\]"),
    (lambda: LossSecondMoment(5).update(torch.tensor([1, 2]), torch.zeros(3)), "losses must be one for each of k"),
    (lambda: LossSecondMoment(5).update(torch.tensor([0, 2]), torch.zeros(2)), r"k must lie in 1 \.\.\. 5, got 0"),
    (lambda: LossSecondMoment(5).update(torch.tensor([6, 2]), torch.zeros(2)), "got 2 ... 6"),
    (lambda: LossSecondMoment(5).sample(0), "count must be an integer >= 1"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
