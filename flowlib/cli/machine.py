"""How a command uses the processor: how many threads, and processes that share the work."""

import os
import signal
import socket
import subprocess
import sys
import time

INTERRUPTED = 130  # exit status
EACH = 8  # threads or processes a core, of which more are a mistake
PATIENCE = 10.0  # seconds that a process has to end by itself


class Interrupted(Exception):
    """Ctrl-C, and what is to be said of it; "" where that has been said."""


def speaks() -> bool:
    """Whether this process prints: of several that torchrun starts one does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def check_most(option: str, value: int) -> None:
    """A ValueError if so many threads or processes are more than the machine's cores can be meant to have."""
    most = EACH * (os.cpu_count() or 1)
    if value > most:
        raise ValueError(f"{option} must be at most {most}, {EACH} for each core, got {value}")


def set_threads(threads: int | None) -> None:
    """Compute with so many threads, whatever else the machine does; None leaves the number to torch and the trainer."""
    if threads is not None:
        check_most("--threads", threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def share_work(processes: int) -> int:
    """Start this very command in several processes that train together, as torchrun would; their exit status.

    When one of them fails, or this process is asked to end, the others are ended too.
    """
    check_most("--processes", processes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, "-m", "flowlib", *sys.argv[1:]]
    workers = [
        subprocess.Popen(command, env={**os.environ, **common, **threads, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    interrupted = False
    try:
        while _running(workers) and not any(worker.poll() for worker in workers):  # ended, and not well
            time.sleep(0.1)
    except KeyboardInterrupt:  # which the workers were sent too: one of them may wait for another for ever
        interrupted = True
        _wait(workers)
    finally:
        for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
            for worker in _running(workers):
                end(worker)
            _wait(workers)
    codes = [worker.wait() for worker in workers]
    return 130 if interrupted else next((code for code in codes if code > 0), max(map(abs, codes)))


def _running(workers: list["subprocess.Popen[bytes]"]) -> list["subprocess.Popen[bytes]"]:
    return [worker for worker in workers if worker.poll() is None]


def _wait(workers: list["subprocess.Popen[bytes]"]) -> None:
    """Wait until all have ended, but not longer than PATIENCE."""
    end = time.monotonic() + PATIENCE
    while _running(workers) and time.monotonic() < end:
        time.sleep(0.05)
