"""The command line in processes of their own, which a test may kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from forked import CONTEXT, Forked, flowlib

from flowlib.training import checkpoint

Process = subprocess.Popen[bytes] | Forked


def command(*words: str, fork: bool = True, **environment: str) -> Process:
    """`flowlib WORDS` on one thread: forked where the system forks and nothing is against it, or started anew."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    if fork and CONTEXT:
        return Forked(flowlib, words, own)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "flowlib", *words], env=own, stdout=pipe, stderr=pipe)


def start(name: str, folder: Path, *options: str, fork: bool = True, **environment: str) -> Process:
    """`flowlib train NAME`, going on with what lies in the folder; a checkpoint every five steps."""
    often = ["--checkpoint-every", "5", "--log-every", "7", "--no-pictures", "--resume"]
    return command("train", name, "--out", str(folder), *often, *options, fork=fork, **environment)


def step_of(folder: Path) -> int:
    """The step of the latest checkpoint of a run, 0 for none."""
    return checkpoint.latest_step(folder / "checkpoints") or 0


def kill_on_the_way(
    begin: Callable[[], Process],
    folder: Path,
    *,
    stride: int,
    least: int,
    most: int | None = None,
    pause: Callable[[], float] = lambda: 0.0,
) -> int:
    """Begin a run, kill it for good each time it has come `stride` steps further, and begin it again until it ends.

    A short run may end before this process, beside others, has looked at it: fewer than `least` kills are tried anew.

    Args:
        begin: starts the process that goes on with what lies in the folder.
        folder: of the run.
        stride: steps from where the run went on to where it is killed.
        least: fewest kills that will do.
        most: kills after which it is left alone; None for no bound.
        pause: seconds to wait after the stride, drawn anew for each kill.

    Returns:
        How often the run was killed.

    Raises:
        AssertionError: if the process ends by itself with an error, or too early in each of ten attempts.
    """
    for _ in range(10):
        shutil.rmtree(folder, ignore_errors=True)
        if (kills := _kills(begin, folder, stride, most, pause)) >= least:
            return kills
    raise AssertionError(f"in ten attempts the run ended before it was killed {least} times")


def _kills(
    begin: Callable[[], Process],
    folder: Path,
    stride: int,
    most: int | None,
    pause: Callable[[], float],
) -> int:
    kills = 0
    while True:
        process, before = begin(), step_of(folder)
        while process.poll() is None and (kills == most or step_of(folder) <= before + stride):
            time.sleep(0.01)
        time.sleep(pause())
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        error = process.communicate()[1]
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, error.decode()
        kills += 1
