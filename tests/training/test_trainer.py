"""The trainer: it learns, goes on where it was to the bit, and says clearly why it stops."""

import dataclasses
import errno
import json
import os

import pytest
import torch
from small import make_task, settings

from flowlib.files import WriteError
from flowlib.training import CheckpointError, DivergedError, Trainer, read_metrics
from flowlib.training.trainer import CHECKPOINTS, METRICS


def curve(folder):
    """The metrics without what depends on the clock."""
    return [{k: v for k, v in entry.items() if k not in ("samples_per_second", "seconds")}
            for entry in read_metrics(folder / METRICS)]  # fmt: skip


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_writes_what_it_did(tmp_path):
    module = Trainer(make_task(), settings(steps=300, lr=0.05), tmp_path, log_every=50, checkpoint_every=120).run()
    entries = read_metrics(tmp_path / METRICS)
    assert [entry["step"] for entry in entries] == [50, 75, 100, 120, 150, 200, 225, 240, 250, 300]
    assert entries[-1]["loss"] < 0.02 < 1 < entries[0]["loss"]
    assert set(entries[0]) == {"step", "loss", "lr", "grad_norm", "samples_per_second", "seconds"}
    assert entries[0]["seconds"] < entries[-1]["seconds"]
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_run_that_goes_on_has_the_bits_of_one_that_never_stopped(tmp_path, optimiser, monkeypatch):
    recipe = settings(optimiser=optimiser)
    whole = Trainer(make_task(), recipe, tmp_path / "whole", log_every=3, checkpoint_every=7)
    expected = whole.run()

    class Killed(BaseException):
        pass

    step = Trainer.step
    for stop in (3, 11, 12, 30):  # before the first checkpoint, and between later ones

        def dying(self, stop=stop):
            if self.done == stop:
                raise Killed
            step(self)

        trainer = Trainer(make_task(), recipe, tmp_path / "parts", log_every=3, checkpoint_every=7)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", dying)
            with pytest.raises(Killed):
                trainer.run()
    last = Trainer(make_task(seed=9), recipe, tmp_path / "parts", log_every=3, checkpoint_every=7)
    assert last.done == 28
    assert same(last.run(), expected)
    assert same(last.task.module, whole.task.module)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_the_seed_decides_and_what_is_kept_does_not(tmp_path):
    first = Trainer(make_task(), settings(), tmp_path / "a").run()
    again = Trainer(make_task(), settings(), tmp_path / "b", log_every=11, checkpoint_every=40).run()
    other = Trainer(make_task(), settings(seed=1), tmp_path / "c").run()
    assert same(first, again)
    assert not same(first, other)


def test_training_leaves_the_global_generator_alone(tmp_path):
    before = torch.get_rng_state()
    task = make_task()
    torch.set_rng_state(before)
    Trainer(task, settings(), tmp_path).run()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_finished_run_is_returned_as_it_is(tmp_path):
    first = Trainer(make_task(), settings(), tmp_path).run()
    files = sorted(path.stat().st_mtime_ns for path in (tmp_path / CHECKPOINTS).rglob("*"))
    assert same(Trainer(make_task(seed=5), settings(), tmp_path).run(), first)
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / CHECKPOINTS).rglob("*")) == files


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_a_clear_error_and_the_last_checkpoint_is_from_before(tmp_path, value):
    task, calls = make_task(), iter(range(100))
    good = task.loss
    bad = dataclasses.replace(task, loss=lambda turn: good(turn) * (value if next(calls) == 25 else 1.0))
    with pytest.raises(DivergedError, match=r"in steps 26 to 26 .* smaller lr"):
        Trainer(bad, settings(), tmp_path, log_every=1, checkpoint_every=10).run()
    assert Trainer(make_task(), settings(), tmp_path).done == 20
    assert all(torch.isfinite(p).all() for p in Trainer(make_task(), settings(), tmp_path).task.module.parameters())


def test_a_full_disk_stops_with_a_clear_error_and_training_can_go_on(tmp_path, monkeypatch):
    expected = Trainer(make_task(), settings(), tmp_path / "whole", checkpoint_every=10).run()
    trainer, replace, calls = Trainer(make_task(), settings(), tmp_path / "full", checkpoint_every=10), os.replace, []

    def full(*args):
        calls.append(args)
        if len(calls) == 4:  # the journal's start and two checkpoints went through
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(WriteError, match=r"step 30 .*No space left.*last one is intact"):
            trainer.run()
    again = Trainer(make_task(), settings(), tmp_path / "full", checkpoint_every=10)
    assert again.done == 20
    assert same(again.run(), expected)


@pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX")
def test_a_disk_that_takes_no_more_bytes_is_a_clear_error(tmp_path):
    """The kernel itself refuses the write, half-way through a file."""
    import resource
    import signal

    Trainer(make_task(width=400), settings(steps=10), tmp_path, checkpoint_every=5)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        with pytest.raises(WriteError, match=r"checkpoint of step 5 cannot be written .* \(File too large\)"):
            Trainer(make_task(width=400), settings(steps=10), tmp_path, checkpoint_every=5).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / CHECKPOINTS).iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WriteError, match="cannot be written"):
        Trainer(make_task(), settings(), tmp_path / "run").run()


def test_a_checkpoint_of_another_network_or_version_is_refused(tmp_path):
    Trainer(make_task(), settings(), tmp_path).run()
    with pytest.raises(CheckpointError, match="another architecture: bias"):
        Trainer(make_task(width=3), settings(), tmp_path)
    path = tmp_path / CHECKPOINTS / "latest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(CheckpointError, match="version 2"):
        Trainer(make_task(), settings(), tmp_path)


def test_pictures_are_drawn_at_each_quarter_from_the_average(tmp_path):
    drawn = []
    trainer = Trainer(make_task(), settings(steps=42), tmp_path, illustrate=lambda net, step: drawn.append((net, step)))
    trainer.run()
    assert [step for _, step in drawn] == [11, 21, 32, 42]
    assert all(net is trainer.ema.module for net, _ in drawn)


def test_clipping_bounds_the_step_and_its_absence_does_not(tmp_path):
    for clip, moves in ((1e-9, False), (None, True)):
        # A second moment that remembers nothing makes Adam's step blind to the gradient's size, unless that is 1e-9.
        recipe = settings(clip=clip, steps=1, weight_decay=0.0, betas=(0.0, 0.0))
        trainer = Trainer(make_task(), recipe, tmp_path / str(clip))
        before = trainer.task.module.weight.detach().clone()
        trainer.step()
        change = (trainer.task.module.weight.detach() - before).abs().max()
        assert (change > 0.5 * recipe.lr) == moves


def test_a_task_without_an_end_of_data_sees_each_once_and_goes_on_where_it_was(tmp_path):
    task, seen = make_task(), []

    def loss(turn):
        seen.extend(turn.index.tolist())
        return task.module(torch.ones(1, 4)).square().sum()

    endless = dataclasses.replace(task, loss=loss, count=None)
    first = Trainer(endless, settings(steps=6), tmp_path)
    for _ in range(3):
        first.step()
    first._sums.clear()
    first.save()
    Trainer(endless, settings(steps=6), tmp_path).run()
    assert seen == list(range(48))


@pytest.mark.parametrize("name", ["log_every", "checkpoint_every"])
def test_intervals_are_checked(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        Trainer(make_task(), settings(), tmp_path, **{name: 0})
