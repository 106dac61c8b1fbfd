"""The parts of a training step, each where its result is known: order of data, learning rates, average, precision."""

import math

import pytest
import torch
from torch import nn

from flowlib.training import Training
from flowlib.training.devices import autocast, computes_in_bf16, pick_device
from flowlib.training.distributed import World
from flowlib.training.ema import EMA
from flowlib.training.optimisers import learning_rate_factor, make_optimisers, set_learning_rates
from flowlib.training.order import DataOrder, stream


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (10, 10), (3, 8), (1, 1)])
def test_every_sample_comes_equally_often_and_each_epoch_in_another_order(count, batch_size):
    order = DataOrder(count, batch_size, seed=0)
    seen = torch.cat([order.batch(step) for step in range(12 * count)])
    epochs = seen[: len(seen) // count * count].reshape(-1, count)
    assert torch.equal(epochs.sort(1).values, torch.arange(count).expand_as(epochs))
    assert count == 1 or len(epochs.unique(dim=0)) > 1


def test_data_without_an_end_are_gone_through_once_as_they_come():
    order = DataOrder(None, 3, seed=0)
    assert order.batch(0).tolist() == [0, 1, 2]
    assert order.batch(10**12).tolist() == [3 * 10**12 + i for i in range(3)]  # beyond what 32 bits count
    assert torch.equal(torch.cat([order.batch(step) for step in range(7)]), torch.arange(21))
    assert torch.equal(DataOrder(None, 3, seed=1).batch(4), order.batch(4))
    assert order.batch(0).dtype == torch.int64
    with pytest.raises(ValueError, match="count must be an integer >= 1, got 0"):
        DataOrder(0, 3, seed=0)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        DataOrder(None, 0, seed=0)


def test_the_batch_of_a_step_depends_on_the_seed_and_the_step_alone():
    straight = DataOrder(10, 4, seed=1)
    batches = [straight.batch(step) for step in range(20)]
    for step in (17, 3, 0, 19):
        assert torch.equal(DataOrder(10, 4, seed=1).batch(step), batches[step])
    assert not torch.equal(DataOrder(1000, 40, seed=2).batch(0), DataOrder(1000, 40, seed=1).batch(0))


def test_streams_differ_by_seed_and_by_purpose():
    def first(*names):
        return torch.rand(1, generator=stream(*names)).item()

    assert first(0, "order") == first(0, "order")
    assert len({first(0, "order"), first(1, "order"), first(0, "draws"), first(0, "order", 1)}) == 4


def test_the_learning_rate_rises_in_a_line_and_falls_on_half_a_cosine():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors.index(max(factors)) == 9
    assert factors[0] == pytest.approx(0.1)
    assert factors[50] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert all(0 < factor <= 1 for factor in factors)
    assert learning_rate_factor(0, 1, 0.0) == 1.0


def test_learning_rates_are_scaled_from_their_peak_each_time():
    net = nn.Linear(3, 3)
    optimisers = make_optimisers(Training(steps=1, lr=0.1), net)
    for factor in (0.5, 0.5, 0.25):
        set_learning_rates(optimisers, factor)
    assert {group["lr"] for optimiser in optimisers for group in optimiser.param_groups} == {0.025}


def test_only_matrices_decay_and_frozen_parameters_are_left_out():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False))
    (adamw,) = make_optimisers(Training(steps=1, weight_decay=0.2), net)
    decays = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert decays == {id(net[0].weight): 0.2, id(net[0].bias): 0.0}


def test_the_average_is_a_geometric_sum_that_forgets_its_start():
    net = nn.Linear(1, 1, bias=False)
    ema, expected = EMA(net, 0.9), net.weight.item()
    for n in range(1, 200):
        with torch.no_grad():
            net.weight.fill_(n)
        ema.update(n)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert ema.module.weight.item() == pytest.approx(199 - 9, rel=1e-4)  # a ramp lags by decay / (1 - decay)
    assert not ema.module.weight.requires_grad
    assert not ema.module.training


def test_frozen_weights_keep_their_bits_in_the_average():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False))
    ema = EMA(net, 0.9)
    for n in range(1, 50):
        ema.update(n)
    assert torch.equal(ema.module[1].weight, net[1].weight)


def test_autocast_computes_in_the_precision_that_was_asked_for():
    cpu = torch.device("cpu")
    a = torch.ones(2, 2)
    with autocast("bf16", cpu):
        assert (a @ a).dtype == torch.bfloat16
        with autocast("fp32", cpu):
            assert (a @ a).dtype == torch.float32
    with autocast("auto", cpu):
        assert (a @ a).dtype == (torch.bfloat16 if computes_in_bf16(cpu) else torch.float32)
    with pytest.raises(ValueError, match="precision"):
        autocast("fp8", cpu)


def test_an_impossible_device_is_named():
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("cpux", "cuda:77"):
        with pytest.raises(ValueError, match=f"device '{name}'"):
            pick_device(name)


def test_processes_share_a_batch_evenly_or_not_at_all():
    parts = [World(rank, 4).share(12) for rank in range(4)]
    assert [i for part in parts for i in range(12)[part]] == list(range(12))
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 4 processes, got 10"):
        World(0, 4).share(10)


def test_the_average_has_the_buffers_of_the_last_step() -> None:
    """A batch norm samples by its running statistics: those of the start are none."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    ema = EMA(net, 0.9)
    for n in range(1, 4):
        net(torch.randn(16, 2, generator=torch.Generator().manual_seed(n)))
        ema.update(n)
    assert int(ema.module[1].num_batches_tracked) == 3
    assert torch.equal(ema.module[1].running_mean, net[1].running_mean)
    assert ema.module[1].running_mean is not net[1].running_mean
    assert bool((ema.module[1].running_mean != 0).all())
