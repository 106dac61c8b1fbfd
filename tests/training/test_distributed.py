"""Two processes under torchrun: the same curve as one, one writer, and a run that goes on where it was stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import worker

from flowlib.training import checkpoint, read_metrics

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="the loopback interface is called lo on Linux"),
]

# Everything in float32, Muon's iterations too: in bfloat16 they turn a last bit into a thousandth within ten steps.
SETTINGS = ["precision=fp32", "net.channels=[8,16]", "batch_size=32"]
COMMON = ["train", "digits", "--steps", "50", "--log-every", "1", "--no-pictures"]
COMMON += [part for setting in SETTINGS for part in ("--set", setting)]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def start(processes, folder, *options):
    torchrun = [*TORCHRUN, str(processes), "-m"]
    command = [*(torchrun if processes > 1 else [sys.executable, "-m"]), "flowlib", *COMMON, "--out", str(folder)]
    return popen([*command, *options])


def popen(command, **options):
    # Some machines do not know their own name: gloo is told where to listen.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, **options)


def losses(folder):
    return torch.tensor([entry["loss"] for entry in read_metrics(folder / "metrics.jsonl")])


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_two_processes_train_as_one_go_on_after_a_stop_and_only_the_first_writes(tmp_path, optimiser):
    one, two, by = tmp_path / "one", tmp_path / "two", ("--set", f"optimiser={optimiser}")
    process = start(1, one, *by)
    assert process.wait(300) == 0, process.communicate()[1]
    process.communicate()

    process = start(2, two, *by, "--checkpoint-every", "5")
    while process.poll() is None and (checkpoint.latest_step(two / "checkpoints") or 0) < 10:
        time.sleep(0.01)
    process.terminate()  # torchrun takes its processes with it
    process.communicate()
    stopped_at = checkpoint.latest_step(two / "checkpoints")
    assert 10 <= stopped_at < 50

    process = start(2, two, *by, "--checkpoint-every", "5", "--resume")
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert f"going on from step {stopped_at} of 50" in error
    assert output.count("Trained digits for 50 steps") == 1  # one process speaks
    curves = losses(one), losses(two)
    assert len(curves[1]) == 50  # and one writes, or the lines would be twice as many
    assert (curves[0] - curves[1]).abs().max() <= 1e-4
    assert curves[0][-1] < 0.9 * curves[0][0]
    assert sorted(path.name for path in two.iterdir()) == ["checkpoints", "metrics.jsonl", "recipe.json"]


def test_a_batch_that_two_processes_cannot_share_is_refused(tmp_path):
    process = start(2, tmp_path, "--set", "batch_size=33")
    _, error = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "flowlib: batch_size must be a multiple of the 2 processes, got 33" in error


def heard() -> None:
    """A shell has what it starts in the background ignore Ctrl-C; not so the command that is tested."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_processes_that_a_command_has_started_end_with_it(tmp_path, number, status):
    process = popen([sys.executable, "-m", "flowlib", *COMMON, "--out", str(tmp_path), "--processes", "2",
                     "--steps", "100000", "--checkpoint-every", "5"],
                    start_new_session=True, preexec_fn=heard)  # fmt: skip
    while process.poll() is None and (checkpoint.latest_step(tmp_path / "checkpoints") or 0) < 10:
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    if number == signal.SIGTERM:
        process.terminate()
    else:
        os.killpg(process.pid, number)  # as Ctrl-C in a terminal
    error = process.communicate(timeout=60)[1]
    assert process.returncode == status, error
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The small tasks trained by two processes, in a folder."""
    folder = tmp_path_factory.mktemp("pair")
    process = popen([*TORCHRUN, "2", worker.__file__, str(folder)])
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return folder


@pytest.mark.parametrize("name", worker.TASKS)
def test_two_processes_follow_one_at_the_same_global_batch(pair, tmp_path, name):
    """A plain loss, a loss of the whole batch and two players: the same weights, losses and gradients in every step."""
    task = worker.train(name, tmp_path)
    for rank in range(2):
        state = torch.load(pair / f"{name}-{rank}.pt", weights_only=True)
        for key, expected in task.module.state_dict().items():
            assert (state[key] - expected).abs().max() <= 1e-5, key
    one, two = (read_metrics(folder / name / "metrics.jsonl") for folder in (tmp_path, pair))
    assert len(one) == len(two) == 30
    for a, b in zip(one, two, strict=True):
        scalars = a.keys() - {"seconds", "samples_per_second"}
        assert scalars == b.keys() - {"seconds", "samples_per_second"}
        assert {key: b[key] for key in scalars} == pytest.approx({key: a[key] for key in scalars}, rel=1e-4, abs=1e-6)
    # Nothing is equal for want of training.
    start, moved = worker.TASKS[name]().module.state_dict(), task.module.state_dict()
    assert all((moved[key] - start[key]).abs().max() > 0.05 for key in start)
