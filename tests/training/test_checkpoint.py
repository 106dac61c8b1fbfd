"""Checkpoints: whole or not at all, whenever the process dies, and refused by name when they are damaged."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from flowlib.files import WriteError, check_place, write_whole
from flowlib.training import checkpoint
from flowlib.training.checkpoint import Checkpoint, CheckpointError, latest_step, load, load_average, load_weights, save
from flowlib.training.journal import Journal, read_metrics


def make(step: int) -> Checkpoint:
    """A checkpoint whose every part tells its step."""
    value = torch.full((3, 2), float(step))
    return Checkpoint(step, {"w": value, "b": value[0]}, {"w": value, "b": value[0]}, {"n": step, "states": [value]})


def step_of(found: Checkpoint) -> int:
    """The step of a checkpoint, if all its parts are from the same."""
    parts = {found.step, found.state["n"], int(found.weights["w"][0, 0]), int(found.average["b"][0])}
    parts.add(int(found.state["states"][0][0, 0]))
    assert len(parts) == 1
    return parts.pop()


def test_what_is_saved_comes_back_and_older_ones_go(tmp_path):
    assert latest_step(tmp_path) is None
    for step in (1, 2, 30):
        save(tmp_path, make(step))
        assert step_of(load(tmp_path)) == step == latest_step(tmp_path)
    assert load_average(tmp_path)[0] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.json", "step-00000030"]
    save(tmp_path, make(30))  # a run that was finished already
    assert step_of(load(tmp_path)) == 30


def test_a_process_that_dies_at_any_moment_leaves_the_last_checkpoint_or_the_new_one(tmp_path, monkeypatch):
    """Die before each call that touches the disk, one after the other."""

    class Died(BaseException):  # no handler of the library sees it, as it would not see a SIGKILL
        pass

    calls, die_at = 0, -1

    def fatal(function):
        def wrapped(*args, **kwargs):
            nonlocal calls
            if calls == die_at:
                raise Died
            calls += 1
            return function(*args, **kwargs)

        return wrapped

    save(tmp_path / "model", make(1))
    with monkeypatch.context() as patch:
        for owner, name in [(os, "fsync"), (os, "replace"), (os, "open"), (Path, "rename"), (Path, "mkdir"),
                            (shutil, "rmtree"), ("builtins", "open")]:  # fmt: skip
            if owner == "builtins":
                patch.setattr("builtins.open", fatal(open))
            else:
                patch.setattr(owner, name, fatal(getattr(owner, name)))
        outcomes = []
        while True:
            folder = tmp_path / f"die-{die_at}"
            shutil.copytree(tmp_path / "model", folder)
            calls, die_at = 0, len(outcomes)
            try:
                save(folder, make(2))
            except Died:
                die_at = -1
                outcomes.append(step_of(load(folder)))
                calls = 0
                save(folder, make(3))  # and the next one goes through, over whatever was left behind
                assert step_of(load(folder)) == 3
                assert sorted(path.name for path in folder.iterdir()) == ["latest.json", "step-00000003"]
            else:
                break
            finally:
                die_at, calls = -1, 0
                shutil.rmtree(folder)
    assert len(outcomes) > 10
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {1, 2}


@pytest.mark.parametrize("file", ["weights.safetensors", "average.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_damage_is_noticed_and_named(tmp_path, file, damage):
    save(tmp_path, make(5))
    path = tmp_path / "step-00000005" / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[-9] ^= 1
        path.write_bytes({"truncated": content[:-7], "flipped": content, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=f"damaged: .*{file}"):
        load(tmp_path)


def test_a_checkpoint_of_another_version_or_none_at_all_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        load(tmp_path)
    save(tmp_path, make(1))
    path = tmp_path / checkpoint.LATEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(CheckpointError, match="has version 99; this flowlib reads version 1"):
        load(tmp_path)
    for content in ("", "{", "[]", "{}"):
        path.write_text(content)
        with pytest.raises(CheckpointError, match="damaged"):
            latest_step(tmp_path)


def test_weights_of_another_architecture_are_named(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    load_weights(nn.Linear(2, 3), weights, tmp_path)
    with pytest.raises(CheckpointError, match=r"another architecture: weight is \(3, 2\) in it, and \(3, 4\)"):
        load_weights(nn.Linear(4, 3), weights, tmp_path)
    with pytest.raises(CheckpointError, match=r"bias is \(3,\) in it, and absent"):
        load_weights(nn.Linear(2, 3, bias=False), weights, tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_full_disk_is_a_clear_error_that_leaves_the_last_checkpoint(tmp_path, monkeypatch, call):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "mkdir") if call == "mkdir" else (os, call)), full)
        with pytest.raises(WriteError, match=r"step 1 cannot be written .*No space left on device.*none before it"):
            save(tmp_path, make(1))
    save(tmp_path, make(1))
    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "mkdir") if call == "mkdir" else (os, call)), full)
        with pytest.raises(WriteError, match=r"step 2 cannot be written .*No space left on device.*last one is intact"):
            save(tmp_path, make(2))
    assert step_of(load(tmp_path)) == 1
    save(tmp_path, make(3))
    assert step_of(load(tmp_path)) == 3


def test_a_whole_file_is_replaced_whole_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(WriteError, match=r"file cannot be written \(Read-only file system\)"):
            write_whole(path, b"three")
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"two"
    with pytest.raises(WriteError, match="cannot be written"):
        write_whole(path / "below", b"a file is no folder")


def test_a_journal_goes_on_after_the_step_of_the_checkpoint_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, 0)
    for step in (1, 2, 3):
        journal.write({"step": step, "loss": 0.1 * step})
    with open(path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2, 3]
    Journal(path, 2).write({"step": 3, "loss": 0.3})
    assert read_metrics(path) == [{"step": step, "loss": 0.1 * step} for step in (1, 2)] + [{"step": 3, "loss": 0.3}]
    path.write_text("no json\n")
    with pytest.raises(ValueError, match="damaged"):
        read_metrics(path)


def test_where_no_file_can_be_put_is_told_before(tmp_path):
    for name in ("a" * 250 + ".png", "字" * 83 + ".png"):
        write_whole(check_place(tmp_path / name[: 255 // len(name[0].encode()) - 4]), b"as long as names may be")
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / ("a" * 300), tmp_path / "file" / "b.png"):
        with pytest.raises(WriteError, match="cannot be written"):
            check_place(bad)
    assert check_place(tmp_path / "new" / "folder" / "a.png") == tmp_path / "new" / "folder" / "a.png"
    assert len(list(tmp_path.iterdir())) == 3  # and nothing is left of the trial
