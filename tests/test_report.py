"""Reports: the rows, their costs, and that good samples score better than bad ones."""

import os

import pytest
import torch
from flows import flow_recipe

from flowlib.data import Dataset, load, mnist
from flowlib.metrics import fit_reader
from flowlib.recipes import change
from flowlib.runs import evaluate_run, train
from flowlib.solvers import logit_grid
from flowlib.systems import FirstStage, Splits
from flowlib.systems.reporting import bits_of_test_set

NET = {"channels": (8,), "depth": 1, "patch": 2, "dim": 16}
DIGITS = flow_recipe(name="d", steps=2, batch_size=8, net_args=NET)


def test_digits_are_measured_on_pixels_with_their_cost(tmp_path):
    run = train(DIGITS, tmp_path, pictures=False)
    rows = evaluate_run(run, samples=120, scales=(0.0, 1.0, 3.0), steps=2)
    assert [row["samples"] for row in rows] == ["training data", "w = 0", "w = 1", "w = 3"]
    assert [row.get("nfe") for row in rows] == [None, 4, 4, 8]  # Heun calls twice a step, guidance doubles the batch
    real, made = rows[0], rows[2]
    assert real["ratio"] == 1
    assert real["accuracy"] == 1
    assert made["ratio"] > 3  # two steps of training make noise
    assert made["accuracy"] < 0.5
    assert made["per_second"] > 0
    assert 0 <= made["precision"] < real["precision"] <= 1


def test_the_reader_reads_digits_it_has_not_seen():
    test = load("digits", "test")
    right = fit_reader(load("digits"))(test.images).argmax(1) == test.labels
    assert right.double().mean() > 0.97


def test_points_are_measured_by_their_distances_and_training_reduces_them(tmp_path):
    recipe = flow_recipe(
        data="moons", net="mlp", net_args={"width": 32, "depth": 1, "dim": 16}, steps=1, batch_size=256
    )
    rough = train(recipe, tmp_path / "rough", pictures=False)
    good = train(change(recipe, steps=200, ema=0.9), tmp_path / "good", pictures=False)
    before, after = (evaluate_run(run, samples=500, scales=(1.0,), steps=10) for run in (rough, good))
    for measure in ("sliced_wasserstein", "energy"):
        assert before[0][measure] == after[0][measure] < after[1][measure] < 0.7 * before[1][measure]
    assert after[1]["nfe"] == 20


def test_a_run_without_guide_has_one_row(tmp_path):
    recipe = flow_recipe(data="moons", net="mlp", steps=1, guided=False, net_args={"width": 8, "depth": 1})
    rows = evaluate_run(train(recipe, tmp_path, pictures=False), samples=10, steps=1)
    assert [row["samples"] for row in rows] == ["training data", "no guide"]


def test_a_likelihood_of_what_has_none_is_refused_by_name_before_anything_is_sampled(tmp_path, monkeypatch):
    points = flow_recipe(data="moons", net="mlp", steps=1, net_args={"width": 8, "depth": 1})
    run = train(points, tmp_path / "p", pictures=False)
    with monkeypatch.context() as patch:
        patch.setattr(type(points.system), "sample", lambda *_: pytest.fail("it was sampled"))
        with pytest.raises(ValueError, match="bits/dim need a field on pixels: 'moons'"):
            evaluate_run(run, samples=10, steps=1, likelihood=5)
    latent = flow_recipe(steps=1, net_args={**NET, "patch": 1}, batch_size=4,
                         first_stage=FirstStage(steps=1, batch_size=4, channels=8, factor=2))  # fmt: skip
    run = train(latent, tmp_path / "l", pictures=False)
    with pytest.raises(ValueError, match="bits/dim need a field on pixels: 'digits' or this field has none"):
        bits_of_test_set(run.field, load("digits", "test"))


def test_bits_of_digits_count_the_values_that_their_pixels_may_have(tmp_path):
    """An untrained velocity of about 0 leaves the images as they are, under a standard normal: 17 levels, 2/16 wide."""
    run, test = train(DIGITS, tmp_path, pictures=False), load("digits", "test")
    *_, row = evaluate_run(run, samples=100, scales=(1.0,), steps=1, likelihood=20)
    assert row["samples"] == "20 test images"
    x = test.images[:20].double()
    gauss = (0.5 * x**2 + 0.5 * torch.log(torch.tensor(2 * torch.pi))).mean() / torch.log(torch.tensor(2.0))
    assert row["bits_per_dim"] == pytest.approx(float(gauss) + 3, abs=0.3)
    assert row == {"samples": "20 test images", **bits_of_test_set(run.field, test, images=20)}
    assert 0 < row["standard_error"] < 1


def test_a_flow_that_learned_late_times_is_scored_on_a_grid_that_is_even_there(tmp_path):
    small = {"channels": (8, 16), "depth": 1, "dim": 16, "values": (0, 16)}
    late = {"net": "mixture", "net_args": small, "time": "logit-uniform", "measure": "noise", "guided": False}
    run, test = train(flow_recipe(steps=1, **late), tmp_path, pictures=False), load("digits", "test")
    *_, row = evaluate_run(run, samples=100, steps=1, likelihood=10)
    even = bits_of_test_set(run.field, test, images=10, times=logit_grid(30), method="rk4")
    assert row == {"samples": "10 test images", **even}
    fine = bits_of_test_set(run.field, test, images=10, times=logit_grid(200), method="rk4")
    usual = bits_of_test_set(run.field, test, images=10)
    errors = [abs(found["bits_per_dim"] - fine["bits_per_dim"]) for found in (even, usual)]
    assert errors[0] < 0.01 < 0.02 < errors[1]


def test_data_of_ones_own_are_measured_beside_those_that_are_given(tmp_path):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 2, generator=g), torch.arange(60) % 3
    mine = Splits(Dataset(x[:40], y[:40], 3, "mine"), Dataset(x[40:], y[40:], 3, "mine"))
    recipe = flow_recipe(data="moons", net="mlp", steps=1, net_args={"width": 8, "depth": 1})
    run = train(recipe, tmp_path, data=mine.train, pictures=False)
    rows = evaluate_run(run, samples=30, steps=1, data=mine)
    assert [row["samples"] for row in rows] == ["training data", "w = 1", "w = 2"]
    assert all(row["energy"] != rows[0]["energy"] for row in rows[1:])


def test_an_option_that_the_system_does_not_take_is_no_option(tmp_path):
    run = train(DIGITS, tmp_path, pictures=False)
    with pytest.raises(TypeError, match="speed"):
        evaluate_run(run, samples=100, speed=3)
    with pytest.raises(TypeError, match="speed"):
        run.sample(count=3, speed=3)


@pytest.mark.skipif("FLOWLIB_DATA" not in os.environ or mnist.find() is None, reason="MNIST is not here: FLOWLIB_DATA")
def test_mnist_is_measured_by_the_evaluator_and_in_bits(tmp_path):
    recipe = flow_recipe(data="mnist", steps=2, batch_size=8, net_args=NET | {"patch": 4})
    run = train(recipe, tmp_path, pictures=False)
    real, made = evaluate_run(run, samples=200, scales=(1.0,), steps=1, method="euler")
    assert real["accuracy"] > 0.98
    assert made["ratio"] > 10
    assert made["nfe"] == 1
    bits = bits_of_test_set(run.field, load("mnist", "test"), images=4, steps=4)
    # An untrained velocity of about 0 leaves the images as they are, under a standard normal.
    x = mnist.load("test").images[:4].double()
    expected = (0.5 * x**2 + 0.5 * torch.log(torch.tensor(2 * torch.pi))).mean() / torch.log(torch.tensor(2.0))
    assert bits["bits_per_dim"] == pytest.approx(float(expected) + 6.994, abs=0.3)
    assert bits["standard_error"] < 1
