"""Data and networks of one's own: trained, loaded, gone on with, and what is missing is said."""

from pathlib import Path

import pytest
import torch
from flows import flow_recipe
from torch import Tensor, nn

from flowlib.cli import main
from flowlib.data import Dataset
from flowlib.recipes import Recipe
from flowlib.runs import RunError, evaluate_run, load_run, train
from flowlib.systems import ClassifierSystem, ImprovedDDPMSystem, Splits
from flowlib.training import CheckpointError, Training

POINTS = flow_recipe(data="moons", net="mlp", steps=4, batch_size=16, net_args={"width": 8, "depth": 1})


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mine(seed: int = 0, name: str = "mine", labels: bool = True) -> Dataset:
    return Dataset(normal(seed, 40, 3), torch.arange(40) % 4 if labels else None, name=name)


class Net(nn.Module):
    """net(x, t, y) of points with labels 0 ... 3, and 4 for none."""

    null = 4

    def __init__(self, dim: int = 3, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, dim))
        self.label = nn.Embedding(5, dim + 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t[:, None]], 1) + self.label(y))


# --- data


def test_own_data_replace_the_recipes_and_are_not_needed_to_sample(tmp_path: Path) -> None:
    data = mine()
    run = train(POINTS, tmp_path, data=data, pictures=False)
    found = load_run(tmp_path)
    assert found.recipe.data == "mine"
    assert found.spec == data.spec == run.spec
    assert (found.shape, found.classes) == ((3,), 4)
    y = torch.tensor([0, 3])
    assert torch.equal(found.sample(y, steps=2), run.sample(y, steps=2))
    splits = Splits(data, mine(1))
    rows = evaluate_run(found, samples=20, steps=1, data=splits)
    assert [row["samples"] for row in rows] == ["training data", "w = 1", "w = 2"]
    with pytest.raises(ValueError, match="no data set and no folder 'mine'"):
        evaluate_run(found, samples=20)


def test_a_run_goes_on_with_the_data_that_it_has_learned_and_no_others(tmp_path: Path) -> None:
    train(POINTS, tmp_path, data=mine(), pictures=False)
    assert train(POINTS, tmp_path, data=mine(), resume=True, pictures=False).step == 4
    with pytest.raises(RunError, match=r"the data of the run in .* have changed since: mine is not what it was"):
        train(POINTS, tmp_path, data=mine(seed=1), resume=True)
    with pytest.raises(RunError, match="has data = 'mine' and cannot go on with 'other'"):
        train(POINTS, tmp_path, data=mine(name="other"), resume=True)
    with pytest.raises(RunError, match="has data = 'mine' and cannot go on with 'moons'"):
        train(POINTS, tmp_path, resume=True)


def test_own_data_with_the_name_of_a_set_are_still_ones_own(tmp_path: Path) -> None:
    data = Dataset(normal(0, 40, 2), torch.arange(40) % 2, name="moons")
    train(POINTS, tmp_path, data=data, pictures=False)
    with pytest.raises(RunError, match="have changed since: moons is not what it was"):
        train(POINTS, tmp_path, resume=True)


def test_data_that_the_recipe_does_not_take_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="guided must be false, or guide another, for data without labels"):
        train(POINTS, tmp_path / "run", data=mine(labels=False))
    with pytest.raises(ValueError, match=r"net 'unet' does not take samples of shape \(3,\)"):
        train(flow_recipe(steps=1), tmp_path / "run", data=mine())
    assert not (tmp_path / "run").exists()
    free = flow_recipe(data="moons", net="mlp", steps=2, guided=False, net_args={"width": 8, "depth": 1})
    run = train(free, tmp_path / "run", data=mine(labels=False))
    assert run.classes == 0
    assert run.sample(count=5, steps=1).shape == (5, 3)
    assert not (tmp_path / "run" / "samples").exists()  # a cloud in space is not drawn


def test_what_can_be_drawn_is_drawn(tmp_path: Path) -> None:
    flat = Dataset(normal(0, 40, 2), torch.arange(40) % 2, name="flat")
    train(POINTS, tmp_path, data=flat)
    assert len(list((tmp_path / "samples").iterdir())) == 4


# --- networks


def test_an_own_network_is_trained_and_loaded_with_its_weights(tmp_path: Path) -> None:
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = train(POINTS, tmp_path, data=mine(), net=net, pictures=False)
    assert run.recipe.system.net == "own"  # type: ignore[attr-defined]
    assert run.recipe.system.net_args == {}  # type: ignore[attr-defined]
    found = load_run(tmp_path, net=Net())
    assert any(not torch.equal(value, before[name]) for name, value in found.field.net.state_dict().items())
    y = torch.tensor([0, 1, 3])
    assert torch.equal(found.sample(y, steps=2, scale=2.0), run.sample(y, steps=2, scale=2.0))
    assert found.field.null == 4


def test_without_the_network_its_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(POINTS, tmp_path, data=mine(), net=Net(), pictures=False)
    message = r"was trained with a network of your own, Net: load_run\(folder, net=...\)"
    with pytest.raises(RunError, match=message):
        load_run(tmp_path)
    assert main(["sample", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "was trained with a network of your own, Net" in error
    assert error.count("\n") == 1
    with pytest.raises(CheckpointError, match=r"another architecture: net\."):
        load_run(tmp_path, net=Net(width=9))
    with pytest.raises(ValueError, match="net is 'own': give the module"):
        train(flow_recipe(data="moons", net="own", steps=1), tmp_path / "new")
    with pytest.raises(ValueError, match="net_args must be empty for a network of your own"):
        flow_recipe(net="own", net_args={"depth": 3}, steps=1)


def test_a_run_of_an_own_network_goes_on_with_one_built_alike(tmp_path: Path) -> None:
    """Whatever weights that one has: those of the run count."""
    whole = train(POINTS, tmp_path / "whole", data=mine(), net=with_weights(0), pictures=False, checkpoint_every=1)
    cut = Training(**{**vars(POINTS.training), "steps": 4})
    recipe = Recipe(name="r", data="moons", system=POINTS.system, training=cut)

    from flowlib.training import Trainer

    step = Trainer.step

    def dying(self: Trainer) -> None:
        if self.done == 2:
            raise KeyboardInterrupt
        step(self)

    Trainer.step = dying  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut", data=mine(), net=with_weights(0), pictures=False, checkpoint_every=1)
    finally:
        Trainer.step = step  # type: ignore[method-assign]
    again = train(recipe, tmp_path / "cut", data=mine(), net=with_weights(1), resume=True, pictures=False)
    for p, q in zip(again.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(p, q)


def with_weights(seed: int) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net()


def test_a_system_without_a_place_for_a_network_refuses_one(tmp_path: Path) -> None:
    recipe = Recipe(name="c", data="digits", system=ClassifierSystem(), training=Training(steps=1))
    with pytest.raises(ValueError, match="net: the system 'classifier' takes no network of your own"):
        train(recipe, tmp_path / "run", net=Net())
    assert not (tmp_path / "run").exists()


def test_a_chain_with_a_learned_variance_takes_one_of_twice_the_channels(tmp_path: Path) -> None:
    """Which is given x twice, and returns the noise and the share."""

    class Both(Net):
        null = None  # type: ignore[assignment]

        def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            assert y is None
            return super().forward(x, t, torch.full((len(x),), 4))

    system = ImprovedDDPMSystem(chain=10, guided=False)
    recipe = Recipe(name="i", data="moons", system=system, training=Training(steps=2, batch_size=8))
    run = train(recipe, tmp_path, data=mine(labels=False), net=Both(dim=6), pictures=False)
    assert run.sample(count=3, method="ddpm-learned", steps=2).shape == (3, 3)
