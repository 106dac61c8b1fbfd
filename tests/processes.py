"""The command line in processes of their own, which a test may kill."""

import os
import subprocess
import sys
from pathlib import Path

from flowlib.training import checkpoint


def start(name: str, folder: Path, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
    """`flowlib train NAME` on one thread, going on with what lies in the folder; a checkpoint every five steps."""
    often = ["--checkpoint-every", "5", "--log-every", "7", "--no-pictures", "--resume"]
    command = [sys.executable, "-m", "flowlib", "train", name, "--out", str(folder), *often, *options]
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def step_of(folder: Path) -> int:
    """The step of the latest checkpoint of a run, 0 for none."""
    return checkpoint.latest_step(folder / "checkpoints") or 0
