"""Going on with a run that has ended: with more steps, on the schedule of their number; and what is refused."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from flows import flow_recipe

from flowlib.cli import main
from flowlib.files import WriteError
from flowlib.recipes import change, override
from flowlib.runs import RunError, load_run, train
from flowlib.runs.places import held
from flowlib.systems import FirstStage
from flowlib.training import Trainer, read_metrics
from flowlib.training.checkpoint import CheckpointError, latest_step, load
from flowlib.training.distributed import World
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


def entry(**changes: object) -> dict[str, object]:
    hashes = dict.fromkeys(("weights.safetensors", "average.safetensors", "state.pt"), "0" * 64)
    return {"version": 1, "step": 4, "folder": "step-00000004", "sha256": hashes} | changes


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("checkpoints/latest.json", entry(step="4")),
        ("checkpoints/latest.json", entry(step=-3)),
        ("checkpoints/latest.json", entry(step=True)),
        ("checkpoints/latest.json", entry(folder=3)),
        ("checkpoints/latest.json", entry(folder="../elsewhere")),
        ("checkpoints/latest.json", entry(sha256="x")),
        ("checkpoints/latest.json", entry(sha256={})),
        ("checkpoints/latest.json", {"version": 1}),
        ("checkpoints/latest.json", []),
        ("metrics.jsonl", {"a": 1}),
        ("metrics.jsonl", {"step": "1"}),
        ("metrics.jsonl", [1]),
    ],
    ids=str,
)
def test_files_that_were_edited_by_hand_are_named_and_nothing_changes(
    ended: Path, capsys: pytest.CaptureFixture[str], file: str, content: object
) -> None:
    (ended / file).write_text(json.dumps(content) + "\n")
    before = {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    assert go_on(ended, "--steps", "9") == 2
    error = capsys.readouterr().err
    assert f"{ended / file} is damaged" in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("file", ["weights.safetensors", "average.safetensors", "state.pt"])
def test_a_damaged_file_whose_hash_was_edited_too_is_named(ended: Path, file: str) -> None:
    latest, content = ended / "checkpoints/latest.json", b"no tensors"
    told = json.loads(latest.read_text())
    (ended / "checkpoints" / told["folder"] / file).write_bytes(content)
    told["sha256"][file] = hashlib.sha256(content).hexdigest()
    latest.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"the checkpoint in .* is damaged"):
        load(ended / "checkpoints")


def test_a_checkpoint_beyond_the_last_step_is_refused(ended: Path) -> None:
    latest = ended / "checkpoints/latest.json"
    latest.write_text(json.dumps(json.loads(latest.read_text()) | {"step": 10**9}))
    with pytest.raises(RunError, match=r"damaged: its checkpoint is of step 1,000,000,000 of 4"):
        train(POINTS, ended, resume=True, pictures=False)


@pytest.mark.parametrize("parts", [[], None, "abc", {"clip": 3}])
def test_a_record_with_other_parts_than_hashes_is_named(ended: Path, parts: object) -> None:
    record = ended / "recipe.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"parts": parts}))
    with pytest.raises(RunError, match=r"recipe.json is damaged.*parts must be hashes by name"):
        load_run(ended)


def test_going_on_and_replacing_exclude_each_other(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go_on(ended, "--overwrite") == 2
    assert "resume and overwrite exclude each other" in capsys.readouterr().err
    with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
        train(POINTS, ended, resume=True, overwrite=True)
    assert load_run(ended).step == 4


def test_a_run_behind_a_link_is_replaced_and_what_the_link_names_stays(ended: Path, tmp_path: Path) -> None:
    (ended / "checkpoints").rename(tmp_path / "kept")
    (ended / "checkpoints").symlink_to(tmp_path / "kept", target_is_directory=True)
    other = change(POINTS, seed=5)
    run = train(other, ended, overwrite=True, pictures=False)
    train(other, tmp_path / "new", pictures=False)
    assert same(weights(ended), weights(tmp_path / "new"))
    assert not (ended / "checkpoints").is_symlink()
    assert latest_step(tmp_path / "kept") == 4 == run.step


def test_a_run_that_cannot_be_moved_away_stays_whole(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    rename, moved = os.rename, []

    def fails(source: Path, target: Path) -> None:
        if len(moved) == 1 and ".replaced" in str(target):
            raise PermissionError(13, "Permission denied")
        moved.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(WriteError, match="the run in it is intact"):
        train(POINTS, ended, overwrite=True, pictures=False)
    assert {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*") if path.is_file()} == before


def test_two_trainings_in_one_folder_are_refused(ended: Path) -> None:
    pytest.importorskip("fcntl")
    before = weights(ended)
    with held(ended), pytest.raises(RunError, match="another training is at work in"):
        train(change(POINTS, steps=9), ended, resume=True, pictures=False)
    assert same(weights(ended), before)
    assert load_run(ended).recipe.training.steps == 4
    train(change(POINTS, steps=9), ended, resume=True, pictures=False)
    assert load_run(ended).step == 9


def test_a_batch_that_processes_cannot_share_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share = World.share
    monkeypatch.setattr(World, "share", lambda world, size: share(World(0, 3), size))
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes"):
        train(POINTS, tmp_path / "run", pictures=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, PermissionError])
def test_a_run_whose_replacement_is_cut_is_put_back(
    ended: Path, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    before = {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    rename, moved = os.rename, []

    def cut(source: Path, target: Path) -> None:
        if len(moved) == 1:
            monkeypatch.setattr(os, "rename", rename)
            raise end
        moved.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", cut)
    with pytest.raises((KeyboardInterrupt, WriteError)):
        train(POINTS, ended, overwrite=True, pictures=False)
    assert {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*") if path.is_file()} == before
    (ended / ".replaced").mkdir()
    (ended / "checkpoints").rename(ended / ".replaced" / "checkpoints")  # as a process that was killed leaves it
    train(change(POINTS, seed=5), ended, overwrite=True, pictures=False)
    assert load_run(ended).recipe.training.seed == 5
    assert not (ended / ".replaced").exists()
