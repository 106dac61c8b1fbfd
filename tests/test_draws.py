"""What a loss draws: dropped labels (PROPERTY 13), times, couplings, seeds."""

import pytest
import torch
from examples import normal, seeded
from torch import Tensor, nn

from flowlib.fields import Model
from flowlib.losses import drop_guide, flow_matching_loss, optimal_transport, prediction_loss, score_matching_loss
from flowlib.times import logit_normal_time, logit_uniform_time, uniform_time


class Labelled(nn.Module):
    """A guided network that remembers its labels."""

    null = 10

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.y = y
        return x


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_at_their_rate_in_training_and_never_in_evaluation(rate: float) -> None:
    """Property 13: within 4 standard deviations."""
    model, count = Model(Labelled()), 20000
    z, y = normal(0, count, 1), torch.arange(count) % 10
    flow_matching_loss(model.train(), z, y, dropout=rate, generator=seeded(0))
    dropped = model.net.y == 10
    assert abs(int(dropped.sum()) - rate * count) <= 4 * (rate * (1 - rate) * count) ** 0.5
    assert torch.equal(model.net.y[~dropped], y[~dropped])
    flow_matching_loss(model.eval(), z, y, dropout=rate, generator=seeded(0))
    assert torch.equal(model.net.y, y)


def test_the_callers_labels_and_data_are_never_modified() -> None:
    """Property 13; museum: labels changed in place."""
    model = Model(Labelled()).train()
    z, y = normal(0, 64, 2), torch.arange(64) % 10
    versions = z._version, y._version
    for loss in (flow_matching_loss, score_matching_loss, prediction_loss):
        loss(model, z, y, dropout=1.0, coupling=optimal_transport)
    assert drop_guide(model, y, 1.0) is not y
    assert (z._version, y._version) == versions
    assert torch.equal(y, torch.arange(64) % 10)


def test_one_seed_is_one_loss_and_leaves_the_global_generator_alone() -> None:
    model, z, y = Model(Labelled()).train(), normal(0, 32, 2), torch.arange(32) % 10
    before = torch.get_rng_state()
    first, second, other = (flow_matching_loss(model, z, y, generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_uniform_times_are_uniform_inside_and_one_in_each_cell() -> None:
    for count in (1, 7, 1000):
        t = uniform_time(count, seeded(0))
        assert t.shape == (count,)
        assert 0 < float(t.min()) <= float(t.max()) < 1
        assert torch.equal((t.double() * count).floor().sort().values, torch.arange(count).double())
    first = torch.cat([uniform_time(4, seeded(seed))[:1] for seed in range(400)])
    assert float(first.mean()) == pytest.approx(0.5, abs=5 * 12**-0.5 / 20)  # the first of a batch is no special time


def test_logit_normal_times_have_their_quantiles() -> None:
    t = logit_normal_time(0.5, 0.8)(20000, seeded(0))
    assert 0 < float(t.min()) <= float(t.max()) < 1
    logit = torch.logit(t.double())
    assert float(logit.mean()) == pytest.approx(0.5, abs=1e-3)  # stratified, so far better than 1/sqrt(N)
    assert float(logit.std()) == pytest.approx(0.8, abs=1e-2)


def test_logit_uniform_times_are_even_in_log_snr() -> None:
    t = logit_uniform_time(-3, 6.5)(20000, seeded(0))
    logit = torch.logit(t.double())
    assert -3 < float(logit.min()) <= float(logit.max()) < 6.51  # float32 knows 1 - t to 6e-8
    counts = torch.histc(logit, 10, -3, 6.5)
    assert float((counts - 2000).abs().max()) < 5  # stratified


def test_optimal_transport_is_the_cheapest_of_all_permutations() -> None:
    from itertools import permutations

    noise, z = normal(0, 6, 2), normal(1, 6, 2)
    paired = optimal_transport(noise, z)
    cheapest = min(float((noise[list(p)] - z).square().sum()) for p in permutations(range(6)))
    assert float((paired - z).square().sum()) == pytest.approx(cheapest, rel=1e-12)
    assert torch.equal(paired.sort(0).values, noise.sort(0).values)


def test_optimal_transport_counts_squared_distances() -> None:
    """Plain distances would join the point that both batches have, and send the other one past it."""
    noise = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert torch.equal(optimal_transport(noise, torch.tensor([[1.0, 0.0], [2.0, 0.5]])), noise)


def test_optimal_transport_straightens_the_paths_without_changing_the_noise() -> None:
    """Images too; and the loss really uses the coupling."""
    z = normal(0, 64, 1, 4, 4)
    model = Model(Labelled(), predicts="noise")
    y = torch.zeros(64, dtype=torch.long)
    coupled = flow_matching_loss(model.eval(), z, y, coupling=optimal_transport, generator=seeded(0))
    plain = flow_matching_loss(model, z, y, generator=seeded(0))
    assert not torch.equal(coupled, plain)
    noise = normal(1, 64, 1, 4, 4)
    paired = optimal_transport(noise, z)
    assert float((paired - z).square().sum()) < 0.9 * float((noise - z).square().sum())


def test_optimal_transport_within_labels_leaves_the_noise_of_each_label_to_it() -> None:
    """The cheapest pairing of each label on its own; across labels it would move noise from one to another."""
    y = torch.tensor([0, 1, 0, 2, 1, 0, 1, 0], dtype=torch.uint8)
    noise, z = normal(0, 8, 2), normal(1, 8, 2) + 5 * y.double()[:, None]
    paired = optimal_transport(noise, z, y)
    for label in (0, 1, 2):
        rows = y == label
        assert torch.equal(paired[rows], optimal_transport(noise[rows], z[rows]))
    across = optimal_transport(noise, z)
    assert sorted(across[y == 0].tolist()) != sorted(noise[y == 0].tolist())
    assert torch.equal(optimal_transport(noise, z, torch.zeros(8).long()), across)
    for wrong in (y[:5], y.double(), [0] * 8, -y.long()):
        with pytest.raises(ValueError, match=r"^y must"):
            optimal_transport(noise, z, wrong)
