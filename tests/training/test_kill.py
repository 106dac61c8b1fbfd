"""A real process, killed for good at random moments, and the run that goes on from what it left."""

import random

import pytest
import torch
from processes import kill_on_the_way, start

from flowlib.training import checkpoint, read_metrics

STEPS = 600
SETTINGS = [
    f"--steps={STEPS}",
    *(f"--set={text}" for text in ("batch_size=32", "net.width=16", "net.depth=1", "precision=fp32")),
]


@pytest.mark.full
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_never_killed(tmp_path):
    draw = random.Random(0)
    whole = start("moons", tmp_path / "whole", *SETTINGS, fork=False)
    kill_on_the_way(
        lambda: start("moons", tmp_path / "killed", *SETTINGS, fork=False),
        tmp_path / "killed",
        stride=STEPS // 5,
        least=3,
        # A random moment: in a step, in a line of metrics, in a checkpoint.
        pause=lambda: 0.1 * draw.random(),
    )
    error = whole.communicate()[1]
    assert whole.returncode == 0, error.decode()
    a, b = (checkpoint.load(tmp_path / name / "checkpoints") for name in ("whole", "killed"))
    assert a.step == b.step == STEPS
    for one, other in ((a.weights, b.weights), (a.average, b.average)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    curves = [[(e["step"], e["loss"], e["lr"], e["grad_norm"]) for e in read_metrics(tmp_path / name / "metrics.jsonl")]
              for name in ("whole", "killed")]  # fmt: skip
    assert curves[0] == curves[1]
    assert (tmp_path / "killed" / "metrics.jsonl").read_text().endswith("\n")
