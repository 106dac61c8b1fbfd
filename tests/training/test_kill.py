"""A real process, killed for good at random moments, and the run that goes on from what it left."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from flowlib.training import checkpoint, read_metrics

SETTINGS = ["--set", "batch_size=32", "--set", "net.width=16", "--set", "net.depth=1", "--set", "precision=fp32"]
STEPS = 600


def start(folder):
    options = ["--steps", str(STEPS), "--checkpoint-every", "5", "--log-every", "7", "--no-pictures", "--resume"]
    command = [sys.executable, "-m", "flowlib", "train", "moons", "--out", str(folder), *options, *SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.full
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_never_killed(tmp_path):
    draw = random.Random(0)
    whole = start(tmp_path / "whole")
    killed_at = []
    while True:
        process = start(tmp_path / "killed")
        before = checkpoint_step(tmp_path / "killed")
        # Once it has made some progress, wait for a random moment: in a step, in a line of metrics, in a checkpoint.
        while process.poll() is None and checkpoint_step(tmp_path / "killed") <= before + STEPS // 5:
            time.sleep(0.01)
        time.sleep(0.1 * draw.random())
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        error = process.communicate()[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error.decode()
        killed_at.append(checkpoint_step(tmp_path / "killed"))
    assert len(killed_at) >= 3
    assert whole.wait() == 0, whole.stderr.read().decode()
    whole.stderr.close()
    a, b = (checkpoint.load(tmp_path / name / "checkpoints") for name in ("whole", "killed"))
    assert a.step == b.step == STEPS
    for one, other in ((a.weights, b.weights), (a.average, b.average)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    curves = [[(e["step"], e["loss"], e["lr"], e["grad_norm"]) for e in read_metrics(tmp_path / name / "metrics.jsonl")]
              for name in ("whole", "killed")]  # fmt: skip
    assert curves[0] == curves[1]
    assert (tmp_path / "killed" / "metrics.jsonl").read_text().endswith("\n")


def checkpoint_step(folder):
    return checkpoint.latest_step(folder / "checkpoints") or 0
