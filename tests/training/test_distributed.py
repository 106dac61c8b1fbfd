"""Two processes under torchrun: the same curve as one, one writer, and a run that goes on where it was stopped."""

import os
import subprocess
import sys
import time

import pytest
import torch

from flowlib.training import checkpoint, read_metrics

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="the loopback interface is called lo on Linux"),
]

# Everything in float32: Muon's bfloat16 iterations would turn a last bit into a thousandth within ten steps.
SETTINGS = ["precision=fp32", "optimiser=adamw", "net.channels=[8,16]", "batch_size=32"]
COMMON = ["train", "digits", "--steps", "50", "--log-every", "1", "--no-pictures"]
COMMON += [part for setting in SETTINGS for part in ("--set", setting)]


def start(processes, folder, *options):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [*(torchrun if processes > 1 else [sys.executable, "-m"]), "flowlib", *COMMON, "--out", str(folder)]
    # Some machines do not know their own name: gloo is told where to listen.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *options], env=environment, stdout=pipe, stderr=pipe, text=True)


def losses(folder):
    return torch.tensor([entry["loss"] for entry in read_metrics(folder / "metrics.jsonl")])


def test_two_processes_train_as_one_go_on_after_a_stop_and_only_the_first_writes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    process = start(1, one)
    assert process.wait(300) == 0, process.communicate()[1]
    process.communicate()

    process = start(2, two, "--checkpoint-every", "5")
    while process.poll() is None and (checkpoint.latest_step(two / "checkpoints") or 0) < 10:
        time.sleep(0.01)
    process.terminate()  # torchrun takes its processes with it
    process.communicate()
    stopped_at = checkpoint.latest_step(two / "checkpoints")
    assert 10 <= stopped_at < 50

    process = start(2, two, "--checkpoint-every", "5", "--resume")
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
