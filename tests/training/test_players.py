"""Several players in a task: each has its parameters, its loss and its settings, and they take turns in every step."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small import make_game, make_task, settings
from torch import Tensor

from flowlib.training import DivergedError, Player, Task, Trainer, Turn, read_metrics
from flowlib.training.trainer import METRICS

ADAM = {"weight_decay": 0.0, "warmup": 0.0, "clip": None}


def weights(task: Task) -> list[Tensor]:
    return [p.detach().clone() for p in task.module.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_a_step_is_each_players_move_in_order_by_its_own_optimiser(tmp_path: Path) -> None:
    """By hand, with torch.optim.Adam: first the judge, then the maker against the judge as it is by then."""
    changes = {"lr": 0.3, "betas": (0.0, 0.9)}
    trainer = Trainer(make_game(**changes), settings(lr=0.02, **ADAM), tmp_path)
    expected = make_game()
    maker, judge = expected.module["maker"], expected.module["judge"]
    source = torch.Generator()
    source.set_state(trainer.draws.get_state())
    rates = {"judge": 0.3, "maker": 0.02}
    optimisers = {
        "judge": torch.optim.Adam(judge.parameters(), betas=(0.0, 0.9)),
        "maker": torch.optim.Adam(maker.parameters(), betas=(0.9, 0.99)),
    }
    for step in range(3):
        turn = Turn(trainer.order.batch(step), slice(0, 8), source, step, 40)
        for player in expected.players:
            optimiser = optimisers[player.name]
            optimiser.param_groups[0]["lr"] = rates[player.name] * 0.5 * (1 + math.cos(math.pi * step / 40))
            value = player.loss(turn)
            loss = value["loss"] if isinstance(value, dict) else value
            own = list(player.module.parameters())
            for p, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                p.grad = gradient
            optimiser.step()
        trainer.step()
        for p, q in zip(trainer.task.module.parameters(), expected.module.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_a_players_changes_are_its_own(tmp_path: Path) -> None:
    """Without a change both move by the training's settings; a change for one leaves the other's first move alone."""

    def moved(name: str, **changes: object) -> dict[str, float]:
        trainer = Trainer(make_game(**changes), settings(**ADAM), tmp_path / name)
        before = {key: p.detach().clone() for key, p in trainer.task.module.named_parameters()}
        trainer.step()
        return {key: float((p.detach() - before[key]).abs().max()) for key, p in trainer.task.module.named_parameters()}

    plain, faster = moved("plain"), moved("faster", lr=0.2)
    assert faster["judge.weight"] == pytest.approx(10 * plain["judge.weight"], rel=1e-4)
    assert faster["maker.bias"] == pytest.approx(plain["maker.bias"], rel=1e-3)  # Adam's first step is as long as lr
    for name in ("steps", "batch_size", "ema", "seed", "speed"):
        with pytest.raises(
            ValueError, match=f"a change for the player 'judge' must be one of optimiser, .*got '{name}'"
        ):
            Trainer(make_game(**{name: 3}), settings(), tmp_path / "bad")


def test_scalars_are_logged_by_the_players_names_as_means_over_steps(tmp_path: Path) -> None:
    Trainer(make_game(), settings(steps=12), tmp_path / "one", log_every=1).run()
    Trainer(make_game(), settings(steps=12), tmp_path / "four", log_every=6, checkpoint_every=12).run()
    each, means = (read_metrics(tmp_path / name / METRICS) for name in ("one", "four"))
    names = {"judge_loss", "judge_real", "judge_grad_norm", "maker_loss", "maker_grad_norm"}
    assert set(each[0]) == {"step", "lr", "loss", *names, "samples_per_second", "seconds"}
    for entry in each:
        assert entry["loss"] == pytest.approx(entry["judge_loss"] + entry["maker_loss"])
    ends = [entry["step"] for entry in means]
    assert ends == [3, 6, 9, 12]  # the quarters too
    for start, entry in zip([0, *ends], means, strict=False):
        for name in names:
            mean = sum(one[name] for one in each[start : entry["step"]]) / (entry["step"] - start)
            assert entry[name] == pytest.approx(mean, rel=1e-5)


def test_a_game_that_goes_on_has_the_bits_of_one_that_never_stopped(tmp_path: Path) -> None:
    changes = {"lr": 0.1, "betas": (0.0, 0.99)}
    whole = Trainer(make_game(**changes), settings(), tmp_path / "whole", log_every=1)
    whole.run()
    first = Trainer(make_game(**changes), settings(), tmp_path / "parts")
    for _ in range(17):
        first.step()
    first._sums.clear()
    first.save()
    last = Trainer(make_game(**changes), settings(), tmp_path / "parts")
    assert last.done == 17
    assert same([*last.run().parameters()], [*whole.ema.module.parameters()])
    assert same(weights(last.task), weights(whole.task))


def test_the_average_is_of_all_players(tmp_path: Path) -> None:
    trainer = Trainer(make_game(), settings(ema=0.0), tmp_path)
    trainer.run()
    assert same([*trainer.ema.module.parameters()], weights(trainer.task))


@pytest.mark.parametrize("culprit", ["judge", "maker"])
def test_the_player_whose_loss_is_not_finite_is_named(tmp_path: Path, culprit: str) -> None:
    task = make_game(lr=0.3)
    players = [
        dataclasses.replace(player, loss=spoiled(player) if player.name == culprit else player.loss)
        for player in task.players
    ]
    bad = dataclasses.replace(task, loss=players)
    other = {"judge": "maker", "maker": "judge"}[culprit]
    with pytest.raises(
        DivergedError, match=rf"in steps 5 to 5 .*{culprit}_loss was nan and {culprit}_grad_norm"
    ) as caught:
        Trainer(bad, settings(), tmp_path, log_every=1).run()
    # In the same step the maker's loss is of a judge that has moved already, by a gradient that was nan.
    assert (f"{other}_loss" in str(caught.value)) == (culprit == "judge")
    assert "it is 0.3" in str(caught.value) if culprit == "judge" else "it is 0.02)" in str(caught.value)


def spoiled(player: Player):  # type: ignore[no-untyped-def]
    def loss(turn: Turn) -> dict[str, Tensor]:
        value = player.loss(turn)
        scalars = value if isinstance(value, dict) else {"loss": value}
        return {**scalars, "loss": scalars["loss"] * (float("nan") if turn.step == 4 else 1.0)}

    return loss


def test_a_scalar_that_is_not_finite_is_named_among_those_that_are(tmp_path: Path) -> None:
    task = make_task()
    good = task.loss
    bad = dataclasses.replace(task, loss=lambda turn: {"loss": good(turn), "odds": torch.tensor(float("inf"))})
    with pytest.raises(DivergedError, match=r"in steps 1 to 1 odds was inf; a smaller lr \(it is 0.02\)"):
        Trainer(bad, settings(), tmp_path, log_every=1).run()


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        (("error",), r"scalars with 'loss' among them; got \['error'\]"),
        ((), r"scalars with 'loss' among them; got \[\]"),
        (("loss", "step"), r"otherwise than lines of metrics do: got \['step'\]"),
        (("loss", "grad_norm", "lr"), r"got \['grad_norm', 'lr'\]"),
    ],
)
def test_scalars_without_a_loss_or_with_a_taken_name_are_refused(tmp_path: Path, scalars, message) -> None:  # type: ignore[no-untyped-def]
    task = make_task()
    good = task.loss
    bad = dataclasses.replace(task, loss=lambda turn: dict.fromkeys(scalars, good(turn)))
    with pytest.raises(ValueError, match=message):
        Trainer(bad, settings(), tmp_path).step()


def test_players_of_one_name_are_refused(tmp_path: Path) -> None:
    task = make_game()
    twins = [dataclasses.replace(player, name="twin") for player in task.players]
    with pytest.raises(ValueError, match=r"players must have different names, got \['twin', 'twin'\]"):
        Trainer(dataclasses.replace(task, loss=twins), settings(), tmp_path)


def test_a_game_can_be_won(tmp_path: Path) -> None:
    """The maker's samples end up about where the data are, which the first ones were not."""
    task = make_game(lr=0.05)
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    target = 1.0 + torch.randn(50, 2, generator=torch.Generator().manual_seed(7))

    def gap(maker) -> float:  # type: ignore[no-untyped-def]
        return float((maker(x).mean(0) - target.mean(0)).norm().detach())

    before = gap(task.module["maker"])
    average = Trainer(task, settings(steps=600, lr=0.01, betas=(0.0, 0.99)), tmp_path).run()
    assert gap(average["maker"]) < 0.4 < 1.0 < before
    assert F.softplus(torch.zeros(())) < read_metrics(tmp_path / METRICS)[-1]["judge_loss"] < 1.6


def test_training_needs_no_gradients_to_be_switched_on(tmp_path: Path) -> None:
    """A notebook may have switched them off for all its cells."""
    task, again = make_game(), make_game()
    with torch.no_grad():
        Trainer(task, settings(steps=3), tmp_path / "off").run(False)
    Trainer(again, settings(steps=3), tmp_path / "on").run(False)
    assert same(weights(task), weights(again))
