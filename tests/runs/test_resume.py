"""Going on with a run that has ended: with more steps, on the schedule of their number; and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from flows import flow_recipe

from flowlib.cli import main
from flowlib.recipes import change, override
from flowlib.runs import RunError, load_run, train
from flowlib.systems import FirstStage
from flowlib.training import Trainer, read_metrics
from flowlib.training.checkpoint import load
from flowlib.training.optimisers import learning_rate_factor

POINTS = flow_recipe(name="moons", data="moons", net="mlp", steps=4, net_args={"width": 8, "depth": 1}, warmup=0.5)
SMALL = ["--no-pictures", "--log-every", "1"]


def go_on(folder: Path, *options: str) -> int:
    return main(["train", "moons", "--out", str(folder), "--resume", *SMALL, *options])


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    train(POINTS, tmp_path / "run", pictures=False, log_every=1)
    return tmp_path / "run"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder / "checkpoints").weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_more_steps_follow_the_schedule_of_their_number(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, lines = weights(ended), read_metrics(ended / "metrics.jsonl")
    assert go_on(ended, "--steps", "10") == 0
    assert "Trained moons for 10 steps" in capsys.readouterr().out
    after = read_metrics(ended / "metrics.jsonl")
    assert after[:4] == lines
    assert [entry["step"] for entry in after] == list(range(1, 11))
    rates = [entry["lr"] / POINTS.training.lr for entry in after]
    assert rates[:4] == pytest.approx([learning_rate_factor(step, 4, 0.5) for step in range(4)])
    assert rates[4:] == pytest.approx([learning_rate_factor(step, 10, 0.5) for step in range(4, 10)])
    assert not same(weights(ended), before)
    run = load_run(ended)
    assert (run.step, run.recipe) == (10, change(POINTS, steps=10))


def test_a_run_that_is_cut_on_its_further_way_goes_on_to_the_same_bits(
    ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(POINTS, tmp_path / "other", pictures=False, log_every=1)
    more = change(POINTS, steps=9)
    train(more, tmp_path / "other", resume=True, pictures=False)

    class Cut(BaseException):
        pass

    step = Trainer.step

    def dying(self: Trainer) -> None:
        if self.done == 7:
            raise Cut
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(Cut):
            train(more, ended, resume=True, pictures=False, checkpoint_every=2)
    assert load_run(ended).step == 6
    assert go_on(ended) == 0  # without a number of steps: that of the last command
    assert same(weights(ended), weights(tmp_path / "other"))


def test_an_ended_run_without_more_steps_stays_as_it_is(ended: Path) -> None:
    before = weights(ended)
    assert go_on(ended) == 0
    assert go_on(ended, "--steps", "4") == 0
    assert same(weights(ended), before)
    assert len(read_metrics(ended / "metrics.jsonl")) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "3"], "has steps = 4 and cannot go on with 3: only with more"),
        (["--set", "lr=0.1"], "has lr = 0.002 and cannot go on with 0.1"),
        (["--set", "lr=0.1", "--steps", "9"], "has lr = 0.002 and cannot go on with 0.1"),
        (["--seed", "2"], "has seed = 0 and cannot go on with 2"),
        (["--data", "circles"], "has data = 'moons' and cannot go on with 'circles'"),
        (["--set", "net.width=16"], "has net_args = {'width': 8, 'depth': 1} and cannot go on with {'width': 16,"),
        (["--set", "predicts=v"], "has predicts = 'velocity' and cannot go on with 'v'"),
        (["--set", "name=other"], "has name = 'moons' and cannot go on with 'other'"),
    ],
)
def test_fewer_steps_and_other_settings_are_refused_by_name_in_one_line(
    ended: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    files = {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    assert go_on(ended, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()} == files


def test_an_earlier_stage_is_not_trained_again(tmp_path: Path) -> None:
    first = FirstStage(steps=3, batch_size=8, channels=8, factor=2)
    recipe = flow_recipe(steps=2, batch_size=8, first_stage=first, net_args={"channels": (8,), "depth": 1, "patch": 1})
    train(recipe, tmp_path, pictures=False)
    before = weights(tmp_path / "first_stage")
    run = train(change(recipe, steps=4), tmp_path, resume=True, pictures=False)
    assert run.step == 4
    assert same(weights(tmp_path / "first_stage"), before)
    assert len(read_metrics(tmp_path / "first_stage" / "metrics.jsonl")) == 3
    with pytest.raises(RunError, match=r"has first_stage = .*'steps': 3.* and cannot go on with .*'steps': 5"):
        train(override(recipe, ["first_stage.steps=5", "steps=4"]), tmp_path, resume=True)


def test_overwriting_leaves_nothing_of_the_run_before(tmp_path: Path) -> None:
    first = FirstStage(steps=1, batch_size=8, channels=8, factor=2)
    small = {"steps": 1, "batch_size": 8, "net_args": {"channels": (8,), "depth": 1, "patch": 1}}
    train(flow_recipe(first_stage=first, **small), tmp_path, pictures=False)
    mine = tmp_path / "mine" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    train(POINTS, tmp_path / "inner", pictures=False)  # a run of its own inside
    train(flow_recipe(**small), tmp_path, overwrite=True, pictures=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoints", "metrics.jsonl", "recipe.json", "mine", "inner"}
    assert mine.read_text() == "precious"
    assert load_run(tmp_path / "inner").step == 4


FLAT = {
    "name": "moons", "data": "moons", "net": "mlp", "net_args": {"width": 8}, "guided": True, "schedule": "linear",
    "steps": 4, "batch_size": 64, "lr": 2e-3, "first_stage": None,
}  # fmt: skip


@pytest.mark.parametrize("command", [["sample"], ["evaluate"], ["train", "moons", "--resume", "--out"]])
def test_a_run_of_an_older_flowlib_is_refused_with_one_line(
    ended: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    content = {"flowlib": "0.1.0", "recipe": FLAT, "shape": [2], "classes": 2}
    (ended / "recipe.json").write_text(json.dumps(content))
    assert main([*command, str(ended)]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert (
        "recipe.json is damaged, or of another version of flowlib: it has the flat settings of an older flowlib"
        in error
    )
    assert error.endswith("train it again\n")
