"""A system that stands on a finished one: it gets it frozen, and its run says so when that has changed or is gone."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowlib.cli import main
from flowlib.data import Dataset, Spec
from flowlib.recipes import Recipe, change, from_dict, override, to_dict
from flowlib.runs import RunError, evaluate_run, load_run, train
from flowlib.systems import SYSTEMS, Splits, Stage, register
from flowlib.systems.discovery import all_systems
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest
from flowlib.training import Task, Training, Turn


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A linear classifier of points."""

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        return nn.Linear(spec.shape[0], spec.classes)

    def stages(self, module: nn.Module, data: Dataset, parts: Parts) -> Sequence[Stage]:
        def loss(turn: Turn) -> Tensor:
            batch = data.batch(turn.mine)
            return nn.functional.cross_entropy(module(batch["x"]), batch["label"])

        return [Stage("read", Task(module, loss, len(data)))]

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        return [{"accuracy": float((module(data.test.images).argmax(1) == data.test.labels).double().mean())}]


@dataclass(frozen=True, kw_only=True)
class Copycat:
    """A linear map that learns what the part "reader" says, or moves points to where it says label 1."""

    parts: Mapping[str, str] = field(default_factory=dict)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        return nn.Linear(spec.shape[0], parts["reader"].out_features)

    def stages(self, module: nn.Module, data: Dataset, parts: Parts) -> Sequence[Stage]:
        reader = parts["reader"]
        assert not reader.training
        assert not any(parameter.requires_grad for parameter in reader.parameters())

        def loss(turn: Turn) -> Tensor:
            x = data.batch(turn.mine)["x"]
            return (module(x) - reader(x)).square().mean()

        return [Stage("copy", Task(module, loss, len(data)))]

    def sample(self, module: nn.Module, parts: Parts, request: SampleRequest) -> Tensor:
        return parts["reader"](torch.ones(request.count, 2))

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        return [{"gap": float((module(data.test.images) - parts["reader"](data.test.images)).square().mean())}]


@pytest.fixture(scope="module", autouse=True)
def _registry() -> Iterator[None]:
    before = dict(all_systems())
    register("toy-reader")(Reader)
    register("toy-copycat")(Copycat)
    yield
    SYSTEMS.clear()
    SYSTEMS.update(before)


FAST = Training(steps=60, batch_size=64, lr=0.05, ema=0.9, precision="fp32")


def reader(folder: Path, **changes: object) -> Path:
    recipe = Recipe(name="reader", data="moons", system=Reader(), training=FAST)
    train(change(recipe, **changes), folder, overwrite=True, pictures=False)
    return folder


def copycat(part: Path) -> Recipe:
    system = Copycat(parts={"reader": str(part)})
    return Recipe(name="copycat", data="moons", system=system, training=change_steps(FAST))


def change_steps(settings: Training) -> Training:
    return Training(**{**vars(settings), "steps": 200})


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    part = reader(tmp_path / "reader")
    train(copycat(part), tmp_path / "copycat", pictures=False)
    return part, tmp_path / "copycat"


def test_it_is_trained_against_the_part_and_loaded_with_it(pair: tuple[Path, Path]) -> None:
    part, folder = pair
    run, finished = load_run(folder), load_run(part)
    assert set(run.parts) == {"reader"}
    for name, value in finished.module.state_dict().items():
        assert torch.equal(run.parts["reader"].state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in run.parts["reader"].parameters())
    assert not run.parts["reader"].training
    (row,) = evaluate_run(run, samples=10)
    assert row["gap"] < 1e-2
    assert torch.equal(run.sample(count=3), finished.module(torch.ones(3, 2)))
    saved = json.loads((folder / "recipe.json").read_text())
    weights = part / "checkpoints" / "step-00000060" / "average.safetensors"
    latest = json.loads((part / "checkpoints" / "latest.json").read_text())
    assert saved["parts"] == {"reader": latest["sha256"][weights.name]}
    assert from_dict(saved["recipe"]) == run.recipe
    assert not {name for name in run.module.state_dict() if "reader" in name}  # the part is kept once, where it is


def test_a_part_with_other_weights_is_refused(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    part, folder = pair
    reader(part, seed=1)
    with pytest.raises(RunError, match=r"the part 'reader' of the run in .*copycat has other weights than when"):
        load_run(folder)
    with pytest.raises(RunError, match=r"the part 'reader' of the run in .*copycat has changed since"):
        train(copycat(part), folder, resume=True)
    assert main(["evaluate", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    reader(part)  # the same recipe, and so the same weights
    assert load_run(folder).step == 200
    assert train(change(copycat(part), steps=201), folder, resume=True, pictures=False).step == 201


def test_a_part_that_is_gone_or_damaged_is_named(pair: tuple[Path, Path]) -> None:
    part, folder = pair
    file = part / "checkpoints" / "step-00000060" / "average.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"the checkpoint is damaged: .*reader.*average.safetensors"):
        load_run(folder)
    shutil.rmtree(part)
    with pytest.raises(RunError, match=r"the part 'reader': .*reader holds no run: there is no .*recipe.json"):
        load_run(folder)
    with pytest.raises(RunError, match=r"the part 'reader': .*holds no run"):
        train(copycat(part), folder.parent / "new")
    assert not (folder.parent / "new").exists()


def test_another_folder_of_the_part_is_another_setting(pair: tuple[Path, Path]) -> None:
    part, folder = pair
    moved = shutil.copytree(part, part.with_name("moved"))
    recipe = override(copycat(part), [f"parts.reader={moved}"])
    assert recipe.system.parts == {"reader": str(moved)}  # type: ignore[attr-defined]
    assert from_dict(to_dict(recipe)) == recipe
    with pytest.raises(RunError, match=r"has parts.* = .*reader.* and cannot go on with .*moved"):
        train(recipe, folder, resume=True)
