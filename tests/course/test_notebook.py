"""What notebooks import: sources shown, trainings kept and resumed, hints that say more each time."""

import json
import re
from pathlib import Path

import pytest
import torch

import flowlib.course.notebook as notebook
from flowlib.data import Dataset
from flowlib.losses import flow_matching_loss
from flowlib.nets.mlp import MLP
from flowlib.paths import GaussianPath
from flowlib.recipes import Recipe
from flowlib.systems import FlowSystem
from flowlib.training import Training
from flowlib.training.trainer import Trainer

TINY = Recipe(
    name="tiny",
    data="moons",
    system=FlowSystem(net="mlp", net_args={"width": 8, "depth": 1}),
    training=Training(steps=40, batch_size=16),
)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOWLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(notebook, "fast", False)
    return tmp_path / "runs"


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained from now on."""
    steps: list[int] = []
    step = Trainer.step

    def counting(self: Trainer) -> None:
        step(self)
        steps.append(self.done)

    monkeypatch.setattr(Trainer, "step", counting)
    return steps


def test_a_source_is_shown_under_the_name_of_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    notebook.show_source(flow_matching_loss, GaussianPath.convert, MLP)
    said = capsys.readouterr().out
    assert "[`flowlib/losses.py`](../flowlib/losses.py)\n\n```python\ndef flow_matching_loss(" in said
    assert "```python\ndef convert(" in said
    assert "```python\nclass MLP(" in said


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others() -> None:
    first, again, other = (torch.rand(3, generator=notebook.seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("item", [torch.nn.Linear, 3, "flow_matching_loss"])
def test_only_the_library_is_shown(item: object) -> None:
    with pytest.raises(ValueError, match="objects must be functions or classes of flowlib"):
        notebook.show_source(item)


def test_a_run_is_trained_once(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    steps = count_steps(monkeypatch)
    first, second = notebook.trained(TINY), notebook.trained(TINY)
    assert steps == list(range(1, 41))
    assert first.step == second.step == 40
    assert torch.equal(first.sample(count=3), second.sample(count=3))
    assert re.fullmatch(r"(tiny: 40 steps, \d+ s of training\n)\1", capsys.readouterr().out)
    notebook.trained(TINY, lr=1e-4)
    assert len(steps) == 80
    assert len([path for path in runs.iterdir() if path.is_dir()]) == 2


def test_own_data_are_learned_and_a_run_on_them_is_found_by_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = count_steps(monkeypatch)
    x = torch.randn(50, 2, generator=notebook.seeded(0))

    def run(x: torch.Tensor) -> torch.Tensor:
        found = notebook.trained(TINY, data=Dataset(x, name="mine"), guided=False)
        assert found.recipe.data == "mine"
        return found.sample(count=3)

    first, again = run(x), run(x.clone())
    assert len(steps) == 40
    assert torch.equal(first, again)
    assert not torch.equal(run(x + 5), first)
    assert len(steps) == 80
    assert notebook.trained(TINY, data="circles", steps=1).recipe.data == "circles"


def test_an_interrupted_training_goes_on_to_the_same_bits(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, step = count_steps(monkeypatch), Trainer.step

    def interrupted(self: Trainer) -> None:
        step(self)
        if self.done == 25:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            notebook.trained(TINY)
    run = notebook.trained(TINY)
    assert steps == [*range(1, 26), *range(25, 41)]
    monkeypatch.setenv("FLOWLIB_RUNS", str(runs.with_name("others")))
    assert torch.equal(run.sample(count=3), notebook.trained(TINY).sample(count=3))


def test_a_damaged_run_is_trained_anew(runs: Path) -> None:
    notebook.trained(TINY)
    (weights,) = runs.rglob("average.safetensors")
    weights.write_bytes(b"damaged")
    assert notebook.trained(TINY).step == 40
    (recipe,) = runs.rglob("recipe.json")
    recipe.write_text("{")
    assert notebook.trained(TINY).step == 40


def test_fast_shortens_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "fast", True)
    assert notebook.resolve(TINY).training.steps == 20
    assert notebook.resolve(TINY, steps=5).training.steps == 5
    latent = notebook.resolve("mnist-latent")
    assert (latent.training.steps, latent.system.first_stage.steps) == (20, 20)


def test_a_recipe_is_changed_by_fields() -> None:
    recipe = notebook.resolve("digits", steps=7, net="mlp")
    assert (recipe.training.steps, recipe.system.net, dict(recipe.system.net_args)) == (7, "mlp", {})
    assert notebook.resolve("digits") == notebook.resolve(notebook.find_recipe("digits"))
    with pytest.raises(ValueError, match="stepz"):
        notebook.resolve("digits", stepz=7)
    with pytest.raises(ValueError, match="recipe must be one of"):
        notebook.resolve("no such recipe")


def test_hints_say_more_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hints").mkdir()
    (tmp_path / "hints/01_mean.json").write_text(json.dumps({"01.1": ["a", "b", "c"], "01.2": ["d", "e", "f"]}))
    monkeypatch.setattr(notebook, "files", lambda package: tmp_path)
    hint = notebook.exercise("01_mean").hint
    for question in ("01.1", "01.1", "01.2", "01.1", "01.1"):
        hint(question)
    said = capsys.readouterr().out.split("\n")[:-1]
    assert [line[-1] for line in said] == ["a", "b", "d", "c", "c"]
    assert said[1] == "**Hint 2 of 3.** b"
    with pytest.raises(ValueError, match=r"question must be one of .*01\.1.* got '01\.9'"):
        hint("01.9")
    with pytest.raises(ValueError, match=r"exercise must be one of .*01_mean"):
        notebook.exercise("07_mean")
